"""What a published model tells about its run: settings and figures, no row of the data, no path.

What may be told is listed, not what may not: something new in a run stays at home until somebody
has decided that it may go.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from medtune.recipe import Recipe
from medtune.run import Run

FOLDER = "medtune"
"""The folder of a pushed repository that holds the run's recipe, manifest and results."""

_MANIFEST = ("created", "python", "platform", "packages", "hardware", "training", "threads")
_RESULTS = (
    "base", "tuned", "delta", "deployed", "gate", "test_rows", "contamination", "floor", "faults",
    "condition_matches", "urgency_confusion", "safety", "decoding", "bleu_signature",
    "definitions", "seconds",
)  # fmt: skip
_DATA_CARD = (
    "rows_read", "rows", "dropped", "funnel", "identifiers", "language", "groups", "largest_group",
    "tokens", "token_histogram", "overlong", "system_turn", "labels", "input_fingerprint",
    "fingerprint", "version", "tokenizer",
)  # fmt: skip
_LONGEST_PATH = 255


def write_facts(run: Run, folder: Path) -> None:
    """Recipe, manifest, training and, where there are any, metrics, results and data card."""
    folder.mkdir()
    recipe = run.recipe()
    (folder / "recipe.yaml").write_text(public_recipe(recipe).to_yaml(), encoding="utf-8")
    manifest = run.read_json(run.manifest_file)
    facts: dict[str, Any] = {
        "manifest.json": _only(manifest, _MANIFEST),
        "training.json": run.read_json(run.training_file),
    }
    if "data" in manifest:
        fingerprint = manifest["data"].get("fingerprint")
        facts["manifest.json"]["data"] = {"source": data_name(recipe), "fingerprint": fingerprint}
    if run.results_file.exists():
        results = run.read_json(run.results_file)
        facts["results.json"] = _only(results, _RESULTS)
        if "benchmarks" in results:
            facts["results.json"]["benchmarks"] = _figures(results["benchmarks"])
    if run.card_json.exists():
        card = _only(run.read_json(run.card_json), _DATA_CARD)
        facts["data_card.json"] = {"source": data_name(recipe), **card}
    if run.metrics_file.exists():
        shutil.copyfile(run.metrics_file, folder / "metrics.jsonl")
    for name, value in facts.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def public_recipe(recipe: Recipe) -> Recipe:
    """The recipe with the name of a file or folder wherever it has a path."""
    return Recipe.model_validate(_without_paths(recipe.model_dump()))


def base_name(recipe: Recipe) -> str:
    """The base for readers elsewhere: a Hub id, or the name of a folder without its path."""
    base = recipe.model.base
    if base == "embedded":
        return "the embedded base of Medtune (9.6 million parameters, a demonstration)"
    return without_path(base)


def data_sources(recipe: Recipe) -> list[str]:
    """As the recipe names them."""
    return [part.source for part in recipe.data.mixture] or [recipe.data.source]


def data_name(recipe: Recipe) -> str:
    """The data for readers elsewhere: Hub ids, and names of files without their paths."""
    return " + ".join(without_path(source) for source in data_sources(recipe))


def hub_data(recipe: Recipe) -> list[str]:
    """Those sources of the data that are on the Hub."""
    return [
        source
        for source in data_sources(recipe)
        if not source.startswith("builtin:")
        and source.count("/") == 1
        and not Path(source).suffix
        and without_path(source) == source
    ]


def without_path(text: str) -> str:
    """The last part of a path of this machine; any other text as it is."""
    if not text or "\n" in text or len(text) > _LONGEST_PATH:
        return text
    if text.startswith(("/", "./", "../", "~")) or Path(text).exists():
        return Path(text).name
    return text


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_paths(one) for one in value]
    return without_path(value) if isinstance(value, str) else value


def _only(facts: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: facts[name] for name in names if name in facts}


def _figures(value: Any) -> Any:
    """Numbers under their names; questions, answers and file names are left out."""
    if isinstance(value, dict):
        return {k: _figures(v) for k, v in value.items() if not isinstance(v, str | list)}
    return value

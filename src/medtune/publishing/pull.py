"""A run from the Hub: ``hub:owner/name`` becomes a run folder that chat and serve can open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from medtune.data.prepare import prepare
from medtune.errors import MedtuneError
from medtune.hub import fetch
from medtune.model.load import load_tokenizer
from medtune.publishing.facts import FOLDER
from medtune.recipe import ModelSection, Recipe
from medtune.run import Run, whole

PREFIX = "hub:"


def run_from_hub(address: str, runs: Path) -> Run:
    """The run of a pushed adapter, fetched anew if the Hub has a newer one.

    An adapter that another program made works too, if its base is on the Hub.

    Args:
        address: ``hub:owner/name``, with ``@revision`` at the end if wanted.
        runs: the folder that holds the runs; it gets one named ``hub--owner--name``.

    Raises:
        MedtuneError: there is no such repository, no access, no network and no copy, or it holds
            no adapter.
    """
    repo_id, _, revision = address.removeprefix(PREFIX).partition("@")
    if repo_id.count("/") != 1:
        raise MedtuneError(f"{address!r} is no address; write hub:owner/name.", exit_code=2)
    snapshot = fetch(repo_id, "model", revision or "main")
    config = snapshot / "adapter_config.json"
    if not config.is_file():
        raise MedtuneError(_no_adapter(repo_id, snapshot))
    run = Run(runs / ("hub--" + repo_id.replace("/", "--")))
    recipe = _recipe(snapshot, run.name, config)
    with whole(run.adapter) as part:
        part.mkdir()
        for file in snapshot.iterdir():
            if file.is_file() and file.name != "README.md":
                shutil.copy2(file, part / file.name)  # its age tells whether a GGUF is current
    for name, target in (
        ("manifest.json", run.manifest_file),
        ("training.json", run.training_file),
        ("metrics.jsonl", run.metrics_file),
    ):
        if (snapshot / FOLDER / name).is_file():
            run.write_text(target, (snapshot / FOLDER / name).read_text(encoding="utf-8"))
    run.keep(with_own_template(recipe, run.adapter))
    return run


def with_own_template(recipe: Recipe, adapter: Path) -> Recipe:
    """The recipe with the chat template that came with the adapter, if it was a file of its maker."""
    template = adapter / "chat_template.jinja"
    if recipe.model.chat_template == "auto" or not template.is_file():
        return recipe
    model = recipe.model.model_copy(update={"chat_template": str(template)})
    return recipe.model_copy(update={"model": model})


def prepare_same_rows(recipe: Recipe, run: Run, say: Callable[[str], None]) -> None:
    """Make the rows of a run from the Hub anew, for an evaluation.

    Raises:
        MedtuneError: the source is not here, or has other rows than the model was trained on, so
            that test questions may be among those it has seen.
    """
    told = run.read_json(run.manifest_file).get("data", {}) if run.manifest_file.exists() else {}
    prepare(recipe.data, run, load_tokenizer(recipe.model), say)
    made = run.read_json(run.card_json)["fingerprint"]
    if told.get("fingerprint") not in (None, made):
        shutil.rmtree(run.card_json.parent)
        raise MedtuneError(
            f"{recipe.data.source} has other rows now than {run.name} was trained on, so its test "
            "questions may be among those; evaluate with the data of the training."
        )


def _recipe(snapshot: Path, name: str, config: Path) -> Recipe:
    from medtune.recipe import load_recipe

    told = snapshot / FOLDER / "recipe.yaml"
    if told.is_file():
        return load_recipe(told).model_copy(update={"name": name})
    base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise MedtuneError("The adapter does not name its base, so it cannot be loaded.")
    return Recipe(name=name, model=ModelSection(base=base))


def _no_adapter(repo_id: str, snapshot: Path) -> str:
    names = [path.name for path in snapshot.iterdir()]
    if any(name.endswith(".gguf") for name in names):
        return (
            f"{repo_id} holds a GGUF file; run it with llama.cpp: `llama-cli -hf {repo_id}`, or push "
            "the adapter to chat with it here."
        )
    if "config.json" in names:
        return (
            f"{repo_id} holds a whole model, not an adapter; serve it with `vllm serve {repo_id}`, or "
            f"name it as a base: model.base={repo_id}."
        )
    return f"{repo_id} holds no adapter: adapter_config.json is missing."

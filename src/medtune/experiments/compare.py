"""Several evaluated runs side by side: a table for the terminal and a page that holds it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from medtune.errors import MedtuneError
from medtune.evaluation.measure import LOWER_IS_BETTER, SAFETY
from medtune.evaluation.pictures import curves_side_by_side, rate_bars
from medtune.evaluation.report import LABELS, LEVEL_NAMES, RATES, shown, verdict
from medtune.evaluation.wording import word_changes
from medtune.run import Run, whole
from medtune.training.callbacks import read_metrics

_SAMPLES = 5
_COLOURS = ("#0b6e63", "#8a8f98", "#b4632d", "#4059a6", "#7d4f8c")


@dataclass(frozen=True)
class Column:
    """One run: what was trained and what came of it."""

    name: str
    base: str
    method: str
    settings: str
    seconds: float
    peak_gib: float
    passed: bool
    verdict: str
    fingerprint: str
    results: dict[str, Any]
    card: dict[str, Any]
    manifest: dict[str, Any]
    log: list[dict[str, Any]]
    """The lines of ``metrics.jsonl``."""
    answers: dict[str, dict[str, str]]
    """By test row: question, reference and the tuned model's answer."""


@dataclass(frozen=True)
class Comparison:
    columns: tuple[Column, ...]
    same_rows: bool
    """All runs were prepared from the same rows, so their figures can be held against each other."""

    def lines(self) -> list[dict[str, Any]]:
        """A line for each metric: its label and a cell for each run, the best one marked."""
        found: list[dict[str, Any]] = []
        for name, label in LABELS.items():
            scores = [column.results["tuned"].get(name) for column in self.columns]
            values = [score["value"] for score in scores if score]
            if not values:
                continue
            best = (min if name in LOWER_IS_BETTER else max)(values)
            cells = [
                {
                    "value": shown(name, score["value"]),
                    "ci": " to ".join(shown(name, bound) for bound in score["ci"]),
                    "n": score["n"],
                    "base": shown(name, column.results["base"][name]["value"]),
                    "best": len(values) > 1 and score["value"] == best,
                }
                if score
                else None
                for score, column in zip(scores, self.columns, strict=True)
            ]
            found.append({"label": label, "cells": cells})
        return found

    def samples(self, count: int) -> list[dict[str, Any]]:
        """Questions that all runs answered, drawn at random, with every run's answer."""
        shared = set.intersection(*(set(column.answers) for column in self.columns))
        chosen = Random(0).sample(sorted(shared), min(count, len(shared)))
        first = self.columns[0].answers
        return [
            {
                "question": first[id]["question"],
                "reference": first[id]["reference"],
                "answers": [(column.name, column.answers[id]["tuned"]) for column in self.columns],
            }
            for id in chosen
        ]


def compare(runs: Sequence[Run]) -> Comparison:
    """Read the results of several runs.

    Raises:
        MedtuneError: there are fewer than two different runs, or one is not evaluated.
    """
    if len({run.folder.resolve() for run in runs}) < 2:
        raise MedtuneError("Name at least two different runs to compare.", exit_code=2)
    columns = tuple(_column(run) for run in runs)
    return Comparison(columns, len({column.fingerprint for column in columns}) == 1)


def write_page(comparison: Comparison, path: Path) -> Path:
    """Write the comparison as one self-contained HTML page, and its figures as Markdown beside it."""
    sides = {one.name: one.results["tuned"] for one in comparison.columns}
    logs = {one.name: one.log for one in comparison.columns if one.log}
    values = {
        "comparison": comparison,
        "lines": comparison.lines(),
        "samples": comparison.samples(_SAMPLES),
        "safety": _safety(comparison),
        "levels": LEVEL_NAMES,
        "word_changes": word_changes,
        "curves": curves_side_by_side(logs) if logs else "",
        "bars": rate_bars(
            sides,
            {name: LABELS[name] for name in RATES},
            dict(zip(sides, cycle(_COLOURS), strict=False)),
        ),
    }
    for template, place in (("compare.html.j2", path), ("compare.md.j2", path.with_suffix(".md"))):
        text = _rendered(template, values)
        with whole(place) as part:
            part.write_text(text, encoding="utf-8")
    return path


def _rendered(template: str, values: dict[str, Any]) -> str:
    from jinja2 import Environment

    text = resources.files("medtune.experiments").joinpath(template).read_text(encoding="utf-8")
    html = template.endswith(".html.j2")
    made = Environment(autoescape=html, trim_blocks=True, lstrip_blocks=True).from_string(text)
    return made.render(**values)


def _safety(comparison: Comparison) -> list[dict[str, Any]]:
    """The measures of safety with the safety layer: what people would meet in each run."""
    found: list[dict[str, Any]] = []
    for name in SAFETY:
        sides = [
            c.results.get("deployed", {}).get("tuned", {}).get(name) for c in comparison.columns
        ]
        if any(sides):
            cells = [
                f"{shown(name, one['value'])} ({' to '.join(shown(name, b) for b in one['ci'])})"
                if one
                else "–"
                for one in sides
            ]
            found.append({"label": LABELS[name], "cells": cells})
    return found


def _answers(run: Run) -> dict[str, dict[str, str]]:
    from pyarrow import parquet

    if not run.answers_file.exists():
        return {}
    columns = ["id", "question", "reference", "tuned"]
    rows = parquet.read_table(run.answers_file, columns=columns).to_pylist()
    return {str(row["id"]): row for row in rows}


def _column(run: Run) -> Column:
    run.require(
        run.results_file,
        f"The run {run.name!r} has not been evaluated; start with `medtune evaluate {run.name}`.",
    )
    recipe, results = run.recipe(), run.read_json(run.results_file)
    trained = run.read_json(run.training_file)
    adapter, training = recipe.adapter, recipe.training
    method = (
        adapter.method if adapter.method == "none" else f"{adapter.method}, rank {adapter.rank}"
    )
    if recipe.model.quantization != "none":
        method += f", {recipe.model.quantization}"
    card = run.read_json(run.card_json) if run.card_json.exists() else {}
    return Column(
        name=run.name,
        base=recipe.model.base,
        method="all weights" if adapter.method == "none" else method,
        settings=f"lr {training.learning_rate:g}, batch {training.batch_size} × "
        f"{training.gradient_accumulation}, {training.epochs:g} epochs",
        seconds=trained["seconds"],
        peak_gib=trained["peak_memory_bytes"] / 2**30,
        passed=results["gate"]["passed"],
        verdict=verdict(results),
        fingerprint=card.get("fingerprint", run.name),
        results=results,
        card=card,
        manifest=run.read_json(run.manifest_file) if run.manifest_file.exists() else {},
        log=read_metrics(run.metrics_file),
        answers=_answers(run),
    )

"""Several evaluated runs side by side: a table for the terminal and a page that holds it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from medtune.errors import MedtuneError
from medtune.evaluation.measure import LOWER_IS_BETTER
from medtune.evaluation.report import LABELS, shown, verdict
from medtune.run import Run, whole


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
    """Write the comparison as one self-contained HTML page."""
    from jinja2 import Environment

    text = (
        resources.files("medtune.experiments")
        .joinpath("compare.html.j2")
        .read_text(encoding="utf-8")
    )
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    html = page.render(comparison=comparison, lines=comparison.lines())
    with whole(path) as part:
        part.write_text(html, encoding="utf-8")
    return path


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
    )

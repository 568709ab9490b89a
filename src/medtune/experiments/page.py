"""The sweep's page: the table and every training's curves side by side, in one file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from medtune.evaluation.pictures import curves_side_by_side
from medtune.evaluation.report import shown
from medtune.experiments.sweep import SCORES, Experiment, Sweep, sweep_logs
from medtune.run import Run
from medtune.training.callbacks import read_metrics

COLUMNS = (
    "experiment",
    "learning rate",
    "batch",
    "accumulation",
    "effective batch",
    "epochs",
    "train loss",
    "validation loss",
    "perplexity",
    "BLEU",
    "ROUGE-L",
    "memory",
    "minutes",
    "other settings",
)


def cells(row: Experiment) -> list[str]:
    """The table's row as people read it; a score with its 95% interval in brackets."""
    scores = []
    for name in SCORES:
        score = row.scores.get(name)
        if score is None:
            scores.append("not measured")
            continue
        low, high = (shown(name, bound) for bound in score["ci"])
        scores.append(f"{shown(name, score['value'])} ({low} to {high})")
    return [
        row.run,
        f"{row.learning_rate:g}",
        str(row.batch),
        str(row.accumulation),
        str(row.effective_batch),
        f"{row.epochs:g}",
        f"{row.train_loss:.3f}",
        f"{row.validation_loss:.3f}",
        *scores,
        f"{row.memory_bytes / 2**30:.2f} GiB",
        f"{row.minutes:.1f}",
        ", ".join(f"{key}={_shown(value)}" for key, value in row.others.items()),
    ]


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def verdict(result: Sweep) -> str:
    """Who won, by what, and what the test split says of it."""
    row = next((row for row in result.experiments if row.run == result.winner), None)
    if row is None:
        return "No experiment came to an end."
    names = {"perplexity": "perplexity", "bleu": "BLEU", "rouge_l": "ROUGE-L"}
    said = [
        f"{names[name]} {shown(name, score['value'])} "
        f"({shown(name, score['ci'][0])} to {shown(name, score['ci'][1])}, n = {score['n']})"
        for name, score in row.scores.items()
    ]
    if not said:
        return f"{row.run} has the lowest validation loss ({row.validation_loss:.3f})."
    return (
        f"{row.run} has the lowest validation loss ({row.validation_loss:.3f}). "
        f"On the test rows, which had no say in the choice: {', '.join(said)}."
    )


def write_page(run: Run, result: Sweep) -> Path:
    """Write ``report/index.html`` of the sweep and return its path."""
    from jinja2 import Environment

    template = (
        resources.files("medtune.experiments").joinpath("sweep.html.j2").read_text(encoding="utf-8")
    )
    logs = {name: read_metrics(path) for name, path in sweep_logs(run, result).items()}
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    html = page.render(
        name=run.name,
        verdict=verdict(result),
        columns=COLUMNS,
        rows=[(row.run == result.winner, cells(row)) for row in result.experiments],
        failed=result.failed,
        pruned=result.pruned,
        curves=curves_side_by_side(logs) if logs else "",
        recipe=run.recipe_file.read_text(encoding="utf-8"),
    )
    run.write_text(run.report_file, html)
    return run.report_file

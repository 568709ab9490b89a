"""``sweep``: every experiment of a recipe, one process each, and the table that compares them.

An experiment is a run of its own, beside the sweep's: it can be evaluated, chatted with and
pushed like any other.  What is finished is not done again, so a sweep that was interrupted goes
on where it stopped.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medtune.errors import MedtuneError
from medtune.recipe import Recipe
from medtune.run import SPLITS, Run, whole

SCORES = ("perplexity", "bleu", "rouge_l")


@dataclass(frozen=True)
class Experiment:
    """A row of the table.  Losses are nats per trained token."""

    run: str
    learning_rate: float
    batch: int
    accumulation: int
    epochs: float
    train_loss: float
    validation_loss: float
    scores: dict[str, dict[str, Any]]
    """On the test split: perplexity, BLEU and ROUGE-L with value, interval and n."""
    memory_bytes: int
    minutes: float

    @property
    def effective_batch(self) -> int:
        return self.batch * self.accumulation


@dataclass(frozen=True)
class Sweep:
    """What a sweep came to."""

    experiments: tuple[Experiment, ...]
    winner: str | None
    """The run with the lowest validation loss; the test split had no say."""
    failed: dict[str, str]
    """Runs that did not come to an end, with the last thing they said."""


def sweep(recipe: Recipe, run: Run, say: Callable[[str], None] = print) -> Sweep:
    """Train and evaluate every experiment, each in its own process.

    Args:
        recipe: with ``experiments``.
        run: the sweep's own; gets ``recipe.yaml``, ``sweep.json`` and ``report/index.html``.  The
            experiments are runs beside it.
        say: told what begins, how it ended, and about how long the rest will take.

    Raises:
        MedtuneError: the recipe has no experiments, or it was interrupted.
    """
    wanted = experiments_of(recipe)
    run.keep(recipe)
    failed: dict[str, str] = {}
    took: list[float] = []
    for number, settings in enumerate(wanted, 1):
        one = Run(run.folder.parent / settings.name)
        if is_finished(settings, one):
            say(f"Experiment {number} of {len(wanted)}, {one.name}: done before.")
            continue
        left = sum(took) / len(took) * (len(wanted) - number + 1) / 60 if took else None
        about = "" if left is None else f" (about {left:.0f} minutes left for all)"
        say(f"Experiment {number} of {len(wanted)}, {one.name}{about}")
        started = time.perf_counter()
        reason = _carry_out(settings, one, others_of(wanted, one))
        if reason is None:
            took.append(time.perf_counter() - started)
        else:
            failed[one.name] = reason
            say(f"{one.name} failed: {reason}")
    return summarise(recipe, run, failed)


def experiments_of(recipe: Recipe) -> list[Recipe]:
    """The recipe of every experiment.

    Raises:
        MedtuneError: there is none.
    """
    wanted = recipe.each_experiment()
    if not wanted:
        raise MedtuneError(
            "The recipe has no experiments; list them, for example "
            "`experiments: [{name: slow, training.learning_rate: 1.0e-5}, {name: fast, ...}]`."
        )
    return wanted


def is_finished(settings: Recipe, run: Run) -> bool:
    """Whether the run was trained and evaluated with these very settings."""
    return (
        _was_made_with(settings, run) and run.training_file.exists() and run.results_file.exists()
    )


def summarise(recipe: Recipe, run: Run, failed: dict[str, str]) -> Sweep:
    """The table of what is finished, written to ``sweep.json``."""
    rows = []
    for settings in recipe.each_experiment():
        one = Run(run.folder.parent / settings.name)
        if one.name not in failed and is_finished(settings, one):
            rows.append(_row(settings, one))
    best = min(rows, key=lambda row: _number(row.validation_loss), default=None)
    result = Sweep(tuple(rows), None if best is None else best.run, failed)
    run.write_json(
        run.sweep_file,
        {
            **asdict(result),
            "experiments": [
                {**asdict(row), "effective_batch": row.effective_batch} for row in rows
            ],
        },
    )
    run.write_manifest()
    return result


def _carry_out(settings: Recipe, run: Run, others: list[Run]) -> str | None:
    """Train and evaluate in processes of their own; what went wrong, or None."""
    begin(settings, run, others)
    if not run.training_file.exists():
        reason = _medtune(run, "train", str(run.recipe_file), "--resume")
        if reason is not None:
            return reason
    return _medtune(run, "evaluate", str(run.folder))


def _medtune(run: Run, *arguments: str) -> str | None:
    """Run a command; its progress goes to the terminal, its last error into the answer."""
    process = subprocess.Popen(
        [sys.executable, "-m", "medtune", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if not sys.stderr.isatty() else None,
        text=True,
    )
    try:
        _, errors = process.communicate()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C reached it too: it saves its step
        raise MedtuneError(
            f"The sweep was interrupted in {run.name}; the same command goes on from there."
        ) from None
    if process.returncode == 0:
        return None
    said = [line for line in (errors or "").splitlines() if line.startswith("medtune: ")]
    if said:
        return said[-1].removeprefix("medtune: ")
    return f"`medtune {arguments[0]}` ended with {process.returncode}; try it alone to see why"


def _was_made_with(settings: Recipe, run: Run) -> bool:
    try:
        return run.recipe_file.exists() and run.recipe() == settings
    except MedtuneError:
        return False


def others_of(wanted: list[Recipe], run: Run) -> list[Run]:
    """The runs of the other experiments, which lie beside it."""
    beside = run.folder.parent
    return [Run(beside / settings.name) for settings in wanted if settings.name != run.name]


def begin(settings: Recipe, run: Run, others: list[Run]) -> None:
    """Make the experiment's run, unless it was begun with these settings; equal rows are shared."""
    if not _was_made_with(settings, run):
        shutil.rmtree(run.folder, ignore_errors=True)
        run.keep(settings)
        _share_rows(settings, run, others)


def _share_rows(settings: Recipe, run: Run, others: list[Run]) -> None:
    """Copy the rows of an experiment with the same data and base: they would come out equal."""
    for other in others:
        there = other.card_json.exists() and all(other.split_file(s).exists() for s in SPLITS)
        if not there:
            continue
        made_with = other.recipe()
        if (made_with.data, made_with.model) == (settings.data, settings.model):
            with whole(run.data_folder) as part:
                shutil.copytree(other.data_folder, part)
            return


def _row(settings: Recipe, run: Run) -> Experiment:
    training, results = run.read_json(run.training_file), run.read_json(run.results_file)
    section = settings.training
    return Experiment(
        run=run.name,
        learning_rate=section.learning_rate,
        batch=section.batch_size,
        accumulation=section.gradient_accumulation,
        epochs=section.epochs,
        train_loss=training["train_loss"],
        validation_loss=training["validation_loss"],
        scores={name: results["tuned"][name] for name in SCORES if name in results["tuned"]},
        memory_bytes=training["peak_memory_bytes"],
        minutes=training["seconds"] / 60,
    )


def _number(loss: float) -> float:
    """A loss that is no number comes last."""
    return loss if math.isfinite(loss) else math.inf


def sweep_logs(run: Run, result: Sweep) -> dict[str, Path]:
    """The training log of every finished experiment, by its run."""
    return {row.run: Run(run.folder.parent / row.run).metrics_file for row in result.experiments}

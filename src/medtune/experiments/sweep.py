"""``sweep``: every experiment of a recipe, one process each, and the table that compares them.

An experiment is a run of its own, beside the sweep's: it can be evaluated, chatted with and
pushed like any other, and so is every trial of a search.  What is finished is not done again, so
a sweep that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medtune.errors import MedtuneError
from medtune.experiments.alone import evaluate_alone, together, train_alone, was_made_with
from medtune.experiments.search import Trials, search
from medtune.recipe import Recipe
from medtune.run import Run

SCORES = ("perplexity", "bleu", "rouge_l")
_IN_COLUMNS = (
    "name",
    "training.learning_rate",
    "training.batch_size",
    "training.gradient_accumulation",
    "training.epochs",
)


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
    """On the test split: perplexity, BLEU and ROUGE-L with value, interval and n.  Of a search
    only the winner has them."""
    memory_bytes: int
    minutes: float
    others: dict[str, Any] = field(default_factory=dict)
    """Settings in which it differs that have no column of their own, by dotted key."""

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
    pruned: dict[str, str] = field(default_factory=dict)
    """Trials of a search that were ended early, with the reason."""


def sweep(recipe: Recipe, run: Run, say: Callable[[str], None] = print) -> Sweep:
    """Train every experiment and every trial, each in its own process.

    Experiments are evaluated on the test split one and all; of a search the winner alone is.

    Args:
        recipe: with ``experiments``, ``search``, or both.
        run: the sweep's own; gets ``recipe.yaml``, ``sweep.json`` and ``report/index.html``.  The
            experiments are runs beside it.
        say: told what begins, how it ended, and about how long the rest will take.

    Raises:
        MedtuneError: the recipe has nothing to try, or it was interrupted.
    """
    require_something(recipe)
    run.keep(recipe)
    with together():
        failed = _experiments(recipe, run, say)
        trials = search(recipe, run, say) if recipe.search.space else None
        return conclude(recipe, run, failed, trials, evaluate_alone, say)


def require_something(recipe: Recipe) -> None:
    """
    Raises:
        MedtuneError: the recipe has neither experiments nor a search.
    """
    if not recipe.experiments and not recipe.search.space:
        raise MedtuneError(
            "The recipe has no experiments; list them, for example "
            "`experiments: [{name: slow, training.learning_rate: 1.0e-5}, {name: fast, ...}]`, or say "
            "where to search: `search: {space: {training.learning_rate: {low: 1.0e-5, high: 1.0e-3, "
            "log: true}}}`."
        )


def conclude(
    recipe: Recipe,
    run: Run,
    failed: dict[str, str],
    trials: Trials | None,
    evaluate: Callable[[Run], str | None],
    say: Callable[[str], None],
) -> Sweep:
    """The table, after the winner was evaluated if it is a trial: experiments are already.

    Args:
        recipe: of the sweep.
        run: the sweep's own.
        failed: experiments that went wrong, with the reason.
        trials: what the search came to, if there was one.
        evaluate: evaluates a run; returns what went wrong in a sentence, or None.
        say: told what went wrong.
    """
    result = summarise(recipe, run, failed, trials)
    if result.winner is not None:
        winner = Run(run.folder.parent / result.winner)
        if not winner.results_file.exists():
            reason = evaluate(winner)
            if reason is not None:
                say(f"{winner.name} could not be evaluated: {reason}")
            result = summarise(recipe, run, failed, trials)
    return result


def _experiments(recipe: Recipe, run: Run, say: Callable[[str], None]) -> dict[str, str]:
    """Train and evaluate what is not finished; what went wrong, by run."""
    wanted = recipe.each_experiment()
    runs = [Run(run.folder.parent / settings.name) for settings in wanted]
    failed: dict[str, str] = {}
    took: list[float] = []
    for number, (settings, one) in enumerate(zip(wanted, runs, strict=True), 1):
        if is_finished(settings, one):
            say(f"Experiment {number} of {len(wanted)}, {one.name}: done before.")
            continue
        left = sum(took) / len(took) * (len(wanted) - number + 1) / 60 if took else None
        about = "" if left is None else f" (about {left:.0f} minutes left for all)"
        say(f"Experiment {number} of {len(wanted)}, {one.name}{about}")
        started = time.perf_counter()
        others = [other for other in runs if other.name != one.name]
        reason = train_alone(settings, one, others) or evaluate_alone(one)
        if reason is None:
            took.append(time.perf_counter() - started)
        else:
            failed[one.name] = reason
            say(f"{one.name} failed: {reason}")
    return failed


def is_finished(settings: Recipe, run: Run) -> bool:
    """Whether the run was trained and evaluated with these very settings."""
    return was_made_with(settings, run) and run.training_file.exists() and run.results_file.exists()


def summarise(
    recipe: Recipe, run: Run, failed: dict[str, str], trials: Trials | None = None
) -> Sweep:
    """The table of what is finished, written to ``sweep.json``."""
    rows = []
    for settings, changes in zip(recipe.each_experiment(), recipe.experiments, strict=True):
        one = Run(run.folder.parent / settings.name)
        if one.name not in failed and is_finished(settings, one):
            rows.append(_row(settings, one, changes))
    if trials is not None:
        failed = {**failed, **trials.failed}
        rows += [
            _row(settings, Run(run.folder.parent / settings.name), changes)
            for settings, changes in trials.finished
        ]
    best = min(rows, key=lambda row: _number(row.validation_loss), default=None)
    result = Sweep(
        experiments=tuple(rows),
        winner=None if best is None else best.run,
        failed=failed,
        pruned={} if trials is None else trials.pruned,
    )
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


def _row(settings: Recipe, run: Run, changes: dict[str, Any]) -> Experiment:
    training, section = run.read_json(run.training_file), settings.training
    tuned = run.read_json(run.results_file)["tuned"] if run.results_file.exists() else {}
    return Experiment(
        run=run.name,
        learning_rate=section.learning_rate,
        batch=section.batch_size,
        accumulation=section.gradient_accumulation,
        epochs=section.epochs,
        train_loss=training["train_loss"],
        validation_loss=training["validation_loss"],
        scores={name: tuned[name] for name in SCORES if name in tuned},
        memory_bytes=training["peak_memory_bytes"],
        minutes=training["seconds"] / 60,
        others={key: value for key, value in changes.items() if key not in _IN_COLUMNS},
    )


def _number(loss: float) -> float:
    """A loss that is no number comes last."""
    return loss if math.isfinite(loss) else math.inf


def sweep_logs(run: Run, result: Sweep) -> dict[str, Path]:
    """The training log of every finished experiment, by its run."""
    return {row.run: Run(run.folder.parent / row.run).metrics_file for row in result.experiments}

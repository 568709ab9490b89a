"""``sweep --cluster``: what ``medtune sweep`` tries, side by side, as tasks of Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from medtune.data.prepare import is_prepared, prepare
from medtune.errors import MedtuneError
from medtune.evaluation.evaluate import evaluate
from medtune.evaluation.report import write_report
from medtune.experiments.alone import begin
from medtune.experiments.search import Attempt, Search, Trials
from medtune.experiments.sweep import Sweep, conclude, is_finished, require_something
from medtune.model.load import load_tokenizer
from medtune.recipe import ClusterSection, Recipe
from medtune.run import Run
from medtune.training.train import train

_LOOK_EVERY = 0.5
"""Seconds between two looks at trials that may be stopped."""


def sweep(recipe: Recipe, run: Run, say: Callable[[str], None] = print) -> Sweep:
    """Train every experiment and every trial, as many at a time as the cluster has room for.

    What died with its process or node is tried again ``cluster.failures`` times, from its last
    checkpoint; the others do not notice.  Each runs in one process with
    ``cluster.resources_per_worker``.

    Args:
        recipe: with ``experiments``, ``search``, or both.
        run: the sweep's own, on a disk that all nodes see, as are the runs beside it.
        say: told what begins and how it ended.

    Raises:
        MedtuneError: the recipe has nothing to try, one thing fits on no node, the rows of something
            cannot be prepared, or Optuna is not installed.
    """
    require_something(recipe)
    _room(recipe.cluster)
    run.keep(recipe)
    failed = _experiments(recipe, run, say)
    trials = _search(recipe, run, say) if recipe.search.space else None

    def evaluated(winner: Run) -> str | None:
        return _outcome(_start(recipe.cluster, measure, winner.recipe(), winner))

    return conclude(recipe, run, failed, trials, evaluated, say)


def _experiments(recipe: Recipe, run: Run, say: Callable[[str], None]) -> dict[str, str]:
    """Train and evaluate what is not finished; what went wrong, by run."""
    wanted = recipe.each_experiment()
    runs = [Run(run.folder.parent / settings.name) for settings in wanted]
    running: dict[Any, Run] = {}
    for settings, one in zip(wanted, runs, strict=True):
        if is_finished(settings, one):
            say(f"{one.name}: done before.")
            continue
        _make_ready(settings, one, [other for other in runs if other.name != one.name])
        running[_start(recipe.cluster, carry_out, settings, one)] = one
        say(f"{one.name}: waits for its turn.")
    failed: dict[str, str] = {}
    while running:
        (done,), _ = ray.wait(list(running))
        one = running.pop(done)
        reason = _outcome(done)
        if reason is not None:
            failed[one.name] = reason
        how = "done" if reason is None else f"failed: {reason}"
        say(f"{one.name}: {how} ({len(running)} left).")
    return failed


def _search(recipe: Recipe, run: Run, say: Callable[[str], None]) -> Trials:
    section = recipe.cluster
    search = Search(recipe, run, say, at_once=_room(section))
    running: dict[Any, Attempt] = {}
    while True:
        while len(running) < _room(section) and (attempt := search.next()) is not None:
            try:
                _make_ready(attempt.settings, attempt.run, attempt.others)
            except MedtuneError as error:
                attempt.ended(str(error))
                continue
            running[_start(section, learn, attempt.settings, attempt.run)] = attempt
        if not running:
            return search.summary()
        for done in ray.wait(list(running), timeout=_LOOK_EVERY)[0]:
            running.pop(done).ended(_outcome(done))
        for task, attempt in list(running.items()):
            if attempt.stop():
                ray.cancel(task, force=True)  # nothing of it is wanted any more
                ray.wait([task])
                running.pop(task).pruned()


def _room(section: ClusterSection) -> int:
    """How many processes the nodes have room for.

    Raises:
        MedtuneError: for none.  Ray would wait without end.
    """
    asked = {name: each for name, each in section.resources_per_worker.items() if each}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = [
        min((int(node.get(n, 0) // each) for n, each in asked.items()), default=1) for node in nodes
    ]
    if not any(fits):
        needed = ", ".join(f"{each:g} {name}" for name, each in asked.items())
        raise MedtuneError(
            f"One experiment needs {needed}, and no node of the cluster has {needed}; "
            "lower cluster.resources_per_worker."
        )
    return sum(fits)


def _make_ready(settings: Recipe, run: Run, others: list[Run]) -> None:
    begin(settings, run, others)
    tokenizer = load_tokenizer(settings.model)
    if not is_prepared(settings.data, run, tokenizer):
        prepare(settings.data, run, tokenizer)


def _start(
    section: ClusterSection, what: Callable[[Recipe, Path], str | None], settings: Recipe, run: Run
) -> Any:
    resources = dict(section.resources_per_worker)
    # A process of its own for each: memory and seed are not those of an earlier one.
    task: Any = ray.remote(max_calls=1)(what)
    return task.options(
        name=run.name,
        num_cpus=resources.pop("CPU", 0),
        num_gpus=resources.pop("GPU", 0),
        resources=resources,
        max_retries=section.failures,
    ).remote(settings, run.folder.resolve())


def _outcome(task: Any) -> str | None:
    """What went wrong in a sentence, or None."""
    try:
        return ray.get(task)
    except RayError as error:
        return f"its process died each time: {str(error).splitlines()[0]}"


def carry_out(settings: Recipe, folder: Path) -> str | None:
    """Train and evaluate one experiment; returns the sentence of what went wrong, or None."""
    return learn(settings, folder) or measure(settings, folder)


def learn(settings: Recipe, folder: Path) -> str | None:
    """Train in this process, from where an earlier attempt came to."""
    run = Run(folder)
    try:
        if not run.training_file.exists():
            train(settings, run, resume=True)
    except MedtuneError as error:
        return str(error)
    return None


def measure(settings: Recipe, folder: Path) -> str | None:
    """Evaluate in this process, and write the report."""
    run = Run(folder)
    try:
        evaluate(settings, run)
        write_report(run)
    except MedtuneError as error:
        return str(error)
    return None

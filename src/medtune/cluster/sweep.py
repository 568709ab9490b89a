"""``sweep --cluster``: the experiments of ``medtune sweep`` side by side, as tasks of Ray."""

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
from medtune.experiments.sweep import Sweep, is_finished, summarise
from medtune.model.load import load_tokenizer
from medtune.recipe import Recipe
from medtune.run import Run
from medtune.training.train import train


def sweep(recipe: Recipe, run: Run, say: Callable[[str], None] = print) -> Sweep:
    """Train and evaluate every experiment, as many at a time as the cluster has room for.

    An experiment whose process or node dies is tried again ``cluster.failures`` times, from its last
    checkpoint; the others do not notice.  Each runs in one process with
    ``cluster.resources_per_worker``.

    Args:
        recipe: with ``experiments``.
        run: the sweep's own, on a disk that all nodes see, as are the experiments beside it.
        say: told what begins and how it ended.

    Raises:
        MedtuneError: the recipe has no experiments or asks for a search, or the rows of one cannot be prepared.
    """
    wanted = recipe.each_experiment()
    if not wanted or recipe.search.space:
        raise MedtuneError(
            "On a cluster `sweep` carries out a list of experiments: give `experiments: "
            "[{name: slow, training.learning_rate: 1.0e-5}, ...]`; a `search:` runs without "
            "--cluster, one trial after the other."
        )
    run.keep(recipe)
    runs = [Run(run.folder.parent / settings.name) for settings in wanted]
    running: dict[Any, Run] = {}
    for settings, one in zip(wanted, runs, strict=True):
        if is_finished(settings, one):
            say(f"{one.name}: done before.")
            continue
        begin(settings, one, [other for other in runs if other.name != one.name])
        tokenizer = load_tokenizer(settings.model)
        if not is_prepared(settings.data, one, tokenizer):
            prepare(settings.data, one, tokenizer)
        running[_task(recipe, one).remote(settings, one.folder.resolve())] = one
        say(f"{one.name}: waits for its turn.")
    failed: dict[str, str] = {}
    while running:
        (done,), _ = ray.wait(list(running))
        one = running.pop(done)
        try:
            reason = ray.get(done)
        except RayError as error:
            reason = f"its process died each time: {str(error).splitlines()[0]}"
        if reason is not None:
            failed[one.name] = reason
        how = "done" if reason is None else f"failed: {reason}"
        say(f"{one.name}: {how} ({len(running)} left).")
    return summarise(recipe, run, failed)


def _task(recipe: Recipe, run: Run) -> Any:
    section = recipe.cluster
    resources = dict(section.resources_per_worker)
    # A process of its own for each: memory and seed are not those of an earlier one.
    return ray.remote(max_calls=1)(carry_out).options(
        name=run.name,
        num_cpus=resources.pop("CPU", 0),
        num_gpus=resources.pop("GPU", 0),
        resources=resources,
        max_retries=section.failures,
    )


def carry_out(settings: Recipe, folder: Path) -> str | None:
    """Train and evaluate one experiment in this process, from where an earlier attempt came to.

    Returns:
        The sentence of what went wrong, or None.
    """
    run = Run(folder)
    try:
        if not run.training_file.exists():
            train(settings, run, resume=True)
        evaluate(settings, run)
        write_report(run)
    except MedtuneError as error:
        return str(error)
    return None

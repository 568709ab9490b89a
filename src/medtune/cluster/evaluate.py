"""``evaluate --cluster``: answers and losses from many copies of the model at once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util import ActorPool

from medtune.evaluation.evaluate import evaluate as measure
from medtune.evaluation.voices import Kind, Voices, Who
from medtune.model.load import load_tokenizer
from medtune.recipe import Recipe
from medtune.run import Run


def evaluate(recipe: Recipe, run: Run) -> dict[str, Any]:
    """Measure base and tuned, the model's work spread over ``cluster.workers`` actors.

    A batch whose worker died is done again by its successor.

    Args:
        recipe: the whole recipe.
        run: prepared and trained, on this machine; the workers are sent the trained weights.  A
            local base must lie at the same path on all nodes.

    Raises:
        MedtuneError: as ``medtune evaluate`` does.
    """
    actors = Actors(recipe, run)
    try:
        return measure(recipe, run, actors)
    finally:
        actors.close()


class Actors:
    """Voices on the cluster; started when the first batch is there."""

    def __init__(self, recipe: Recipe, run: Run) -> None:
        self._recipe, self._run = recipe, run
        self._actors: list[Any] = []
        self._made_with: tuple[Any, ...] = ()

    def compute(
        self, who: Who, kind: Kind, batches: Sequence[list[Any]]
    ) -> Iterator[tuple[int, list[Any]]]:
        pool: Any = ActorPool(self._started(len(batches)))
        yield from pool.map_unordered(
            lambda actor, given: actor.values.remote(who, kind, *given), list(enumerate(batches))
        )

    def _started(self, batches: int) -> list[Any]:
        if not self._actors:
            section = self._recipe.cluster
            resources = dict(section.resources_per_worker)
            kind = ray.remote(Voice).options(
                num_cpus=resources.pop("CPU", 0),
                num_gpus=resources.pop("GPU", 0),
                resources=resources,
                max_restarts=section.failures,
                max_task_retries=section.failures,
                scheduling_strategy="SPREAD",
            )
            # Held here: an actor that starts again reads what it was made with once more.
            self._made_with = ray.put(self._recipe), ray.put(_files_of(self._run))
            workers = max(1, min(section.workers, batches))
            self._actors = [kind.remote(*self._made_with) for _ in range(workers)]
        return self._actors

    def close(self) -> None:
        for actor in self._actors:
            ray.wait([actor.close.remote()], timeout=5)
            ray.kill(actor)


class Voice:
    """One copy of the model, on some node."""

    def __init__(self, recipe: Recipe, weights: dict[str, bytes]) -> None:
        self._folder = tempfile.mkdtemp(prefix="medtune-")
        for name, content in weights.items():
            path = Path(self._folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        run = Run(Path(self._folder))
        run.keep(recipe)
        self._voices = Voices(recipe, run, load_tokenizer(recipe.model))

    def values(self, who: Who, kind: Kind, number: int, batch: list[Any]) -> tuple[int, list[Any]]:
        """The values of one batch, with its number."""
        ((_, values),) = self._voices.compute(who, kind, [batch])
        return number, values

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _files_of(run: Run) -> dict[str, bytes]:
    """The trained weights by their paths in the run."""
    return {
        str(path.relative_to(run.folder)): path.read_bytes()
        for folder in (run.adapter, run.full_model)
        for path in folder.glob("*")
        if path.is_file()
    }

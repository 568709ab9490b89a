"""What a worker of Ray Train does: train in a run folder of its own, and hand over what it has."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import ray.train
from pyarrow.fs import PyFileSystem
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medtune.cluster.storage import copy
from medtune.errors import MedtuneError
from medtune.recipe import Recipe
from medtune.run import Run
from medtune.training.callbacks import losses_said
from medtune.training.checkpoints import best_of
from medtune.training.train import rank, train

ROWS = "rows"
"""Where in the training's folder in the storage the prepared rows lie."""


@dataclass(frozen=True)
class Work:
    """What every worker is told."""

    recipe: Recipe
    files: PyFileSystem
    home: str
    """The training's folder in the storage."""
    board: Any
    """Gets told how far the training is."""


def work(told: dict[str, Work]) -> str | None:
    """Train with the other workers.

    Returns:
        The sentence of an error that would come again in every worker, or None.  Other errors are
        raised: on another machine, or at another time, it may go well.
    """
    given = told["work"]
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    name = PurePosixPath(given.home).name
    with _own_folder(f"{name}-{rank()}") as folder:
        run = Run(folder)
        copy(str(PurePosixPath(given.home, ROWS)), str(run.data_folder), source_in=given.files)
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is not None:
            copy(checkpoint.path, str(run.folder), source_in=given.files)
        if run.training_file.exists():  # the training was done, and its end was not heard of
            return None
        report = Report(run, given)
        try:
            train(given.recipe, run, resume=checkpoint is not None, watchers=[report])
        except MedtuneError as error:
            if isinstance(error.__cause__, OSError):
                raise
            return str(error)
        report.hand_over(None)
        return None


class Report(TrainerCallback):
    """Hands the state of the run to Ray Train at every checkpoint."""

    def __init__(self, run: Run, given: Work) -> None:
        self._run = run
        self._given = given
        self._note: dict[str, str] = {}

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.hand_over(self._run.checkpoints / f"checkpoint-{state.global_step}")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._note["from"] = f"from step {state.global_step}"
        self._tell(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._note.update(losses_said(logs or {}))
        self._tell(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tell(state)

    def _tell(self, state: TrainerState) -> None:
        if rank() == 0:
            note = ", ".join(self._note.values())
            self._given.board.write.remote(state.global_step, state.max_steps, note)

    def hand_over(self, checkpoint: Path | None) -> None:
        """Keep what is needed to go on from a checkpoint, or, with None, the result.

        Every worker takes part; only the first one has something to keep.
        """
        if rank() > 0:
            ray.train.report({})
            return
        with tempfile.TemporaryDirectory(dir=self._run.folder.parent) as scratch:
            _collect(self._run, Path(scratch), checkpoint)
            ray.train.report(
                {},
                checkpoint=ray.train.Checkpoint(scratch),
                checkpoint_upload_fn=self._upload,  # type: ignore[arg-type]
            )

    def _upload(self, local: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        there = str(PurePosixPath(self._given.home, name))
        copy(str(local.path), there, target_in=self._given.files)
        return ray.train.Checkpoint(there, filesystem=self._given.files)


def _collect(run: Run, target: Path, checkpoint: Path | None) -> None:
    wanted = {run.metrics_file, run.samples_file, run.training_file}
    if checkpoint is None:
        wanted |= {run.adapter, run.full_model, run.manifest_file}
    else:
        wanted |= {checkpoint, best_of(checkpoint) or checkpoint, run.checkpoints / "start"}
    for path in wanted:
        there = target / path.relative_to(run.folder)
        there.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, there, copy_function=os.link)
        elif path.exists():
            shutil.copy2(path, there)  # no link: it still grows


@contextmanager
def _own_folder(name: str) -> Iterator[Path]:
    """A folder on the worker's disk; what a killed worker left there is removed first."""
    folder = Path(tempfile.gettempdir()) / f"medtune-{os.getuid()}" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder / "run"
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""``train --cluster``: the training function of ``medtune train``, in every worker of Ray Train.

Each worker has a run folder of its own with the same rows.  At every checkpoint the first worker
hands the state of its run to Ray Train, which keeps it in the storage.  After a loss, of a worker,
a node or the whole command, the workers begin with that state and go on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import ray
from pyarrow.fs import FileType, PyFileSystem
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    Result,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchTrainer

from medtune.cluster.interface import AtNodeAddress
from medtune.cluster.progress import shown
from medtune.cluster.storage import copy, storage_at
from medtune.cluster.worker import ROWS, Work, work
from medtune.errors import MedtuneError
from medtune.recipe import Recipe
from medtune.run import Run
from medtune.training.train import Trained, shares

_SPLITS = ("train", "validation")
_WHAT_DECIDES = ("model", "data", "adapter", "training")
"""Sections of a recipe that a training's outcome depends on."""


def train(recipe: Recipe, run: Run, say: Callable[[str], None] = lambda _: None) -> Trained:
    """Train on the cluster that Ray is connected to, and leave the result in the run.

    A training of the same rows with the same settings that did not come to its end, because this
    command was killed, goes on from its last checkpoint.

    Args:
        recipe: with its ``cluster`` section.
        run: prepared; on this machine only.  Gets what ``medtune train`` leaves, but no checkpoints.
        say: told in a sentence what happens.

    Raises:
        MedtuneError: the workers cannot share the batch, the cluster is too small, the storage
            cannot be used, the training failed as it would here, or workers were lost too often.
    """
    section = recipe.cluster
    shares(recipe.training, section.workers)
    _require_room(recipe)
    storage = section.storage or str(run.folder.resolve() / "cluster")
    files, root = storage_at(storage)
    home = str(PurePosixPath(root, f"{recipe.name}-{_identity(recipe, run)}"))
    if files.get_file_info(home).type != FileType.NotFound:
        say(f"An earlier training of these rows was cut off; going on with what is in {storage}.")
    with tempfile.TemporaryDirectory(prefix="medtune-") as scratch:
        for split in _SPLITS:
            shutil.copy2(run.split_file(split), scratch)  # type: ignore[arg-type]
        copy(scratch, str(PurePosixPath(home, ROWS)), target_in=files)
    with shown("training") as board:
        result = _fit(Work(recipe, files, home, board))
    if result.return_value is not None:
        _remove(files, home)
        raise MedtuneError(result.return_value)
    if result.checkpoint is None or not _fetch(run, files, result.checkpoint.path, recipe):
        raise MedtuneError(
            "The training was interrupted; the same command goes on from the last checkpoint."
        )
    _remove(files, home)
    if section.storage is None:
        shutil.rmtree(run.folder / "cluster", ignore_errors=True)
    return Trained(**run.read_json(run.training_file))


def _fit(given: Work) -> Result:
    section = given.recipe.cluster
    trainer = TorchTrainer(
        work,
        train_loop_config={"work": given},
        torch_config=AtNodeAddress(),
        scaling_config=ScalingConfig(
            num_workers=section.workers,
            use_gpu=bool(section.resources_per_worker.get("GPU")),
            resources_per_worker=dict(section.resources_per_worker),
            placement_strategy="SPREAD",
        ),
        run_config=RunConfig(
            name=PurePosixPath(given.home).name,
            storage_path=str(PurePosixPath(given.home).parent),
            storage_filesystem=given.files,
            failure_config=FailureConfig(max_failures=section.failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        return trainer.fit()
    except TrainingFailedError as error:
        raise MedtuneError(
            f"The training lost its workers more than {section.failures} times, last by: "
            f"{_first_cause(error)}.  The same command goes on from the last checkpoint."
        ) from error


def _fetch(run: Run, files: PyFileSystem, state: str, recipe: Recipe) -> bool:
    """Put the result of the first worker's run in its places in this one, if it came to one."""
    with tempfile.TemporaryDirectory(prefix=".cluster.", dir=run.folder) as scratch:
        copy(state, scratch, source_in=files)
        there = Run(Path(scratch))
        if not there.training_file.exists():
            return False
        for name in ("metrics_file", "samples_file", "adapter", "full_model", "training_file"):
            path: Path = getattr(there, name)
            goal: Path = getattr(run, name)
            if not path.exists():
                continue
            if goal.is_dir():
                shutil.rmtree(goal)
            path.replace(goal)
        facts = there.read_json(there.manifest_file)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    run.write_manifest(
        training=facts["training"],
        threads=facts["threads"],
        cluster={
            "workers": recipe.cluster.workers,
            "resources_per_worker": recipe.cluster.resources_per_worker,
            "nodes": len(nodes),
            "hardware_of_first_worker": facts["hardware"],
        },
    )
    return True


def _identity(recipe: Recipe, run: Run) -> str:
    """Twelve letters that two trainings share if they would come out equal."""
    card = run.read_json(run.card_json)
    settings = recipe.model_dump(mode="json")
    deciding = [card["fingerprint"], *(settings[name] for name in _WHAT_DECIDES)]
    deciding.append(recipe.cluster.sharding)  # its checkpoints have another form
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:12]


def _require_room(recipe: Recipe) -> None:
    """Ray waits without end for resources that no node has; a sentence is better."""
    section = recipe.cluster
    there = ray.cluster_resources()
    for name, each in section.resources_per_worker.items():
        needed = each * section.workers
        if needed > there.get(name, 0):
            raise MedtuneError(
                f"{section.workers} workers need {needed:g} {name}, and the cluster has "
                f"{there.get(name, 0):g}; lower cluster.workers or cluster.resources_per_worker."
            )


def _first_cause(error: Any) -> str:
    """The innermost error in a line."""
    causes = list(getattr(error, "worker_failures", {}).values()) or [error]
    cause = getattr(causes[0], "cause", None) or causes[0]
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(cause).__name__


def _remove(files: PyFileSystem, path: str) -> None:
    """Best effort: what stays behind in the storage is overwritten by the next training."""
    try:
        files.delete_dir(path)
    except OSError:
        return

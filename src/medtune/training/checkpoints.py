"""The checkpoints of a run: which are whole, what they were made with, is there room for more."""

from __future__ import annotations

import errno
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from medtune.errors import MedtuneError
from medtune.recipe import Recipe
from medtune.run import Run, whole

BYTES_PER_PARAMETER = 4 + 2 * 4
"""The adapter in float32, and the optimizer's two moments."""
_BESIDES = 16 * 2**20
"""Tokenizer, trainer state and log, generously."""
_MADE_WITH = "made_with.json"
_MAY_CHANGE = {"evaluate_every", "early_stopping", "keep_checkpoints", "samples"}
"""Settings of ``training`` that decide neither the weights' shapes nor where a step leads."""


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def newest(run: Run) -> Path | None:
    """The newest checkpoint that is whole; those that a kill left half-written are removed."""
    drop_torn(run)
    found = max(run.checkpoints.glob("checkpoint-*"), key=step_of, default=None)
    if found is not None:
        _find_best(found)
    return found


def best_of(checkpoint: Path) -> Path | None:
    """The checkpoint with the lowest validation loss up to this one, which lies beside it."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    best = state.get("best_model_checkpoint")
    return checkpoint.parent / Path(best).name if best else None


def _find_best(checkpoint: Path) -> None:
    """Let the trainer's state name the best checkpoint where it lies now: the run may have moved,
    and a worker has its own copy."""
    best = best_of(checkpoint)
    if best is None:
        return
    path = checkpoint / "trainer_state.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    state["best_model_checkpoint"] = str(best)
    with whole(path) as part:
        part.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def drop_torn(run: Run) -> None:
    for path in run.checkpoints.glob("checkpoint-*"):
        if not _is_whole(path):
            shutil.rmtree(path, ignore_errors=True)


def check_room(run: Run, trainable_parameters: int, keep: int) -> None:
    """See that the disk holds the checkpoints, the one being written, and the adapter.

    Raises:
        MedtuneError: it does not; the sentence says how much is missing.
    """
    held = sum(path.stat().st_size for path in run.checkpoints.rglob("*") if path.is_file())
    needed = BYTES_PER_PARAMETER * trainable_parameters * (keep + 2) + _BESIDES - held
    free = shutil.disk_usage(run.folder).free
    if free < needed:
        missing = OSError(errno.ENOSPC, "no room for the checkpoints")
        raise MedtuneError(
            f"Only {free / 2**20:.0f} MiB are free where {run.folder} lies, and the checkpoints "
            f"need {needed / 2**20:.0f} MiB; free some space, or lower adapter.rank or "
            "training.keep_checkpoints."
        ) from missing


def remember(recipe: Recipe, run: Run) -> None:
    """Keep what the checkpoints to come are made with."""
    run.write_json(run.checkpoints / _MADE_WITH, _decisive(recipe, run))


def check_same(recipe: Recipe, run: Run) -> None:
    """See that a training may go on from the run's checkpoints, if there are any.

    Raises:
        MedtuneError: a setting that decides what a step does has changed since, or the rows have;
            the sentence names it, what it was, and what it is.
    """
    path = run.checkpoints / _MADE_WITH
    if not path.exists() or not any(run.checkpoints.glob("checkpoint-*")):
        return
    was, now = run.read_json(path), _decisive(recipe, run)
    changed = [key for key in now if key in was and was[key] != now[key]]
    if changed == ["rows"]:
        raise MedtuneError(
            "The rows were prepared anew since the checkpoint was made; train without --resume to "
            "begin afresh."
        )
    settings = [key for key in changed if key != "rows"]
    if settings:
        named = ", ".join(f"{key} was {was[key]} and is {now[key]}" for key in settings)
        raise MedtuneError(
            f"The checkpoint was made with other settings: {named}; set them back to go on, or train "
            "without --resume to begin afresh."
        )


def _decisive(recipe: Recipe, run: Run) -> dict[str, Any]:
    tree = recipe.model_dump(mode="json", include={"model", "adapter", "training"})
    found = {
        f"{section}.{key}": value
        for section, values in tree.items()
        for key, value in values.items()
        if key not in _MAY_CHANGE
    }
    found["data.max_length"] = recipe.data.max_length
    found["cluster.sharding"] = recipe.cluster.sharding
    if run.card_json.exists():
        found["rows"] = run.read_json(run.card_json)["fingerprint"]
    return found


def _is_whole(checkpoint: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        weights = [*checkpoint.glob("*.safetensors")]
        for path in weights:
            with safe_open(path, "pt"):
                pass
        # One random state per process; what a training computes depends on none of them.
        # The optimizer of a sharded training has another ending, and its weights a file more.
        gathered = [*checkpoint.glob("pytorch_model_fsdp.bin")]
        optimizer = checkpoint / ("optimizer.bin" if gathered else "optimizer.pt")
        parts = [*gathered, optimizer, checkpoint / "scheduler.pt"]
        parts += checkpoint.glob("rng_state*.pth")
        return bool(weights) and all(zipfile.is_zipfile(part) for part in parts)
    except (OSError, ValueError, SafetensorError):
        return False

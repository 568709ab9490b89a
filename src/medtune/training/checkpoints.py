"""The checkpoints of a run: which are whole, and whether there is room for more."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

from medtune.errors import MedtuneError
from medtune.run import Run, disk_error, whole

_BYTES_PER_PARAMETER = 4 + 2 * 4
"""The adapter in float32, and the optimizer's two moments."""
_BESIDES = 16 * 2**20
"""Tokenizer, trainer state and log, generously."""


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
    needed = _BYTES_PER_PARAMETER * trainable_parameters * (keep + 2) + _BESIDES - held
    free = shutil.disk_usage(run.folder).free
    if free < needed:
        missing = OSError(errno.ENOSPC, "no room for the checkpoints")
        raise MedtuneError(
            f"Only {free / 2**20:.0f} MiB are free where {run.folder} lies, and the checkpoints "
            f"need {needed / 2**20:.0f} MiB; free some space, or lower adapter.rank or "
            "training.keep_checkpoints."
        ) from missing


def cause_of(error: Exception, run: Run, trainable_parameters: int) -> Exception:
    """The sentence for a disk that is full or read-only; any other error unchanged.

    Torch and safetensors hide the system's error when a write fails, so the disk is asked.
    """
    if isinstance(error, OSError):
        return disk_error(error, run.folder)
    try:
        with tempfile.TemporaryFile(dir=run.folder) as probe:
            for _ in range(0, _BYTES_PER_PARAMETER * trainable_parameters, 2**20):
                probe.write(bytes(2**20))
            probe.flush()
    except OSError as found:
        return disk_error(found, run.folder)
    return error


def _is_whole(checkpoint: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        weights = [*checkpoint.glob("*.safetensors")]
        for path in weights:
            with safe_open(path, "pt"):
                pass
        # One random state per process; what a training computes depends on none of them.
        parts = [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt"]
        parts += checkpoint.glob("rng_state*.pth")
        return bool(weights) and all(zipfile.is_zipfile(part) for part in parts)
    except (OSError, ValueError, SafetensorError):
        return False

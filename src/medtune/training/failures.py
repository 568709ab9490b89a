"""What ended a training, as a sentence: the disk, or the memory."""

from __future__ import annotations

import tempfile

from medtune.errors import MedtuneError
from medtune.recipe import Recipe
from medtune.run import Run, disk_error
from medtune.training.checkpoints import BYTES_PER_PARAMETER


def cause_of(error: Exception, recipe: Recipe, run: Run, trainable_parameters: int) -> Exception:
    """The sentence for a disk that is full or read-only, or for too little memory.

    Torch and safetensors hide the system's error when a write fails, so the disk is asked.

    Returns:
        A ``MedtuneError``, or the error unchanged where neither was the cause.
    """
    if isinstance(error, OSError):
        return disk_error(error, run.folder)
    if _is_out_of_memory(error):
        return MedtuneError(_too_large(recipe))
    try:
        with tempfile.TemporaryFile(dir=run.folder) as probe:
            for _ in range(0, BYTES_PER_PARAMETER * trainable_parameters, 2**20):
                probe.write(bytes(2**20))
            probe.flush()
    except OSError as found:
        return disk_error(found, run.folder)
    return error


def _is_out_of_memory(error: Exception) -> bool:
    from torch import OutOfMemoryError

    # Main memory that cannot be had is a plain RuntimeError of torch's allocator.
    return isinstance(error, OutOfMemoryError | MemoryError) or (
        "can't allocate memory" in str(error)
    )


def _too_large(recipe: Recipe) -> str:
    section = recipe.training
    if section.batch_size > 1:
        accumulation = section.gradient_accumulation * 2
        change = (
            f"training.batch_size={section.batch_size // 2} "
            f"training.gradient_accumulation={accumulation}"
        )
    elif not section.gradient_checkpointing:
        change = "training.gradient_checkpointing=true"
    else:
        change = f"data.max_length={recipe.data.max_length // 2}"
    rows = "row" if section.batch_size == 1 else "rows"
    return (
        f"A batch of {section.batch_size} {rows} of up to {recipe.data.max_length} tokens does not fit "
        f"in memory; try {change}, or ask `medtune plan` what fits."
    )

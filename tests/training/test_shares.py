"""The rows of an optimizer step are the same for any number of workers."""

from __future__ import annotations

import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from medtune.errors import MedtuneError
from medtune.recipe import TrainingSection
from medtune.training.order import GroupedByLength
from medtune.training.train import shares


def _steps(section: TrainingSection, lengths: list[int], workers: int) -> list[list[int]]:
    """The rows of every step, put together from what accelerate deals to each worker."""
    batch, accumulation = shares(section, workers)
    rows = batch * accumulation * workers
    sampler = GroupedByLength(
        lengths, rows, section.seed, multiple=batch * workers if workers > 1 else 1
    )
    batches = BatchSampler(sampler, batch, drop_last=False)
    dealt = [list(batches)]
    if workers > 1:
        dealt = [list(BatchSamplerShard(batches, workers, i)) for i in range(workers)]
    assert len({len(one) for one in dealt}) == 1, "a worker would wait for the others for ever"
    steps = []
    for start in range(0, len(dealt[0]), accumulation):
        step = [row for one in dealt for part in one[start : start + accumulation] for row in part]
        steps.append(sorted(row for row in step if row < len(lengths)))
    return steps


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=150),
    batch=st.integers(1, 6),
    accumulation=st.integers(1, 6),
    workers=st.integers(2, 6),
)
def test_every_step_has_the_rows_that_one_worker_would_take(
    lengths: list[int], batch: int, accumulation: int, workers: int
) -> None:
    section = TrainingSection(batch_size=batch, gradient_accumulation=accumulation)
    if batch * accumulation % workers:
        with pytest.raises(MedtuneError, match=f"{workers} workers cannot share"):
            shares(section, workers)
        return
    assert _steps(section, lengths, workers) == _steps(section, lengths, 1)


def test_accumulation_is_divided_before_the_batch() -> None:
    section = TrainingSection(batch_size=4, gradient_accumulation=4)
    assert [shares(section, n) for n in (1, 2, 4, 8)] == [(4, 4), (4, 2), (4, 1), (2, 1)]

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from medtune.training.order import GroupedByLength


@given(
    lengths=st.lists(st.integers(1, 500), max_size=400),
    batch=st.integers(1, 9),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 5),
)
def test_every_row_comes_once_and_the_order_depends_on_seed_and_epoch_alone(
    lengths: list[int], batch: int, seed: int, epoch: int
) -> None:
    one, two = GroupedByLength(lengths, batch, seed), GroupedByLength(lengths, batch, seed)
    list(one)  # an earlier epoch must not matter
    for sampler in (one, two):
        sampler.set_epoch(epoch)
    assert list(one) == list(two)
    assert sorted(one) == list(range(len(lengths)))


def test_batches_hold_rows_of_similar_length_and_epochs_differ() -> None:
    lengths = [i % 200 + 1 for i in range(4000)]
    sampler = GroupedByLength(lengths, 8, 0)
    rows = list(sampler)
    padding = sum(
        8 * max(part) - sum(part)
        for start in range(0, 4000, 8)
        for part in [[lengths[i] for i in rows[start : start + 8]]]
    )
    assert padding < 0.05 * sum(lengths)
    sampler.set_epoch(1)
    assert list(sampler) != rows
    assert lengths[rows[0]] == 200

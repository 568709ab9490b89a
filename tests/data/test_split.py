from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtune.data.split import divide, drawn
from medtune.errors import MedtuneError


def _order(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**63, count, dtype=np.uint64)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=30, max_size=120), st.integers(0, 50))
def test_a_group_stands_in_one_split_and_no_row_is_lost(groups: list[int], seed: int) -> None:
    group = np.array(groups, np.int64)
    kept = np.ones(len(group), bool)
    kept[::7] = False
    try:
        made = divide(
            group, kept, np.zeros(len(group), np.uint64), _order(len(group)), 0.2, 0.2, seed
        )
    except MedtuneError:
        assert len(set(group[kept])) < 3
        return
    assert ((made.split >= 0) == kept).all()
    for name in set(group[kept]):
        assert len(set(made.split[kept & (group == name)])) == 1
    assert {0, 1, 2} <= set(made.split[kept].tolist())


def test_shares_are_kept_overall_and_in_every_stratum() -> None:
    rows = 4_000
    stratum = np.repeat(np.array([11, 22, 33, 44], np.uint64), rows // 4)
    made = divide(np.arange(rows), np.ones(rows, bool), stratum, _order(rows), 0.1, 0.2, 7)
    for label in np.unique(stratum):
        here = made.split[stratum == label]
        assert abs((here == 2).mean() - 0.2) < 0.005
        assert abs((here == 1).mean() - 0.1) < 0.005


def test_large_groups_do_not_swell_the_held_out_rows() -> None:
    group = np.concatenate([np.repeat(np.arange(300), 10), np.arange(300, 1300)])
    made = divide(
        group,
        np.ones(len(group), bool),
        np.zeros(len(group), np.uint64),
        _order(len(group)),
        0.1,
        0.1,
        3,
    )
    assert abs((made.split == 2).mean() - 0.1) < 0.03
    one = np.concatenate([np.zeros(500, np.int64), np.arange(1, 500)])
    made = divide(one, np.ones(999, bool), np.zeros(999, np.uint64), _order(999), 0.1, 0.1, 3)
    assert set(made.split[:500].tolist()) == {0}
    assert made.kept_whole == 500


def test_the_seed_decides_and_the_place_in_the_file_does_not() -> None:
    order = _order(200)
    free = np.zeros(200, np.uint64)
    kept = np.ones(200, bool)
    one = divide(np.arange(200), kept, free, order, 0.1, 0.1, 1).split
    assert (one == divide(np.arange(200), kept, free, order, 0.1, 0.1, 1).split).all()
    assert (one != divide(np.arange(200), kept, free, order, 0.1, 0.1, 2).split).any()
    moved = divide(np.arange(200), kept, free, order[::-1].copy(), 0.1, 0.1, 1).split
    assert (moved == one[::-1]).all()


def test_too_few_rows_is_a_sentence() -> None:
    with pytest.raises(MedtuneError, match="too few"):
        divide(
            np.zeros(2, np.int64), np.ones(2, bool), np.zeros(2, np.uint64), _order(2), 0.1, 0.1, 1
        )


def test_a_mixture_keeps_its_weights_and_a_limit_draws_from_everywhere() -> None:
    source = np.repeat(np.array([0, 1]), [1000, 200])
    kept = np.ones(1200, bool)
    chosen = drawn(kept, source, [1.0, 1.0], None, _order(1200), 5)
    assert [(chosen & (source == i)).sum() for i in (0, 1)] == [200, 200]
    chosen = drawn(kept, source, [3.0, 1.0], 100, _order(1200), 5)
    assert [(chosen & (source == i)).sum() for i in (0, 1)] == [75, 25]
    chosen = drawn(kept, np.zeros(1200, int), [1.0], 100, _order(1200), 5)
    assert chosen.sum() == 100
    assert np.flatnonzero(chosen).max() > 900

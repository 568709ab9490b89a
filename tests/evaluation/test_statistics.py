from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medtune.evaluation.statistics import difference, holm, mcnemar, mean_of, score, wilson


@given(n=st.integers(1, 400), share=st.floats(0, 1))
def test_wilson_agrees_with_scipy(n: int, share: float) -> None:
    k = round(share * n)
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_45_of_45_proves_no_more_than_92_percent() -> None:
    assert wilson(45, 45)[0] == pytest.approx(0.921, abs=1e-3)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=120))
def test_mcnemar_agrees_with_scipys_binomial_test(pairs: list[tuple[bool, bool]]) -> None:
    base, tuned = (np.array(side) for side in zip(*pairs, strict=True))
    won, lost = int(np.sum(tuned & ~base)), int(np.sum(base & ~tuned))
    expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar(base, tuned) == pytest.approx(expected)


def test_holm_on_a_worked_example() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_the_bootstrap_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = sum(
        low <= 1.0 <= high
        for low, high in (score(mean_of(rng.exponential(1.0, 200).tolist())).ci for _ in range(200))
    )
    assert 0.91 <= covered / 200 <= 0.98


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 10, 300)
    change = difference(mean_of(base.tolist()), mean_of((base + 0.1).tolist()))
    assert change.value == pytest.approx(0.1)
    assert change.ci == pytest.approx((0.1, 0.1))
    assert change.p < 0.001

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medtune.evaluation.statistics import (
    detectable,
    difference,
    holm,
    mcnemar,
    mean_of,
    proven,
    score,
    wilson,
)


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


@pytest.fixture
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand: the bound of an interval is rougher, how often it covers hardly changes."""
    monkeypatch.setattr("medtune.evaluation.statistics.RESAMPLES", 1_000)


@pytest.mark.usefixtures("_fewer_resamples")
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


@given(n=st.integers(1, 200), share=st.floats(0, 1))
def test_what_successes_prove_agrees_with_scipys_exact_bound(n: int, share: float) -> None:
    k = round(share * n)
    expected = stats.binomtest(k, n, alternative="greater").proportion_ci(0.95, method="exact")
    assert proven(k, n) == pytest.approx(expected.low, abs=1e-7)


def test_45_of_45_right_proves_only_93_percent() -> None:
    assert proven(45, 45) == pytest.approx(0.05 ** (1 / 45))
    assert 0.93 < proven(45, 45) < 0.94


def test_the_detectable_change_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(1)
    n, discordant = 400, 0.2
    change = detectable(n, discordant)
    found = 0
    for _ in range(400):
        won, lost, _same = rng.multinomial(
            n, [(discordant + change) / 2, (discordant - change) / 2, 1 - discordant]
        )
        found += stats.binomtest(won, won + lost).pvalue < 0.05
    assert 0.70 <= found / 400 <= 0.86  # the exact test is a little shy of the nominal 80%


@pytest.mark.usefixtures("_fewer_resamples")
def test_the_paired_bootstrap_covers_the_true_change_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        hard = rng.normal(0, 1, 150)
        base = hard + rng.normal(0, 0.5, 150)
        tuned = hard + 0.3 + rng.normal(0, 0.5, 150)
        low, high = difference(mean_of(base.tolist()), mean_of(tuned.tolist())).ci
        covered += low <= 0.3 <= high
    assert 0.90 <= covered / 200 <= 0.985  # 95%, and three standard errors of 200 trials


def test_holm_agrees_with_the_definition_on_any_family() -> None:
    rng = np.random.default_rng(3)
    values = {str(i): float(p) for i, p in enumerate(rng.random(9) ** 3)}
    ordered = sorted(values.items(), key=lambda item: item[1])
    for place, (name, _) in enumerate(ordered):
        expected = max(min(1.0, (9 - k) * p) for k, (_, p) in enumerate(ordered[: place + 1]))
        assert holm(values)[name] == pytest.approx(expected)

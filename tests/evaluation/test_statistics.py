from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medtune.evaluation.perplexity import perplexity
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


@given(
    n=st.integers(2, 300),
    pairs=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 99),
)
def test_wilson_and_mcnemar_are_those_of_statsmodels(
    n: int, pairs: tuple[float, float], seed: int
) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    rng = np.random.default_rng(seed)
    base, tuned = (rng.random(n) < share for share in pairs)
    expected = proportion.proportion_confint(int(base.sum()), n, method="wilson")
    assert wilson(int(base.sum()), n) == pytest.approx(expected, abs=1e-9)
    table = [[int((base & tuned).sum()), int((base & ~tuned).sum())]]
    table.append([int((~base & tuned).sum()), int((~base & ~tuned).sum())])
    if table[0][1] + table[1][0]:
        assert mcnemar(base, tuned) == pytest.approx(tables.mcnemar(table, exact=True).pvalue)


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


def test_adjusted_p_values_are_those_of_statsmodels() -> None:
    multiple = pytest.importorskip("statsmodels.stats.multitest")
    values = np.random.default_rng(4).random(12) ** 3
    expected = multiple.multipletests(values, method="holm")[1]
    found = holm({str(i): float(p) for i, p in enumerate(values)})
    assert [found[str(i)] for i in range(12)] == pytest.approx(expected.tolist())


def _covered(simulate: Callable[[np.random.Generator], tuple[float, float]], truth: float) -> float:
    """How often the interval of simulated data holds the truth, of 1,000 times.

    Its own standard error is 0.7 points.
    """
    rng = np.random.default_rng(0)
    intervals = (simulate(rng) for _ in range(1000))
    return sum(low <= truth <= high for low, high in intervals) / 1000


@pytest.mark.usefixtures("_fewer_resamples")
@pytest.mark.parametrize("paired", [False, True])
def test_the_bootstrap_of_a_mean_covers_the_truth_in_93_to_97_percent(paired: bool) -> None:
    def simulate(rng: np.random.Generator) -> tuple[float, float]:
        hard = rng.normal(0, 1, 120)
        base, tuned = (hard + gain + rng.normal(0, 0.5, 120) for gain in (0.0, 0.3))
        if not paired:
            return score(mean_of(tuned.tolist())).ci
        return difference(mean_of(base.tolist()), mean_of(tuned.tolist())).ci

    assert 0.93 <= _covered(simulate, 0.3) <= 0.97


@pytest.mark.usefixtures("_fewer_resamples")
def test_the_bootstrap_of_perplexity_covers_the_truth_in_93_to_97_percent() -> None:
    """A quotient of sums over answers of unlike length, not a mean of rows."""

    def simulate(rng: np.random.Generator) -> tuple[float, float]:
        tokens = rng.integers(20, 120, 150)
        return score(perplexity(np.column_stack([rng.gamma(2.0 * tokens), tokens]))).ci

    assert 0.93 <= _covered(simulate, np.exp(2.0)) <= 0.97


@pytest.mark.usefixtures("_fewer_resamples")
def test_the_paired_bootstrap_of_rates_covers_the_truth_in_93_to_97_percent() -> None:
    def simulate(rng: np.random.Generator) -> tuple[float, float]:
        hard = rng.random(200)
        base, tuned = ((rng.random(200) * 0.5 + hard * 0.5 < cut) for cut in (0.4, 0.6))
        sides = (mean_of(side.astype(float).tolist(), is_rate=True) for side in (base, tuned))
        return difference(*sides).ci

    # The sum of two uniform halves lies below 0.4 in 0.32 and below 0.6 in 0.68.
    assert 0.93 <= _covered(simulate, 0.36) <= 0.97


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 10, 300)
    change = difference(mean_of(base.tolist()), mean_of((base + 0.1).tolist()))
    assert change.value == pytest.approx(0.1)
    assert change.ci == pytest.approx((0.1, 0.1))
    assert change.p < 0.001


def test_five_rows_that_all_improve_are_no_proof_as_five_coins_are_none() -> None:
    base, tuned = [5.0, 3.0, 4.0, 6.0, 9.0], [4.0, 2.5, 3.0, 5.0, 7.0]
    change = difference(mean_of(base), mean_of(tuned))
    assert change.p == pytest.approx(stats.binomtest(5, 5).pvalue)


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


def test_holm_agrees_with_the_definition_on_any_family() -> None:
    rng = np.random.default_rng(3)
    values = {str(i): float(p) for i, p in enumerate(rng.random(9) ** 3)}
    ordered = sorted(values.items(), key=lambda item: item[1])
    for place, (name, _) in enumerate(ordered):
        expected = max(min(1.0, (9 - k) * p) for k, (_, p) in enumerate(ordered[: place + 1]))
        assert holm(values)[name] == pytest.approx(expected)

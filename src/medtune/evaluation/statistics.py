"""Intervals and tests: how sure a figure is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, exp, lgamma, log, log1p, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 10_000
Z95 = 1.959963984540054
Z80 = 0.8416212335729143
_DRAWS_AT_A_TIME = 4_000_000
"""Numbers held at once while rows are drawn: 32 MB."""
_DRAWS_KEPT = 12_000_000
"""Of so many numbers, 96 MB, the draws are kept for the next metric."""


@dataclass(frozen=True)
class Score:
    """A figure with its 95% interval and the number of rows it rests on."""

    value: float
    ci: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Difference:
    """Tuned minus base on the same rows, its 95% interval, and a two-sided p-value."""

    value: float
    ci: tuple[float, float]
    p: float


@dataclass(frozen=True)
class Measured:
    """What a metric needs of every row, and how the sums become the figure.

    A mean is the sum of values over the sum of ones, perplexity is exp of a quotient of sums,
    corpus BLEU a function of summed n-gram counts: all can be resampled without rescoring.
    """

    rows: NDArray[np.float64]
    """(rows, k) additive statistics."""
    combine: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """(m, k) sums to m figures."""
    is_rate: bool = False
    """Each row is 0 or 1, so Wilson's interval and McNemar's test apply."""


def mean_of(values: Sequence[float], *, is_rate: bool = False) -> Measured:
    rows = np.column_stack([np.asarray(values, dtype=float), np.ones(len(values))])
    return Measured(rows, lambda sums: sums[:, 0] / sums[:, 1], is_rate)


def score(measured: Measured, seed: int = 0) -> Score:
    """The figure with Wilson's interval for a rate, else a percentile bootstrap over rows."""
    value = float(measured.combine(measured.rows.sum(0, keepdims=True))[0])
    n = len(measured.rows)
    if measured.is_rate:
        return Score(value, wilson(int(measured.rows[:, 0].sum()), n), n)
    low, high = np.percentile(measured.combine(_resampled(measured.rows, seed)), (2.5, 97.5))
    return Score(value, (float(low), float(high)), n)


def difference(base: Measured, tuned: Measured, seed: int = 0) -> Difference:
    """Tuned minus base by paired bootstrap over rows; McNemar's exact p for a rate."""
    # One draw for both sides: the same prompts are drawn, and drawing is what takes the time.
    sums = _resampled(np.hstack([base.rows, tuned.rows]), seed)
    width = base.rows.shape[1]
    samples = tuned.combine(sums[:, width:]) - base.combine(sums[:, :width])
    low, high = np.percentile(samples, (2.5, 97.5))
    totals = [m.combine(m.rows.sum(0, keepdims=True))[0] for m in (base, tuned)]
    if base.is_rate:
        p = mcnemar(base.rows[:, 0].astype(bool), tuned.rows[:, 0].astype(bool))
    else:
        # A share of 0 among the resamples proves no more than 1 in RESAMPLES, and n rows that all
        # changed alike no more than n coins that all fell alike, which a bootstrap does not see.
        tail = min(float(np.mean(samples <= 0)), float(np.mean(samples >= 0)))
        p = min(1.0, max(2 * tail, 1 / RESAMPLES, 2.0 ** (1 - len(base.rows))))
    return Difference(float(totals[1] - totals[0]), (float(low), float(high)), p)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval for a proportion (Wilson 1927)."""
    if n == 0:
        return (0.0, 1.0)
    share, z2 = successes / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return (low, high)


def mcnemar(base: NDArray[np.bool_], tuned: NDArray[np.bool_]) -> float:
    """Exact two-sided p-value for paired yes/no outcomes (McNemar 1947, binomial form)."""
    won, lost = int(np.sum(tuned & ~base)), int(np.sum(base & ~tuned))
    n = won + lost
    if n == 0:
        return 1.0
    tail = sum(comb(n, k) for k in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**n)


def proven(successes: int, n: int, level: float = 0.95) -> float:
    """The share that so many successes prove at least, exact and one-sided.

    The lower bound of Clopper and Pearson (1934): the share at which as many successes or more
    have the chance 1 - level.  45 of 45 prove 93.6%.
    """
    if successes == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        fewer = sum(
            exp(_log_choose(n, k) + k * log(share) + (n - k) * log1p(-share))
            for k in range(successes)
        )
        low, high = (share, high) if 1 - fewer < 1 - level else (low, share)
    return low


def detectable(n: int, discordant: float) -> float:
    """The change of a rate that n pairs find in four cases of five at the 5% level.

    (z_0.975 + z_0.8) sqrt(discordant / n), the large-sample form for McNemar's test.

    Args:
        n: pairs.
        discordant: the share of pairs in which base and tuned differ.
    """
    return min(1.0, (Z95 + Z80) * sqrt(discordant / n)) if n else 1.0


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment over a family of tests (Holm 1979)."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = highest
    return adjusted


def _resampled(rows: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Sums over rows drawn with replacement, (RESAMPLES, k); one seed draws the same rows again."""
    n = len(rows)
    if n * RESAMPLES <= _DRAWS_KEPT:
        return _kept_draws(n, RESAMPLES, seed) @ rows
    return np.concatenate([part.astype(float) @ rows for part in _draws(n, RESAMPLES, seed)])


@lru_cache(maxsize=3)
def _kept_draws(n: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Drawing takes far longer than adding up, and every metric of the same rows draws the same."""
    return np.concatenate([part.astype(float) for part in _draws(n, resamples, seed)])


def _draws(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each of n rows is drawn, (some, n) at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_A_TIME // n)
    for start in range(0, resamples, step):
        yield rng.multinomial(n, np.full(n, 1 / n), size=min(step, resamples - start))

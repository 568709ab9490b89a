"""Intervals and tests: how sure a figure is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 10_000
Z95 = 1.959963984540054


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
    low, high = np.percentile(measured.combine(_weights(n, seed) @ measured.rows), (2.5, 97.5))
    return Score(value, (float(low), float(high)), n)


def difference(base: Measured, tuned: Measured, seed: int = 0) -> Difference:
    """Tuned minus base by paired bootstrap over rows; McNemar's exact p for a rate."""
    weights = _weights(len(base.rows), seed)
    samples = tuned.combine(weights @ tuned.rows) - base.combine(weights @ base.rows)
    low, high = np.percentile(samples, (2.5, 97.5))
    totals = [m.combine(m.rows.sum(0, keepdims=True))[0] for m in (base, tuned)]
    if base.is_rate:
        p = mcnemar(base.rows[:, 0].astype(bool), tuned.rows[:, 0].astype(bool))
    else:
        # A share of 0 among the resamples proves no more than 1 in RESAMPLES.
        tail = min(float(np.mean(samples <= 0)), float(np.mean(samples >= 0)))
        p = min(1.0, max(2 * tail, 1 / RESAMPLES))
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


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment over a family of tests (Holm 1979)."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = highest
    return adjusted


def _weights(n: int, seed: int) -> NDArray[np.float64]:
    """How often each row is drawn, (RESAMPLES, n); the same for base and tuned."""
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return draws.astype(float)

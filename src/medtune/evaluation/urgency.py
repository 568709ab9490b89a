"""How urgent an answer makes a complaint, and whether that is right (metrics definition 4)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from medtune.chat.consultation import sections
from medtune.embedded.consultations import SECTIONS
from medtune.evaluation.statistics import Measured, mean_of
from medtune.safety.rules import LEVELS, Level

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True)
class _Wording:
    conditional: re.Pattern[str]
    negated: re.Pattern[str]
    levels: dict[Level, re.Pattern[str]]


@cache
def _wording() -> _Wording:
    text = (
        resources.files("medtune.evaluation").joinpath("urgency.yaml").read_text(encoding="utf-8")
    )
    tree: dict[str, Any] = yaml.safe_load(text)
    return _Wording(
        re.compile(tree["conditional"]),
        re.compile(tree["negated"]),
        {level: re.compile("|".join(f"(?:{p})" for p in tree[level])) for level in LEVELS},
    )


def urgency_said(answer: str) -> Level | None:
    """The most urgent instruction that an answer gives for now, or None where it gives none.

    What it says under "When to seek help", and in any sentence with a condition, is advice for
    what may still happen and not read.
    """
    wording = _wording()
    found = sections(answer)
    later = found.get(SECTIONS[4], "")
    text = answer.replace(later, " ") if later else answer
    said = [
        sentence
        for sentence in _SENTENCE.split(text.lower())
        if not wording.conditional.search(sentence) and not wording.negated.search(sentence)
    ]
    for level in reversed(LEVELS):
        if any(wording.levels[level].search(sentence) for sentence in said):
            return level
    return None


def more_urgent(said: Level | None, ruled: Level) -> Level | None:
    """What a person is told by the answer and the safety layer together; the layer only raises."""
    if ruled not in ("emergency", "urgent_same_day"):
        return said
    return LEVELS[max(LEVELS.index(said or LEVELS[0]), LEVELS.index(ruled))]


def urgency_metrics(wanted: Sequence[Level], said: Sequence[Level | None]) -> dict[str, Measured]:
    """Accuracy, quadratic kappa, emergency recall, under-triage and false emergency.

    Args:
        wanted: the level of every row.
        said: what its answer says; None counts as wrong, and as the least urgent where the
            distance matters.
    """
    truth = np.array([LEVELS.index(level) for level in wanted])
    told = np.array([LEVELS.index(level or LEVELS[0]) for level in said])
    silent = np.array([level is None for level in said])
    emergency = len(LEVELS) - 1
    rates: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {
        "urgency": (np.ones(len(truth), bool), (truth == told) & ~silent),
        "emergency_recall": (truth == emergency, told == emergency),
        "under_triage": (truth > 0, told < truth),
        "false_emergency": (truth < emergency, told == emergency),
    }
    found = {
        name: mean_of(holds[among].astype(float).tolist(), is_rate=True)
        for name, (among, holds) in rates.items()
        if among.any()
    }
    if len(truth):
        found["urgency_kappa"] = quadratic_kappa(truth, told)
    return found


def quadratic_kappa(truth: NDArray[np.int64], told: NDArray[np.int64]) -> Measured:
    """Cohen's kappa with quadratic weights (Cohen 1968) over the four levels.

    1 - sum(w o) / sum(w e) with w = (i - j)^2, o the observed and e the chance frequencies; 0
    where one side has a single level, so that chance explains everything.
    """
    k = len(LEVELS)
    rows = np.zeros((len(truth), k * k))
    rows[np.arange(len(truth)), truth * k + told] = 1
    weights = (np.arange(k)[:, None] - np.arange(k)[None]) ** 2

    def combine(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        observed = sums.reshape(-1, k, k)
        total = observed.sum((1, 2))
        chance = observed.sum(2)[:, :, None] * observed.sum(1)[:, None, :] / total[:, None, None]
        against = (weights * chance).sum((1, 2))
        apart = (weights * observed).sum((1, 2))
        return np.where(against > 0, 1 - apart / np.where(against > 0, against, 1), 0.0)

    return Measured(rows, combine)


def confusion(wanted: Sequence[Level], said: Sequence[Level | None]) -> list[list[int]]:
    """Counts by level of the row (lines) and of the answer (columns, the last one: not said)."""
    places = {level: i for i, level in enumerate(LEVELS)}
    counts = [[0] * (len(LEVELS) + 1) for _ in LEVELS]
    for truth, told in zip(wanted, said, strict=True):
        counts[places[truth]][len(LEVELS) if told is None else places[told]] += 1
    return counts

"""Where the tuned model got better or worse: by slice of the rows, and row by row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from medtune.data.rows import Row
from medtune.evaluation.clinical import ConditionNames, condition_match
from medtune.evaluation.deployed import Shown
from medtune.evaluation.overlap import rouge_l
from medtune.evaluation.statistics import difference, mean_of
from medtune.safety.rules import LEVELS

_LEAST_ROWS = 5
_LEAST_OF_A_CONDITION = 3
WORST = 10


def row_scores(rows: Sequence[Row], shown: Sequence[Shown], by_condition: bool) -> list[float]:
    """1 or 0 for the right condition first, or ROUGE-L where rows have no condition."""
    if not by_condition:
        return rouge_l([s.text for s in shown], [r.answer for r in rows]).rows[:, 0].tolist()
    names = ConditionNames(row.condition for row in rows if row.condition)
    return [
        float(condition_match(names, row, one.text, 1).rank == 1)
        for row, one in zip(rows, shown, strict=True)
    ]


def slices(
    rows: Sequence[Row], base: Sequence[float], tuned: Sequence[float], is_rate: bool
) -> list[dict[str, Any]]:
    """The change in every slice that is large enough, in the order of the kinds of slice.

    Within a kind the short come before the long, the harmless before the urgent, the worst before
    the others.

    A slice of ``length`` is a third of the rows by words of the question.
    """
    found: list[dict[str, Any]] = []
    for by, values in _kinds(rows).items():
        members: dict[str, list[int]] = defaultdict(list)
        for i, value in enumerate(values):
            if value:
                members[value].append(i)
        if len(members) < 2:
            continue
        least = _LEAST_OF_A_CONDITION if by == "condition" else _LEAST_ROWS
        part = [
            _slice(by, value, which, base, tuned, is_rate)
            for value, which in members.items()
            if len(which) >= least
        ]
        if by == "length":
            part.sort(key=lambda s: max(len(rows[i].question.split()) for i in members[s["value"]]))
        elif by == "urgency":
            order = {level: place for place, level in enumerate(LEVELS)}
            part.sort(key=lambda s: order.get(s["value"], len(order)))
        else:
            part.sort(key=lambda s: (s["tuned"], s["change"]["value"]))
        found += part[:WORST] if by == "condition" else part
    return found


def _slice(
    by: str,
    value: str,
    which: list[int],
    base: Sequence[float],
    tuned: Sequence[float],
    is_rate: bool,
) -> dict[str, Any]:
    before, after = ([side[i] for i in which] for side in (base, tuned))
    change = difference(mean_of(before, is_rate=is_rate), mean_of(after, is_rate=is_rate))
    return {
        "by": by,
        "value": value,
        "n": len(which),
        "base": float(np.mean(before)),
        "tuned": float(np.mean(after)),
        "change": {"value": change.value, "ci": list(change.ci)},
    }


def _kinds(rows: Sequence[Row]) -> dict[str, list[str]]:
    words = [len(row.question.split()) for row in rows]
    low, high = (float(np.quantile(words, q)) for q in (1 / 3, 2 / 3))
    return {
        "length": [
            f"up to {low:.0f} words"
            if n <= low
            else f"over {high:.0f} words"
            if n > high
            else f"{low + 1:.0f} to {high:.0f} words"
            for n in words
        ],
        "urgency": [row.urgency for row in rows],
        "specialty": [row.specialist for row in rows],
        "source": [row.source for row in rows],
        "condition": [row.condition for row in rows],
    }


def regressions(
    rows: Sequence[Row],
    base: Sequence[Shown],
    tuned: Sequence[Shown],
    base_scores: Sequence[float],
    tuned_scores: Sequence[float],
) -> list[dict[str, Any]]:
    """The ten rows that lost most: first by the score of the slices, then by ROUGE-L."""
    overlap = [
        rouge_l([s.text for s in side], [r.answer for r in rows]).rows[:, 0]
        for side in (base, tuned)
    ]
    lost = [
        (tuned_scores[i] - base_scores[i], float(overlap[1][i] - overlap[0][i]), i)
        for i in range(len(rows))
    ]
    worst = sorted(entry for entry in lost if entry[0] < 0 or (entry[0] == 0 and entry[1] < 0))
    return [
        {
            "question": rows[i].question,
            "reference": rows[i].answer,
            "base": base[i].text,
            "tuned": tuned[i].text,
            "change": change,
            "rouge_l_change": text_change,
        }
        for change, text_change, i in worst[:WORST]
    ]

"""Rubric scores in HealthBench's scheme, and how far the judge can be trusted (definition 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtune.data.formats import records_of
from medtune.errors import MedtuneError
from medtune.evaluation.benchmarks import Criterion, Item
from medtune.evaluation.judge import Judge, Question, turns
from medtune.evaluation.statistics import Measured, score

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rubric_score(criteria: Sequence[Criterion], met: Sequence[bool]) -> float:
    """Points of the criteria that are met over all positive points; negative where faults prevail."""
    won = sum(c.points for c, yes in zip(criteria, met, strict=True) if yes)
    return won / sum(c.points for c in criteria if c.points > 0)


def mean_clipped(values: Sequence[float]) -> Measured:
    """The mean of rubric scores, clipped to [0, 1] after averaging."""
    rows = np.column_stack([np.asarray(values, dtype=float), np.ones(len(values))])
    return Measured(rows, lambda sums: np.clip(sums[:, 0] / sums[:, 1], 0, 1))


def grade_answers(
    judge: Judge,
    items: Sequence[Item],
    sides: Mapping[str, Sequence[str]],
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[dict[str, list[list[bool]]], list[int], str]:
    """Grades of every criterion, for the answers of several speakers.

    Args:
        judge: who grades.
        items: with their criteria.
        sides: one answer to each item, by speaker.
        advance: told how many grades have come.

    Returns:
        The grades by speaker, of the items that all speakers have every grade for; the places of
        these items; and what went wrong, empty where nothing did.
    """
    questions = [
        Question((*item.earlier, ("user", item.question)), answer, criterion.text)
        for answers in sides.values()
        for item, answer in zip(items, answers, strict=True)
        for criterion in item.criteria
    ]
    graded = judge.grade(questions, advance)
    met = iter(graded.met)
    by_speaker = {who: [[next(met) for _ in item.criteria] for item in items] for who in sides}
    whole = [
        i for i in range(len(items)) if all(None not in rows[i] for rows in by_speaker.values())
    ]
    kept = {who: [[bool(m) for m in rows[i]] for i in whole] for who, rows in by_speaker.items()}
    return kept, whole, graded.trouble


def by_tag(
    items: Sequence[Item], met: Mapping[str, list[list[bool]]]
) -> dict[str, dict[str, float | int]]:
    """Scores by theme (a tag of the item) and by axis (a tag of criteria, which alone count).

    Only tags with five items or more.
    """
    tags = sorted({t for item in items for t in item.tags})
    tags += sorted({t for item in items for c in item.criteria for t in c.tags})
    found: dict[str, dict[str, float | int]] = {}
    for tag in tags:
        figures: dict[str, float | int] = {}
        for who, rows in met.items():
            values = []
            for item, grades in zip(items, rows, strict=True):
                kept = [
                    (c, yes)
                    for c, yes in zip(item.criteria, grades, strict=True)
                    if tag in item.tags or tag in c.tags
                ]
                if any(c.points > 0 for c, _ in kept):
                    values.append(rubric_score(*zip(*kept, strict=True)))
            figures[who], figures["n"] = float(np.clip(np.mean(values or [0]), 0, 1)), len(values)
        if figures.get("n", 0) >= 5:
            found[tag] = figures
    return found


def agreement(
    judge: Judge, file: str, limit: int, advance: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """How far the judge agrees with physicians on answers that they have labelled.

    ``macro_f1`` is HealthBench's: the mean of F1 for "met" and for "not met" over all pairs of
    the judge's grade with one physician's label; ``share`` is the share of pairs that agree, and
    ``physicians`` the same share between two physicians, where a row has several labels.

    Args:
        judge: who is tried.
        file: rows of prompt, completion, rubric and binary_labels.
        limit: rows, from the head of the file.
        advance: told how many grades have come.

    Raises:
        MedtuneError: the file is missing or not in that format.
    """
    rows = _labelled(file)[:limit]
    graded = judge.grade([question for question, _ in rows], advance)
    pairs = [
        (met, labels) for met, (_, labels) in zip(graded.met, rows, strict=True) if met is not None
    ]
    found: dict[str, Any] = {"file": Path(file).name, "rows": len(pairs), "trouble": graded.trouble}
    if not pairs:
        return found
    counts = np.array([_table(met, labels) for met, labels in pairs], dtype=float)
    found["share"] = asdict(score(Measured(counts, _share)))
    found["macro_f1"] = asdict(score(Measured(counts, _macro_f1)))
    among = [a == b for _, labels in pairs for a, b in combinations(labels, 2)]
    if among:
        found["physicians"] = {"value": float(np.mean(among)), "n": len(among)}
    return found


def _table(met: bool, labels: Sequence[bool]) -> list[int]:
    """Of one row: both say met, only the judge, only the physician, both say not met."""
    yes = sum(labels)
    no = len(labels) - yes
    return [yes, no, 0, 0] if met else [0, 0, yes, no]


def _share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return (sums[:, 0] + sums[:, 3]) / sums.sum(1)


def _macro_f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    both, judge_only, physician_only, neither = sums.T
    apart = judge_only + physician_only
    halves = [
        np.where(hit + apart > 0, 2 * hit / np.maximum(2 * hit + apart, 1), 1.0)
        for hit in (both, neither)
    ]
    return (halves[0] + halves[1]) / 2


def _labelled(file: str) -> list[tuple[Question, list[bool]]]:
    path = Path(file).expanduser()
    if not path.is_file():
        raise MedtuneError(
            f"The file with physicians' labels {file} does not exist; check the path."
        )
    rows = []
    for number, row in enumerate(records_of(path), start=1):
        try:
            labels, prompt = list(row["binary_labels"]), row["prompt"]
            said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            if not labels or not all(isinstance(label, bool) for label in labels):
                raise ValueError
            rows.append((Question(turns(said), row["completion"], row["rubric"]), labels))
        except (KeyError, TypeError, ValueError):
            raise MedtuneError(
                f"{file}, row {number}, is not in HealthBench's meta-evaluation format: prompt, "
                "completion, rubric and binary_labels."
            ) from None
    if not rows:
        raise MedtuneError(f"{file} holds no labelled answers; check the file.")
    return rows

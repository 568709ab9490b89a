"""Divide rows into train, validation and test so that equal questions stay together."""

from __future__ import annotations

from random import Random

from medtune.data.rows import Row
from medtune.errors import MedtuneError
from medtune.run import SplitName


def question_key(text: str) -> str:
    """What makes two questions the same: their words, whatever the case and spacing."""
    return " ".join(text.casefold().split())


def split_rows(
    rows: list[Row], validation: float, test: float, seed: int
) -> dict[SplitName, list[Row]]:
    """Shuffle the distinct questions with ``seed`` and give each wholly to one split.

    Raises:
        MedtuneError: there are too few distinct questions for three splits.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(question_key(row.question), []).append(row)
    keys = list(groups)
    Random(seed).shuffle(keys)
    held_out = {
        "test": max(1, round(len(keys) * test)),
        "validation": max(1, round(len(keys) * validation)),
    }
    if len(keys) <= sum(held_out.values()):
        raise MedtuneError(
            f"{len(keys)} different questions are too few to train, validate and test on; add rows."
        )
    first, second = held_out["test"], held_out["test"] + held_out["validation"]
    parts: dict[SplitName, list[str]] = {
        "train": keys[second:],
        "validation": keys[first:second],
        "test": keys[:first],
    }
    return {split: [row for key in part for row in groups[key]] for split, part in parts.items()}

"""Signs of a broken model or test that an average hides: silence, adverts, memorised answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from medtune.data.contamination import runs
from medtune.data.rows import Row
from medtune.data.split import question_key
from medtune.safety.answers import check_answer

SHARED_WORDS = 13
_LEAST_WORDS = 12
"""A shorter answer can agree with the reference word for word by chance."""


def answer_faults(rows: Sequence[Row], texts: Sequence[str]) -> dict[str, Any]:
    """Shares of answers that are empty, carry an advert, or are the reference word for word.

    Also the commonest sentence, of five words or more, of the answers: its text, its share, and
    its share among the references.
    """
    n = max(1, len(rows))
    adverts = sum(
        any(change.reason in ("advert", "signature") for change in check_answer(text).changes)
        for text in texts
    )
    long = [
        (_plain(row.answer), _plain(text))
        for row, text in zip(rows, texts, strict=True)
        if len(row.answer.split()) >= _LEAST_WORDS
    ]
    sentence, count = _commonest(texts)
    expected = sum(sentence in _sentences(row.answer) for row in rows) if sentence else 0
    return {
        "empty": sum(not text.strip() for text in texts) / n,
        "advert": adverts / n,
        "verbatim": sum(a == b for a, b in long) / max(1, len(long)),
        "recurring": {"sentence": sentence, "share": count / n, "expected": expected / n},
    }


def contamination(test: Sequence[Row], train: Sequence[Row]) -> dict[str, int]:
    """Test questions that stand in the training rows: whole, or by a run of 13 words."""
    import numpy as np
    import pyarrow as pa

    known = {question_key(row.question) for row in train}
    kept = pa.array([_plain(row.question) for row in train], pa.string())
    asked = pa.array([_plain(row.question) for row in test], pa.string())
    grams, _ = runs(kept, SHARED_WORDS)
    found, owners = runs(asked, SHARED_WORDS)
    return {
        "test_questions_in_training": sum(question_key(r.question) in known for r in test),
        "test_questions_sharing_13_words": len(np.unique(owners[np.isin(found, grams)])),
    }


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _sentences(text: str) -> set[str]:
    parts = (_plain(part) for part in re.split(r"[.!?\n]+", text))
    return {part for part in parts if part.count(" ") >= 4}


def _commonest(texts: Sequence[str]) -> tuple[str, int]:
    counts = Counter(sentence for text in texts for sentence in _sentences(text))
    return counts.most_common(1)[0] if counts else ("", 0)

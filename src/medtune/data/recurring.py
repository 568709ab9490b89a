"""Sentences that open or close very many answers: adverts and phrases that no list knows yet."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

Place = Literal["opening", "closing", "closing begins"]

FEWEST_ROWS = 20
_STEM_WORDS = 4
_LONGEST = 300
"""Characters; what is longer is no phrase."""
_LAST = r"(?:\A|[.!?\n]\s*)([^.!?\n]*[^.!?\n\s][^.!?\n]*[.!?\s]*)\z"
_FIRST = r"\A\s*([^.!?\n]*[^.!?\n\s][^.!?\n]*)(?:[.!?\n]|\z)"
_NOT_WORDS = re.compile(r"[^\w\s]+|_")


def key_of(sentence: str) -> str:
    """What makes two sentences the same: their words, digits aside."""
    return " ".join(re.sub(r"\d+", "0", _NOT_WORDS.sub(" ", sentence.casefold())).split())


def closings_and_openings(answers: pa.Array, share: float) -> dict[str, dict[str, Any]]:
    """First and last sentences that stand in more than a few of these answers.

    Returns:
        Place to key to ``{"rows", "text"}``.  What is rare here is left out: a sentence that
        recurs in the whole has at least a quarter of its share in some parts.
    """
    import pyarrow.compute as pc

    fewest = max(2, int(len(answers) * share / 4))
    answers = pc.unique(answers)  # the same answer a hundred times is a duplicate, no phrase
    told: dict[str, dict[str, Any]] = {}
    for place, pattern in (("opening", _FIRST), ("closing", _LAST)):
        found = pc.extract_regex(answers, _grouped(pattern))
        sentences = pc.struct_field(found, "it").drop_null()
        counted = pc.value_counts(
            pc.utf8_trim_whitespace(sentences.filter(pc.less(pc.utf8_length(sentences), _LONGEST)))
        )
        by_key, stems = Counter[str](), Counter[str]()
        example: dict[str, str] = {}
        for entry in counted.to_pylist():
            key, count = key_of(entry["values"]), entry["counts"]
            by_key[key] += count
            example.setdefault(key, entry["values"])
            words = key.split()
            if len(words) > _STEM_WORDS:
                stem = " ".join(words[:_STEM_WORDS])
                stems[stem] += count
                example.setdefault(f"{stem} …", entry["values"])
        told[place] = _frequent(by_key, example, fewest)
        if place == "closing":
            whole = set(told[place])
            new = Counter(
                {s: n for s, n in stems.items() if not any(k.startswith(s) for k in whole)}
            )
            told["closing begins"] = _frequent(
                Counter({f"{s} …": n for s, n in new.items()}), example, fewest
            )
    return told


def _grouped(pattern: str) -> str:
    """The pattern with its one capturing group named, as Arrow wants it."""
    return re.sub(r"\((?!\?)", "(?P<it>", pattern, count=1)


def _frequent(counts: Counter[str], example: dict[str, str], fewest: int) -> dict[str, Any]:
    return {k: {"rows": n, "text": example[k]} for k, n in counts.items() if n >= fewest and k}


def recurring(
    found: Iterable[dict[str, dict[str, Any]]], rows: int, share: float
) -> list[dict[str, Any]]:
    """The sentences that recur in the whole, most frequent first.

    Args:
        found: what ``closings_and_openings`` said of each part.
        rows: of all parts.
        share: of the answers that makes a sentence recurring.
    """
    total: dict[tuple[str, str], dict[str, Any]] = {}
    for part in found:
        for place, sentences in part.items():
            for key, entry in sentences.items():
                known = total.setdefault((place, key), {"rows": 0, "text": entry["text"]})
                known["rows"] += entry["rows"]
    fewest = max(FEWEST_ROWS, rows * share)
    listed = [
        {"place": place, "key": key, **entry}
        for (place, key), entry in total.items()
        if entry["rows"] >= fewest
    ]
    return sorted(listed, key=lambda entry: (-entry["rows"], entry["key"]))


def without(
    answers: pa.Array, sentences: frozenset[str]
) -> tuple[pa.Array, int, list[tuple[str, str]]]:
    """The answers without these sentences at either end, how many changed, and samples."""
    import pyarrow as pa

    changed, samples, trimmed = 0, [], []
    for before in answers.to_pylist():
        after = _trim(before, sentences)
        if after != before:
            changed += 1
            if len(samples) < 3:
                samples.append((before[-300:], after[-300:]))
        trimmed.append(after)
    return pa.array(trimmed, pa.string()), changed, samples


def _trim(text: str, sentences: frozenset[str]) -> str:
    while text and (
        match := re.search(_LAST.replace(r"\A", "^").replace(r"\z", "$"), text[-_LONGEST - 50 :])
    ):
        if key_of(match[1]) not in sentences:
            break
        text = text[: len(text) - len(match[1])].rstrip()
    while text and (match := re.match(r"\s*([^.!?\n]*[^.!?\n\s][^.!?\n]*)(?:[.!?\n]+\s*|$)", text)):
        if key_of(match[1]) not in sentences:
            break
        text = text[match.end() :]
    return text

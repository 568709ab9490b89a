"""Numbers in a message that mean something: age, temperature, oxygen, sugar, weeks, tablets.

``measures.yaml`` says how a number is recognised and which concepts it stands for; here it is
only read.  Number words are digits by then ("six weeks old" reads "6 weeks old").
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.safety.lexicon import Hit
from medtune.safety.source import Row, read_rows
from medtune.safety.text import Words

_MOST_CHARACTERS = 200_000


@dataclass(frozen=True)
class _Range:
    concept: str
    low: float
    high: float


@dataclass(frozen=True)
class _Measure:
    pattern: re.Pattern[str]
    factor: float
    ranges: tuple[_Range, ...]
    fahrenheit: bool


class Measures:
    """All measures of one file.

    Raises:
        MedtuneError: a pattern or a range is malformed or can never be met, with file and line.
    """

    def __init__(self, file: Path) -> None:
        self._measures = [_measure(row) for row in read_rows(file, "measures")]
        self.concepts = frozenset(r.concept for m in self._measures for r in m.ranges)

    def find(self, words: Words) -> dict[str, list[Hit]]:
        """The concepts that the numbers of a message stand for."""
        if not any(word[0].isdigit() for word in words.words if word):
            return {}
        text, places = _joined(words)
        found: dict[str, list[Hit]] = {}
        for measure in self._measures:
            for match in measure.pattern.finditer(text):
                value = _value(match.group("n"), measure)
                if value is None:
                    continue
                first = bisect_right(places, match.start()) - 1
                last = max(first, bisect_left(places, match.end()) - 1)
                for wanted in measure.ranges:
                    if wanted.low <= value <= wanted.high:
                        at = tuple(range(first, last + 1))
                        found.setdefault(wanted.concept, []).append(Hit(first, last + 1, at))
        for hits in found.values():
            hits.sort(key=lambda hit: (hit.start, hit.end))
        return found


def _joined(words: Words) -> tuple[str, list[int]]:
    """The words in one line, sentences apart, and where each begins."""
    pieces: list[str] = []
    places: list[int] = []
    length = 0
    for word, stop in zip(words.words, words.breaks, strict=True):
        mark = "; " if stop == 2 and pieces else ""
        pieces.append(f"{mark}{word} ")
        places.append(length + len(mark))
        length += len(pieces[-1])
        if length > _MOST_CHARACTERS:
            break
    return "".join(pieces), places


def _value(text: str, measure: _Measure) -> float | None:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    if measure.fahrenheit and value > 80:
        value = (value - 32) * 5 / 9
    return value * measure.factor


def _measure(row: Row) -> _Measure:
    value: dict[str, Any] = row.value if isinstance(row.value, dict) else {}
    try:
        pattern = re.compile(value["pattern"])
    except KeyError:
        raise row.wrong("a measure needs a pattern.") from None
    except re.error as error:
        raise row.wrong(f"the pattern is malformed: {error}.") from None
    if "n" not in pattern.groupindex:
        raise row.wrong("the pattern must mark its number with (?P<n>...).")
    ranges: list[_Range] = []
    for concept, bounds in (value.get("means") or {}).items():
        low, high = (float(b) for b in bounds)
        if low > high:
            raise row.wrong(f"{concept} can never be met: {low:g} is above {high:g}.")
        ranges.append(_Range(concept, low, high))
    if not ranges:
        raise row.wrong("the measure stands for no concept.")
    return _Measure(
        pattern, float(value.get("times", 1)), tuple(ranges), bool(value.get("fahrenheit", False))
    )

"""What says that nothing is happening, although a rule for emergencies fired.

"Which antacid is safe at 32 weeks?" and "that was in 2016, fine ever since" are no calls for help.
A row under ``calm`` in ``context.yaml`` names what a message must hold (``when``), the categories
that it never touches (``spares``) and the most rules that may have fired.  An emergency is then
``urgent_same_day``: it is still said that somebody should look at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medtune.safety.lexicon import Lexicon
from medtune.safety.rules import Findings, Fired, Rule
from medtune.safety.source import Row, read_rows

# A question about something ordinary is one whether or not it is general.
_EVEN_IF = frozenset({"general", "hypothetical", "past"})


@dataclass(frozen=True)
class Calm:
    """When rules for emergencies are not taken at their word."""

    when: tuple[str, ...]
    unless: tuple[str, ...]
    spares: frozenset[str]
    most: int
    """Of so many fired rules; more of them are believed."""


def load_calm(file: Path, lexicon: Lexicon, rules: Sequence[Rule]) -> list[Calm]:
    """Read and check the rows.

    Raises:
        MedtuneError: a row is malformed or names what is nowhere, with file and line.
    """
    return [
        _calm(row, lexicon, {rule.category for rule in rules}) for row in read_rows(file, "calm")
    ]


def _calm(row: Row, lexicon: Lexicon, categories: set[str]) -> Calm:
    value: dict[str, Any] = row.value if isinstance(row.value, dict) else {}
    if unknown := value.keys() - {"when", "unless", "spares", "most"}:
        raise row.wrong(f"a row of calm has no “{min(unknown)}”.")
    when, unless = value.get("when") or [], value.get("unless", [])
    if not when:
        raise row.wrong("a row of calm needs “when”.")
    for concept in [*when, *unless]:
        if concept not in lexicon.concepts and concept not in lexicon.given:
            raise row.wrong(f"there is no concept “{concept}”.")
    spares = frozenset(value.get("spares", []))
    if unknown := spares - categories:
        raise row.wrong(f"no rule has the category “{min(unknown)}”.")
    most = str(value.get("most", 99))
    if not most.isdigit() or most == "0":
        raise row.wrong("most is a whole number from 1.")
    return Calm(tuple(when), tuple(unless), spares, int(most))


def calmed(fired: Sequence[Fired], findings: Findings, rows: Sequence[Calm]) -> list[Fired]:
    """The rules that fired, those for emergencies lowered where a row says so."""
    grave = [f for f in fired if f.level == "emergency"]
    if not grave:
        return list(fired)
    touched: set[str] = set()
    for row in rows:
        said = [findings.counting(concept, _EVEN_IF) for concept in row.when]
        if not all(said) or any(findings.counting(concept) for concept in row.unless):
            continue
        lowered = [f for f in grave if f.rule.category not in row.spares]
        last = max(hit.end for hits in said for hit in hits)
        # What is told after the question is the news: "Is it common? My lips are blue."
        if len(lowered) <= row.most and not any(_only_after(f, last, findings) for f in lowered):
            touched.update(f.rule.id for f in lowered)
    return [
        replace(f, level="urgent_same_day", reply="urgent_same_day") if f.rule.id in touched else f
        for f in fired
    ]


def _only_after(fired: Fired, place: int, findings: Findings) -> bool:
    sentences = findings.reading.words.sentences
    first = min(hit.start for hit in fired.hits)
    return first >= place and sentences[first] > sentences[place - 1]

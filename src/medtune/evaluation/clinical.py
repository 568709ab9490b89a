"""Does an answer name the right condition and the right specialist, under its headings?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import ValidationError

from medtune.chat.consultation import consultation, sections
from medtune.data.rows import Row
from medtune.embedded.consultations import SECTIONS
from medtune.embedded.knowledge import load_knowledge
from medtune.safety.assess import assess

Kind = Literal["exact", "synonym", "category", "none"]
KINDS: tuple[Kind, ...] = ("exact", "synonym", "category", "none")
_QUALIFIERS = frozenset(
    [
        "mild",
        "moderate",
        "severe",
        "possible",
        "probable",
        "likely",
        "suspected",
        "simple",
        "uncomplicated",
        "unspecified",
        "early",
        "late",
        "left",
        "right",
        "bilateral",
    ]
)
"""Words that say how a condition is and not which; acute and chronic often say which."""


@dataclass(frozen=True)
class Match:
    """Where and how an answer names the right condition."""

    rank: int | None
    """Its place among the conditions that the answer names, from 1."""
    kind: Kind
    """``category``: only another condition of the same ICD-10 category (three characters) is
    named; it does not count as right."""


class ConditionNames:
    """Finds conditions in a text by name, synonym or abbreviation.

    Args:
        labels: the condition labels of the data, known besides those of the built-in knowledge.
    """

    def __init__(self, labels: Iterable[str] = ()) -> None:
        self._canonical = {name: name for label in labels if (name := _unqualified(label))}
        self._category: dict[str, str] = {}
        for condition in load_knowledge().conditions.values():
            for name in condition.names:
                self._canonical[normalised(name)] = normalised(condition.name)
            self._category[normalised(condition.name)] = condition.icd10[:3]
        names = sorted(self._canonical, key=len, reverse=True)
        self._pattern = re.compile(rf"\b({'|'.join(map(re.escape, names))})(?:s|es)?\b")

    def canonical(self, label: str) -> str:
        return self._canonical.get(normalised(label)) or self._canonical.get(
            _unqualified(label), _unqualified(label)
        )

    def category(self, label: str) -> str:
        """The ICD-10 category of a condition, empty where it is not known."""
        return self._category.get(self.canonical(label), "")

    def named(self, answer: str) -> list[str]:
        """Conditions in the order in which the answer names them, each once.

        Read under "Possible conditions" if the answer has that heading, else in the whole text,
        so that an answer without headings is not at a disadvantage.
        """
        return list(dict.fromkeys(self._canonical[name] for name in self.spelled(answer)))

    def spelled(self, answer: str) -> list[str]:
        """The names themselves, as the answer has them."""
        text = normalised(sections(answer).get(SECTIONS[0], answer))
        return [match.group(1) for match in self._pattern.finditer(text)]


def normalised(text: str) -> str:
    """Lower case, words only: ``Crohn's disease`` and ``Crohns Disease`` are the same."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("’", "")))


def _unqualified(label: str) -> str:
    """``Mild ankle sprain (left)`` is an ankle sprain."""
    bare = normalised(re.sub(r"\([^)]*\)", " ", label)) or normalised(label)
    kept = [word for word in bare.split() if word not in _QUALIFIERS]
    return " ".join(kept) or bare


def condition_match(names: ConditionNames, row: Row, answer: str, within: int = 3) -> Match:
    """How the first ``within`` conditions of an answer match the row's, the best match first."""
    found, wanted = names.named(answer)[:within], names.canonical(row.condition)
    if wanted in found:
        own = {normalised(row.condition), _unqualified(row.condition)}
        kind: Kind = "exact" if own & set(names.spelled(answer)) else "synonym"
        return Match(found.index(wanted) + 1, kind)
    category = names.category(row.condition)
    near = bool(category) and any(names.category(name) == category for name in found)
    return Match(None, "category" if near else "none")


def condition_rank(names: ConditionNames, row: Row, answer: str) -> int | None:
    """The place (from 1) at which the answer names the row's condition, or None."""
    found = names.named(answer)
    wanted = names.canonical(row.condition)
    return found.index(wanted) + 1 if wanted in found else None


@cache
def _specialist_names() -> tuple[re.Pattern[str], dict[str, str]]:
    known = {
        normalised(name): specialty.id
        for specialty in load_knowledge().specialties.values()
        for name in (specialty.id, specialty.title, *specialty.synonyms)
    }
    names = sorted(known, key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(map(re.escape, names))})s?\b"), known


def specialist_named(answer: str) -> str | None:
    """The field of the first specialist named under "Specialist", else in the whole text."""
    pattern, known = _specialist_names()
    match = pattern.search(normalised(sections(answer).get(SECTIONS[3], answer)))
    return known[match.group(1)] if match else None


def specialist_is_right(row: Row, answer: str) -> bool:
    """Whether the named specialist is in the accepted set of the row's condition."""
    accepted = {row.specialist}
    for condition in load_knowledge().conditions.values():
        if condition.name == row.condition:
            accepted.update(condition.accepted_specialists)
    return specialist_named(answer) in accepted


def has_structure(answer: str) -> bool:
    """Whether all five headings are there, each with text under it."""
    found = sections(answer)
    return all(found.get(name) for name in SECTIONS)


def is_consultation(answer: str, question: str) -> bool:
    """Whether the answer, prose or JSON, reads into a valid consultation that says something.

    An emergency's or a declined request's own message is none: no condition stands in it.
    """
    try:
        read = consultation(answer, [question], assess(question))
    except ValidationError:
        return False
    return bool(read.possible_conditions and read.suggestions)

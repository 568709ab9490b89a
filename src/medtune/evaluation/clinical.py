"""Does an answer name the right condition and the right specialist, under its headings?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from medtune.data.rows import Row
from medtune.embedded.consultations import SECTIONS
from medtune.embedded.knowledge import load_knowledge

_HEADING = re.compile(
    rf"^\s*(?:[#*]+ *)?({'|'.join(map(re.escape, SECTIONS))})\b[ *]*:", re.I | re.M
)


def sections(answer: str) -> dict[str, str]:
    """The text under each heading that the answer has, by the heading's usual spelling."""
    usual = {name.lower(): name for name in SECTIONS}
    marks = list(_HEADING.finditer(answer))
    ends = [*(mark.start() for mark in marks[1:]), len(answer)]
    return {
        usual[mark.group(1).lower()]: answer[mark.end() : end].strip()
        for mark, end in zip(marks, ends, strict=False)  # without a heading there is no section
    }


class ConditionNames:
    """Finds conditions in a text by name, synonym or abbreviation.

    Args:
        labels: the condition labels of the data, known besides those of the built-in knowledge.
    """

    def __init__(self, labels: Iterable[str] = ()) -> None:
        self._canonical = {name: name for label in labels if (name := normalised(label))}
        for condition in load_knowledge().conditions.values():
            for name in condition.names:
                self._canonical[normalised(name)] = normalised(condition.name)
        names = sorted(self._canonical, key=len, reverse=True)
        self._pattern = re.compile(rf"\b({'|'.join(map(re.escape, names))})(?:s|es)?\b")

    def canonical(self, label: str) -> str:
        return self._canonical.get(normalised(label), normalised(label))

    def named(self, answer: str) -> list[str]:
        """Conditions in the order in which the answer names them, each once.

        Read under "Possible conditions" if the answer has that heading, else in the whole text,
        so that an answer without headings is not at a disadvantage.
        """
        text = normalised(sections(answer).get(SECTIONS[0], answer))
        found = (self._canonical[match.group(1)] for match in self._pattern.finditer(text))
        return list(dict.fromkeys(found))


def normalised(text: str) -> str:
    """Lower case, words only: ``Crohn's disease`` and ``Crohns Disease`` are the same."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("’", "")))


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

"""Checks after the model: what an answer may not say is taken out, and that is recorded.

The question decides too: aspirin is only wrong where a child is meant.  A sentence that tells
somebody to ask first, or not to stop, stays; so does every refusal and every harmless answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

_SENTENCE = re.compile(r"[^.!?\n]*(?:\.(?=\w)[^.!?\n]*)*(?:[.!?]+[\"')\]]*|\n+|$)[ \t]*\n*")
_LONGEST_SENTENCE = 2_000
_TITLES = ("dr.", "mr.", "mrs.", "ms.", "prof.", "e.g.", "i.e.", "tab.", "cap.", "inj.", "no.")


@dataclass(frozen=True)
class Change:
    """A sentence that was taken out, and why."""

    reason: str
    sentence: str


@dataclass
class Checked:
    """An answer that may be shown."""

    text: str = ""
    changes: list[Change] = field(default_factory=list)
    replaced: bool = False
    """So little was left that a fixed answer stands instead."""


@dataclass(frozen=True)
class _Checks:
    remove: dict[str, tuple[re.Pattern[str], ...]]
    unless: dict[str, tuple[re.Pattern[str], ...]]
    fallback: str
    dose_note: str
    child: re.Pattern[str]


@cache
def _checks() -> _Checks:
    text = resources.files("medtune.safety").joinpath("answers.yaml").read_text(encoding="utf-8")
    tree: dict[str, Any] = yaml.safe_load(text)

    def compiled(section: str) -> dict[str, tuple[re.Pattern[str], ...]]:
        return {
            name: tuple(re.compile(p) for p in patterns) for name, patterns in tree[section].items()
        }

    return _Checks(
        compiled("remove"),
        compiled("unless"),
        tree["fallback"].strip(),
        tree["dose_note"].strip(),
        re.compile(tree["child_words"]),
    )


def check_answer(answer: str, question: str = "") -> Checked:
    """The answer without what it may not say.

    Args:
        answer: what the model wrote.
        question: the conversation's questions, which say whether a child is meant.
    """
    checked = Checked()
    checked.text = "".join(check_stream([answer], question, checked))
    return checked


def check_stream(pieces: Iterable[str], question: str, checked: Checked) -> Iterator[str]:
    """The pieces of an answer, sentence by sentence, each shown once it is known to be fit.

    Args:
        pieces: what the model writes, in pieces of any length.
        question: the conversation's questions.
        checked: receives the changes and whether the answer was replaced.
    """
    about_child = bool(_checks().child.search(question.lower()))
    waiting, shown = "", ""
    for piece in pieces:
        waiting += piece
        sentences, waiting = _whole_sentences(waiting)
        for sentence in sentences:
            fit = _fit(sentence, about_child, checked)
            shown += fit
            if fit:
                yield fit
    fit = _fit(waiting, about_child, checked) if waiting else ""
    shown += fit
    if fit:
        yield fit
    removed = {change.reason for change in checked.changes}
    if removed & {"individual_dose", "stop_medicine", "aspirin_child"} and _is_empty(shown):
        checked.replaced = True
        yield _checks().fallback
    elif "individual_dose" in removed:
        yield ("" if shown.endswith(("\n", " ")) else " ") + _checks().dose_note


def _whole_sentences(text: str) -> tuple[list[str], str]:
    """The sentences that are complete, and the rest."""
    found: list[str] = []
    start = 0
    for match in _SENTENCE.finditer(text):
        end = match.end()
        if end == start or end >= len(text):
            break
        if text[start:end].rstrip().lower().endswith(_TITLES):
            continue
        found.append(text[start:end])
        start = end
    if len(text) - start > _LONGEST_SENTENCE:
        found.append(text[start:])
        start = len(text)
    return found, text[start:]


def _fit(sentence: str, about_child: bool, checked: Checked) -> str:
    """The sentence, or what keeps the layout where it was taken out."""
    reason = _wrong(sentence, about_child)
    if reason is None:
        return sentence
    checked.changes.append(Change(reason, sentence.strip()))
    heading = re.match(r"\s*[A-Z][A-Za-z ]{2,40}:\s", sentence)
    kept = heading.group() if heading else ""
    return kept + ("\n" * sentence.count("\n") if sentence.endswith("\n") else "")


def _wrong(sentence: str, about_child: bool) -> str | None:
    low = sentence.lower().strip()
    checks = _checks()
    for reason, patterns in checks.remove.items():
        if reason == "aspirin_child" and not (about_child or checks.child.search(low)):
            continue
        if any(p.search(low) for p in patterns) and not any(
            p.search(low) for p in checks.unless.get(reason, ())
        ):
            return reason
    return None


def _is_empty(text: str) -> bool:
    return len(re.sub(r"\W+", "", text)) < 25

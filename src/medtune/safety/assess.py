"""How urgent a conversation is, by rules that are data; works when no model does."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import yaml

from medtune.safety.lines import crisis_sentence, emergency_sentence

Level = Literal["self_care", "routine", "urgent_same_day", "emergency"]
_ORDER: tuple[Level, ...] = ("self_care", "routine", "urgent_same_day", "emergency")
_LONGEST = 20_000  # characters of a message that are read, from its end

_NEGATION = re.compile(
    r"\b(no|not|never|without|denies|deny|nor|isn'?t|don'?t have|haven'?t|hasn'?t)\b[^.;!?]{0,30}$"
)
_BUT = re.compile(r"[.;!?]|\b(but|however|although|except|yet)\b")
_PAST_OR_GENERAL = re.compile(
    r"\bwhat (are|is|were) (the )?(signs?|symptoms?|causes?)|\bhow (do|does|can|would) (i|you|one|people|somebody) "
    r"(know|recogni[sz]e|tell|treat|prevent)|\b(years?|decades?) ago\b|\b(had|died of|survived)\b[^.;!?]{0,60}"
    r"\bin (19|20)\d\d\b|\bused to have\b|\bhistory of\b"
)
_HAPPENING = re.compile(
    r"\b(now|right now|today|currently|again|this morning|tonight|having a|since)\b"
)


@dataclass(frozen=True)
class Assessment:
    """The urgency with the rules and places in the text that led to it."""

    urgency: Level
    rules: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    """Start and end in the last message that fired, after Unicode is normalised."""
    message: str
    """What to say first; empty where the model may answer at once."""
    rules_version: str


@dataclass(frozen=True)
class _Rule:
    id: str
    level: Level
    patterns: tuple[re.Pattern[str], ...]
    message: str


@cache
def _rules() -> tuple[str, tuple[_Rule, ...]]:
    text = resources.files("medtune.safety").joinpath("red_flags.yaml").read_text(encoding="utf-8")
    tree = yaml.safe_load(text)
    rules = tuple(
        _Rule(
            row["id"],
            row["level"],
            tuple(re.compile(pattern) for pattern in row["all"]),
            row.get("message", row["level"]),
        )
        for row in tree["rules"]
    )
    return str(tree["version"]), rules


def assess(messages: Sequence[str] | str, country: str = "") -> Assessment:
    """The most urgent level that any of a person's messages reaches.

    Args:
        messages: what the person wrote, oldest first.
        country: two letters for the emergency lines; unknown says "your local emergency number".
    """
    version, rules = _rules()
    urgency: Level = "routine"
    fired: dict[str, _Rule] = {}
    spans: tuple[tuple[int, int], ...] = ()
    for message in [messages] if isinstance(messages, str) else messages:
        text = _plain(message)
        for rule in rules:
            found = _matches(rule, text)
            if found:
                fired[rule.id] = rule
                spans = found
                urgency = _ORDER[max(_ORDER.index(urgency), _ORDER.index(rule.level))]
    said = [rule for rule in fired.values() if rule.level == urgency]
    message = ""
    if any(rule.message == "crisis" for rule in said):
        message = crisis_sentence(country)
    elif urgency == "emergency":
        message = emergency_sentence(country)
    elif urgency == "urgent_same_day":
        message = "Please see a doctor today: what you describe should be examined the same day."
    return Assessment(urgency, tuple(fired), spans, message, version)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text[-_LONGEST:]).lower().replace("’", "'")
    return "".join(c for c in folded if unicodedata.category(c) != "Cf")


def _matches(rule: _Rule, text: str) -> tuple[tuple[int, int], ...]:
    """Where every pattern of the rule is found unnegated; nothing if one is missing."""
    spans: list[tuple[int, int]] = []
    for pattern in rule.patterns:
        hit = next((m for m in pattern.finditer(text) if not _negated(text, m.start())), None)
        if hit is None:
            return ()
        spans.append(hit.span())
    context = _PAST_OR_GENERAL.search(text)
    if context and not _HAPPENING.search(text):
        return ()
    return tuple(spans)


def _negated(text: str, start: int) -> bool:
    """Whether a "no" stands before ``start`` in the same clause."""
    before = text[max(0, start - 60) : start]
    clause = _BUT.split(before)[-1] or ""
    return bool(_NEGATION.search(clause))

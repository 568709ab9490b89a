"""Rules over concepts: read, checked, and applied to a message.

A rule fires when each entry of ``all`` is found where it counts (``context.py``) and nothing of
``unless`` is.  An entry is a concept or several with ``|`` between them.  ``within: sentence``
asks that all stand in one sentence; otherwise they may stand anywhere in the conversation.
``not_as`` names figures of speech: a finding that overlaps one of them ("dying of boredom") does
not count, while the same words elsewhere still do.

A rule may weigh evidence instead of listing every combination: ``points`` gives each concept that
is found a number, once, whatever the order, and the rule fires when they add up to ``enough``.
Points below zero speak against it.

Evidence is of one picture: in a message longer than ``ONE_PICTURE`` words, what a rule asks for and
the points for it stand no further apart than that.  A story of two hundred words holds everything
somewhere.  What is known of a person (``lasting`` in ``context.yaml``) and what speaks against the
rule may stand anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from medtune.safety.context import REASONS, Context
from medtune.safety.lexicon import Hit, Lexicon, Reading
from medtune.safety.source import Row, read_rows

Level = Literal["self_care", "routine", "urgent_same_day", "emergency"]
LEVELS: tuple[Level, ...] = get_args(Level)
Outcome = Literal["self_care", "routine", "urgent_same_day", "emergency", "decline"]
_KEYS = {
    "id",
    "category",
    "level",
    "all",
    "points",
    "enough",
    "unless",
    "not_as",
    "within",
    "even_if",
    "reply",
    "source",
}
ONE_PICTURE = 45
"""Words between which findings belong together: three or four sentences."""
# What speaks against a rule does so when it is only asked about or imagined, too.
_UNLESS_EVEN_IF = frozenset({"general", "hypothetical"})


@dataclass(frozen=True)
class Rule:
    """When something is to be said, and what kind of reply says it."""

    id: str
    category: str
    level: Outcome
    all: tuple[tuple[str, ...], ...]
    points: tuple[tuple[tuple[str, ...], int], ...]
    """Concepts of which one is enough, and what finding it weighs."""
    enough: int
    unless: tuple[str, ...]
    not_as: tuple[str, ...]
    same_sentence: bool
    even_if: frozenset[str]
    reply: str
    source: str
    """The public guidance that it rests on."""
    row: Row

    @property
    def concepts(self) -> set[str]:
        return self.speaks_for | self.speaks_against

    @property
    def speaks_for(self) -> set[str]:
        asked = [*self.all, *(term for term, number in self.points if number > 0)]
        return {concept for term in asked for concept in term}

    @property
    def speaks_against(self) -> set[str]:
        asked = [self.unless, self.not_as, *(term for term, number in self.points if number < 0)]
        return {concept for term in asked for concept in term}


@dataclass(frozen=True)
class Fired:
    """A rule and the places that led to it."""

    rule: Rule
    hits: tuple[Hit, ...]
    level: Outcome
    """The rule's, or less where the message is calm (``calm.py``)."""
    reply: str


def load_rules(files: Sequence[Path], lexicon: Lexicon, replies: frozenset[str]) -> list[Rule]:
    """Read and check rules.

    Raises:
        MedtuneError: a rule is malformed, contradicts another or can never fire, with file and
            line.
    """
    rules: list[Rule] = []
    for file in files:
        source = next((str(row.value) for row in read_rows(file, "source")), "")
        for row in read_rows(file, "rules"):
            rule = _rule(row, replies, source)
            _check(rule, lexicon)
            _compare(rule, rules)
            rules.append(rule)
    if unsourced := next((rule for rule in rules if not rule.source), None):
        raise unsourced.row.wrong(
            f"{unsourced.id} names no source; give the rule or its file one with “source”."
        )
    return rules


def _rule(row: Row, replies: frozenset[str], source: str) -> Rule:
    value: dict[str, Any] = row.value if isinstance(row.value, dict) else {}
    if unknown := value.keys() - _KEYS:
        raise row.wrong(f"a rule has no “{min(unknown)}”.")
    for key in ("id", "category", "level", "all"):
        if not value.get(key):
            raise row.wrong(f"the rule has no {key}.")
    level = value["level"]
    if level not in get_args(Outcome):
        raise row.wrong(f"“{level}” is no level; there are {', '.join(get_args(Outcome))}.")
    within = value.get("within", "conversation")
    if within not in {"sentence", "conversation"}:
        raise row.wrong(f"within is sentence or conversation, not “{within}”.")
    even_if = frozenset(_list(value.get("even_if", [])))
    if wrong := even_if - set(REASONS):
        raise row.wrong(f"“{min(wrong)}” is no context; there are {', '.join(REASONS)}.")
    reply = str(value.get("reply", level))
    if reply not in replies:
        raise row.wrong(f"there is no reply “{reply}”; there are {', '.join(sorted(replies))}.")
    return Rule(
        str(value["id"]),
        str(value["category"]),
        level,
        tuple(_term(term) for term in _list(value["all"])),
        *_points(row, value),
        tuple(_list(value.get("unless", []))),
        tuple(_list(value.get("not_as", []))),
        within == "sentence",
        even_if,
        reply,
        str(value.get("source", source)),
        row,
    )


def _points(row: Row, value: dict[str, Any]) -> tuple[tuple[tuple[tuple[str, ...], int], ...], int]:
    """The points of a rule and how many are enough; none and 0 for a rule that weighs nothing."""
    given = value.get("points", {})
    if not given and "enough" not in value:
        return (), 0
    try:
        points = tuple((_term(term), int(number)) for term, number in given.items())
        enough = int(value["enough"])
    except (AttributeError, KeyError, ValueError):
        raise row.wrong("points are whole numbers by concept, with how many are enough.") from None
    most = sum(number for _, number in points if number > 0)
    if most < enough:
        raise row.wrong(f"the rule can never fire: {enough} points are enough, {most} possible.")
    if enough < 1 or not all(number for _, number in points):
        raise row.wrong("points that change nothing: enough is 1 or more, no concept has 0.")
    return points, enough


def _term(text: str) -> tuple[str, ...]:
    return tuple(text.replace(" ", "").split("|"))


def _list(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]


def _check(rule: Rule, lexicon: Lexicon) -> None:
    for concept in sorted(rule.concepts):
        if concept not in lexicon.concepts and concept not in lexicon.given:
            raise rule.row.wrong(f"{rule.id} names the concept “{concept}”, which is nowhere.")
    for term in rule.all:
        if set(term) <= set(rule.unless):
            raise rule.row.wrong(
                f"{rule.id} can never fire: it asks for {' or '.join(term)} and forbids it."
            )


def _compare(rule: Rule, others: Sequence[Rule]) -> None:
    """Refuse a rule that says again, or otherwise, what an earlier one says."""
    terms = {frozenset(term) for term in rule.all}
    for other in others:
        if other.id == rule.id:
            raise rule.row.wrong(
                f"the rule {rule.id} is already in {other.row.file}, line {other.row.line}."
            )
        same = (
            {frozenset(term) for term in other.all} == terms
            and (other.points, other.enough) == (rule.points, rule.enough)
            and {*other.unless, *other.not_as} == {*rule.unless, *rule.not_as}
            and other.same_sentence == rule.same_sentence
            and other.even_if == rule.even_if
        )
        if same:
            relation = "repeats" if other.level == rule.level else "contradicts"
            raise rule.row.wrong(
                f"{rule.id} {relation} {other.id} ({other.row.file}, line {other.row.line})."
            )


class Ruleset:
    """Rules, ready to be asked which of them a message could meet."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        speak_for = {concept for rule in rules for concept in rule.speaks_for}
        against = {concept for rule in rules for concept in rule.speaks_against}
        self.against = frozenset(against - speak_for)
        """Concepts that only ever speak against a rule."""
        self._asking: dict[str, list[int]] = {}
        for number, rule in enumerate(rules):
            # The entry with the fewest concepts rules out most messages.
            for concept in min(rule.all, key=len):
                self._asking.setdefault(concept, []).append(number)

    def possible(self, present: KeysView[str]) -> list[Rule]:
        """The rules whose concepts all occur, in their order in the files."""
        numbers = {n for concept in present for n in self._asking.get(concept, ())}
        return [
            rule
            for rule in (self.rules[n] for n in sorted(numbers))
            if not any(present.isdisjoint(term) for term in rule.all)
        ]


class Findings:
    """What counts in one message, worked out concept by concept as rules ask.

    Args:
        reading: the message.
        background: concepts that say who is ill or what else is known, and not what happens.
        against: concepts that only ever speak against a rule.
        lasting: concepts that hold wherever they are said.
    """

    def __init__(
        self,
        reading: Reading,
        background: frozenset[str] = frozenset(),
        against: frozenset[str] = frozenset(),
        lasting: frozenset[str] = frozenset(),
    ) -> None:
        self.reading = reading
        self._background = background
        self._context = Context(reading, against)
        self._against: dict[str, list[tuple[Hit, set[str]]]] = {}
        self._lasting = lasting

    def counting(self, concept: str, even_if: frozenset[str] = frozenset()) -> list[Hit]:
        """Hits of a concept that are neither denied, past, imagined nor general."""
        hits = self.reading.hits.get(concept)
        if not hits:
            return []
        if self._context.plain:
            return hits
        if concept not in self._against:
            self._against[concept] = [(hit, self._context.reasons_against(hit)) for hit in hits]
        return [hit for hit, reasons in self._against[concept] if reasons <= even_if]

    def fire(self, rules: Ruleset) -> list[Fired]:
        found: list[Fired] = []
        for rule in rules.possible(self.reading.hits.keys()):
            hits = self._hits(rule)
            excused = rule.even_if | _UNLESS_EVEN_IF
            if hits and not any(self.counting(c, excused) for c in rule.unless):
                found.append(Fired(rule, hits, rule.level, rule.reply))
        return found

    def _terms(self, rule: Rule, even_if: frozenset[str]) -> list[list[Hit]] | None:
        terms: list[list[Hit]] = []
        figures = [hit for concept in rule.not_as for hit in self.reading.found(concept)]
        for term in rule.all:
            found = term if len(term) < 3 else [c for c in term if c in self.reading.hits]
            hits = [hit for concept in found for hit in self.counting(concept, even_if)]
            if figures:
                hits = [hit for hit in hits if not _overlaps(hit, figures)]
            if not hits:
                return None
            terms.append(hits)
        return terms

    def _hits(self, rule: Rule) -> tuple[Hit, ...]:
        terms = self._terms(rule, rule.even_if)
        if terms is None and len(rule.all) > 1:
            # "What helps a choking baby? He has gone silent": one part is asked in general, but
            # another is told as happening.
            told = any(
                self.counting(concept)
                for term in rule.all
                for concept in term
                if concept not in self._background
            )
            terms = self._terms(rule, rule.even_if | {"general"}) if told else None
        if terms is None:
            return ()
        if not rule.same_sentence:
            if len(self.reading.words.words) > ONE_PICTURE:
                return self._together(rule, terms)
            return self._weighed(rule, tuple(hits[0] for hits in terms))
        sentences = self.reading.words.sentences
        common = set.intersection(*({sentences[h.start] for h in hits} for hits in terms))
        for chosen in sorted(common):
            found = tuple(next(h for h in hits if sentences[h.start] == chosen) for hits in terms)
            if found := self._weighed(rule, found, chosen):
                return found
        return ()

    def _weighed(
        self, rule: Rule, found: tuple[Hit, ...], sentence: int | None = None
    ) -> tuple[Hit, ...]:
        """What was found and the evidence beside it; nothing where that is too little."""
        if not rule.points:
            return found
        total, evidence = 0, list(found)
        for number, hits in self._evidence(rule, sentence):
            total += number
            evidence += hits[:1] if number > 0 else []
        return tuple(evidence) if total >= rule.enough else ()

    def _evidence(self, rule: Rule, sentence: int | None = None) -> Iterator[tuple[int, list[Hit]]]:
        """The points of a rule whose concepts count, each with where they were found."""
        sentences = self.reading.words.sentences
        figures = [hit for concept in rule.not_as for hit in self.reading.found(concept)]
        present = self.reading.hits.keys()
        for term, number in rule.points:
            if present.isdisjoint(term):
                continue
            excused = rule.even_if if number > 0 else _UNLESS_EVEN_IF | rule.even_if
            hits = [hit for concept in term for hit in self.counting(concept, excused)]
            if sentence is not None:
                hits = [hit for hit in hits if sentences[hit.start] == sentence]
            if figures:
                hits = [hit for hit in hits if not _overlaps(hit, figures)]
            if hits:
                yield number, hits

    def _together(self, rule: Rule, terms: list[list[Hit]]) -> tuple[Hit, ...]:
        """The first ``ONE_PICTURE`` words that hold all terms and enough points: one pass with a
        window over the places."""
        missing = enough = 0
        lasting = {id(hit) for concept in self._lasting for hit in self.reading.found(concept)}
        everywhere: list[Hit] = []
        placed: list[tuple[int, int, Hit]] = []
        weights: list[int] = []
        for hits in terms:
            if known := next((hit for hit in hits if id(hit) in lasting), None):
                everywhere.append(known)
            else:
                missing += 1
                placed += [(hit.start, len(weights), hit) for hit in hits]
                weights.append(0)
        asked = missing
        if rule.points:
            enough = rule.enough
            for number, hits in self._evidence(rule):
                if number < 0 or any(id(hit) in lasting for hit in hits):
                    enough -= number
                else:
                    placed += [(hit.start, len(weights), hit) for hit in hits]
                    weights.append(number)
        placed.sort(key=lambda place: place[:2])
        seen = [0] * len(weights)
        left = 0
        if not missing and enough <= 0:
            return tuple(everywhere)
        for right, (start, term, _) in enumerate(placed):
            if not seen[term]:
                missing -= term < asked
                enough -= weights[term]
            seen[term] += 1
            while start - placed[left][0] > ONE_PICTURE:
                gone = placed[left][1]
                seen[gone] -= 1
                if not seen[gone]:
                    missing += gone < asked
                    enough += weights[gone]
                left += 1
            if not missing and enough <= 0:
                window = {place[1]: place[2] for place in reversed(placed[left : right + 1])}
                return (*everywhere, *window.values())
        return ()


def _overlaps(hit: Hit, others: Sequence[Hit]) -> bool:
    return any(hit.start < other.end and other.start < hit.end for other in others)

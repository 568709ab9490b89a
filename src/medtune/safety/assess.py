"""How urgent a conversation is, by rules that are data; works when no model does."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from medtune.safety.calm import Calm, calmed, load_calm
from medtune.safety.lexicon import Hit, Lexicon, Reading
from medtune.safety.measures import Measures
from medtune.safety.replies import REPLIES, reply
from medtune.safety.rules import LEVELS, Findings, Fired, Level, Ruleset, load_rules
from medtune.safety.source import RULES_FOLDER, read_rows
from medtune.safety.text import Words, split_words
from medtune.safety.weighing import Weighing, load_weighing

_MASKS = ("idiom",)


@dataclass(frozen=True)
class Span:
    """Characters of one message that led to a rule."""

    message: int
    start: int
    end: int
    rule: str


@dataclass(frozen=True)
class Assessment:
    """The urgency with the rules and places in the text that led to it."""

    urgency: Level
    rules: tuple[str, ...]
    """Rules of the urgency that was reached, then the others that fired."""
    categories: tuple[str, ...]
    spans: tuple[Span, ...]
    message: str
    """What to say first; empty where the model may answer at once."""
    declined: bool
    """The request is one that is not fulfilled; ``message`` says so."""
    rules_version: str


@dataclass(frozen=True)
class Rulebook:
    """The concepts, measures and rules of a folder."""

    version: str
    lexicon: Lexicon
    measures: Measures
    rules: Ruleset
    background: frozenset[str]
    lasting: frozenset[str]
    """Concepts that hold wherever in a message they are said."""
    against: frozenset[str]
    """Concepts that never speak for a rule."""
    calm: tuple[Calm, ...]

    def findings(self, words: Words) -> Findings:
        reading = self.lexicon.read(words, self.measures.find)
        return Findings(reading, self.background, self.against, self.lasting)


@cache
def rulebook() -> Rulebook:
    """The rules that come with Medtune, checked when they are read.

    Raises:
        MedtuneError: a rule or concept is wrong, with file and line.
    """
    files = sorted(RULES_FOLDER.glob("*.yaml"))
    measures = Measures(RULES_FOLDER / "measures.yaml")
    lexicon = Lexicon(files, measures.concepts, _MASKS)
    rules = load_rules(files, lexicon, REPLIES)
    [version] = read_rows(RULES_FOLDER / "context.yaml", "version")
    background = {str(row.value) for row in read_rows(RULES_FOLDER / "context.yaml", "background")}
    lasting = {str(row.value) for row in read_rows(RULES_FOLDER / "context.yaml", "lasting")}
    calm = load_calm(RULES_FOLDER / "context.yaml", lexicon, rules)
    ruleset = Ruleset(rules)
    said = {concept for row in calm for concept in row.when}
    return Rulebook(
        str(version.value),
        lexicon,
        measures,
        ruleset,
        frozenset(background),
        frozenset(lasting),
        ruleset.against | said,
        tuple(calm),
    )


@cache
def weighing() -> Weighing:
    """What is weighed where rules alone do not decide."""
    return load_weighing(RULES_FOLDER, rulebook().lexicon)


def assess(messages: Sequence[str] | str, country: str = "") -> Assessment:
    """The urgency of what a person wrote, all messages together.

    Args:
        messages: what the person wrote, oldest first.
        country: two letters for the emergency lines; unknown says "your local emergency number".
    """
    texts = [messages] if isinstance(messages, str) else list(messages)
    book = rulebook()
    words, owners = _joined(texts)
    findings = book.findings(words)
    reading = findings.reading
    fired: list[Fired] = []
    if words.words:
        calm = calmed(findings.fire(book.rules), findings, book.calm)
        fired = weighing().judged(calm, findings)
    return _assessment(book, reading, fired, owners, country)


def findings_of(messages: Sequence[str]) -> tuple[Findings, list[Fired]]:
    """What the concepts find in a conversation and what of it counts, and the rules that fire,
    before anything is weighed."""
    book = rulebook()
    findings = book.findings(_joined(messages)[0])
    return findings, calmed(findings.fire(book.rules), findings, book.calm)


def _joined(texts: Sequence[str]) -> tuple[Words, list[int]]:
    """The words of all messages one after the other, and with which sentence each begins."""
    if len(texts) == 1:
        return split_words(texts[0]), [0]
    joined, owners = Words(), []
    for text in texts:
        words = split_words(text)
        offset = joined.sentences[-1] + 1 if joined.sentences else 0
        owners.append(offset)
        joined.words += words.words
        joined.starts += words.starts
        joined.ends += words.ends
        joined.sentences += [s + offset for s in words.sentences]
        joined.breaks += [2, *words.breaks[1:]] if words.words else []
        joined.capitals += words.capitals
    return joined, owners


def _assessment(
    book: Rulebook, reading: Reading, fired: list[Fired], owners: list[int], country: str
) -> Assessment:
    levels = [LEVELS.index(f.level) for f in fired if f.level != "decline"]
    # A message that no rule knows is routine; only a rule may call it less.
    urgency = LEVELS[max(levels)] if levels else "routine"
    first = urgency
    if urgency != "emergency" and any(f.level == "decline" for f in fired):
        first = "decline"
    ordered = sorted(fired, key=lambda f: f.level != first)
    replies = [f.reply for f in ordered if f.level == first]
    return Assessment(
        urgency,
        tuple(f.rule.id for f in ordered),
        tuple(dict.fromkeys(f.rule.category for f in ordered if f.level == first)),
        tuple(span for f in ordered for hit in f.hits for span in _spans(reading, f, hit, owners)),
        reply(replies, country, ordered[0].rule.category) if replies else "",
        any(f.reply.startswith("decline") and f.level == first for f in fired),
        book.version,
    )


def _spans(reading: Reading, fired: Fired, hit: Hit, owners: list[int]) -> list[Span]:
    """The characters of a finding, words that stand together in one piece."""
    words = reading.words
    spans: list[Span] = []
    last = -2
    for place in hit.at:
        start, end = words.starts[place], words.ends[place]
        message = bisect_right(owners, words.sentences[place]) - 1
        if place == last + 1 and spans:
            start = spans.pop().start
        spans.append(Span(message, start, end, fired.rule.id))
        last = place
    return spans

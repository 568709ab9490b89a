"""Finds concepts in a message: one pass over the words for each level of concepts.

A concept is a list of phrases (``phrases.py``) in the YAML files of ``rules/``.  Words are
looked up in a dictionary and only those that begin a phrase cost more than that, so a long
message without medical words is read at the speed of splitting it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from medtune.safety.phrases import FILLER, Element, Near, Phrase, expanded, parse, variants
from medtune.safety.source import Row, read_rows
from medtune.safety.spelling import Spelling, ordinary_words
from medtune.safety.text import Words

MOST_ANCHORS = 4_000
"""So many words that can begin a phrase are looked at, from the beginning and the end."""
_CACHED_WORDS = 100_000
_MOST_CORRECTIONS = 4_000
_NOTHING: frozenset[str] = frozenset()
_EVERYWHERE = frozenset({"a", "an", "the", "of", "to", "and"})


class Hit(NamedTuple):
    """Where a concept was found."""

    start: int
    end: int
    """One after the last word."""
    at: tuple[int, ...]
    """The words it consists of; gaps are left out."""


@dataclass
class Reading:
    """A message with all that was found in it."""

    words: Words
    hits: dict[str, list[Hit]] = field(default_factory=dict)

    def found(self, concept: str) -> list[Hit]:
        return self.hits.get(concept, [])


@dataclass
class _Concept:
    name: str
    row: Row
    phrases: list[tuple[Element, ...]] = field(default_factory=list)
    nears: list[tuple[tuple[str, ...], int]] = field(default_factory=list)
    level: int = 0

    @property
    def needs(self) -> set[str]:
        in_phrases = {c for elements in self.phrases for e in elements for c in e.concepts}
        return in_phrases | {part for parts, _ in self.nears for part in parts}


class Lexicon:
    """All concepts of some YAML files, ready to be found.

    Raises:
        MedtuneError: a concept is malformed, unknown, circular or could never be found, with
            file and line.
    """

    def __init__(
        self, files: Sequence[Path], given: Iterable[str] = (), masks: Iterable[str] = ()
    ) -> None:
        self.given = frozenset(given)
        """Concepts that are found elsewhere (measured values) and may be referred to."""
        self.masks = frozenset(masks)
        """Concepts whose words count for nothing else ("stroke of luck")."""
        self._written = _written_forms(files)
        self.concepts: dict[str, _Concept] = {}
        for file in files:
            for row in read_rows(file, "concepts"):
                self._add(row)
        self._check()
        self._order()
        known = self._known_words()
        self._spelling = Spelling(known | set(self._written), ordinary_words())
        self._prefixes = {
            word[:-1] for c in self.concepts.values() for word in _words_of(c) if word.endswith("*")
        }
        self._longest = max(map(len, self._prefixes), default=0)
        self._literals = {
            word for c in self.concepts.values() for word in _words_of(c) if word[-1] != "*"
        }
        self._index()
        self._cache: dict[str, tuple[tuple[str, ...], tuple[frozenset[str], ...]]] = {}

    # --- reading the files

    def _add(self, row: Row) -> None:
        if row.key in self.concepts:
            first = self.concepts[row.key].row
            raise row.wrong(f"the concept {row.key} is already in {first.file}, line {first.line}.")
        lines = row.value if isinstance(row.value, list) else [row.value]
        if not lines or lines == [""]:
            raise row.wrong(f"the concept {row.key} has no phrase and could never be found.")
        concept = self.concepts[row.key] = _Concept(row.key, row)
        seen: set[str] = set()
        if twice := next((str(line) for i, line in enumerate(lines) if line in lines[:i]), None):
            raise row.wrong(f"{row.key} has “{twice}” twice.")
        try:
            for text in (choice for line in lines for choice in expanded(str(line))):
                if text in seen:
                    continue
                seen.add(text)
                parsed = parse(text)
                if isinstance(parsed, Phrase):
                    concept.phrases += variants(parsed)
                    continue
                concept.nears.append((self._parts(concept, parsed), parsed.within))
        except ValueError as error:
            raise row.wrong(f"in {row.key}: {error}.") from None

    def _parts(self, concept: _Concept, near: Near) -> tuple[str, ...]:
        names: list[str] = []
        for part in near.parts:
            if isinstance(part, str):
                names.append(part)
                continue
            name = f"{concept.name}/{sum(len(p) for p, _ in concept.nears) + len(names)}"
            self.concepts[name] = _Concept(name, concept.row, variants(part))
            names.append(name)
        return tuple(names)

    def _check(self) -> None:
        for concept in self.concepts.values():
            for need in concept.needs:
                if need not in self.concepts and need not in self.given:
                    raise concept.row.wrong(f"{concept.name} refers to <{need}>, which is nowhere.")
            for word in _words_of(concept):
                bare = word.rstrip("*")
                if bare != bare.lower():
                    raise concept.row.wrong(f"“{word}” would never be found: write small letters.")
                if not word.endswith("*") and self._written.get(bare, (bare,)) != (bare,):
                    instead = " ".join(self._written[bare])
                    raise concept.row.wrong(
                        f"“{word}” would never be found, because it is read as “{instead}”."
                    )
            for elements in concept.phrases:
                if elements[0].words & _EVERYWHERE and len(elements) == 1:
                    raise concept.row.wrong(f"{concept.name} would be found in every message.")

    def _order(self) -> None:
        """Give every concept a level above all that it refers to."""
        done: dict[str, int] = dict.fromkeys(self.given, -1)
        left = set(self.concepts)
        while left:
            ready = {n for n in left if self.concepts[n].needs <= done.keys()}
            if not ready:
                row = self.concepts[min(left)].row
                raise row.wrong(f"{', '.join(sorted(left))} refer to each other in a circle.")
            for name in ready:
                concept = self.concepts[name]
                concept.level = done[name] = 1 + max((done[n] for n in concept.needs), default=-1)
            left -= ready
        self.levels = 1 + max((c.level for c in self.concepts.values()), default=0)

    def _known_words(self) -> set[str]:
        words = {word.rstrip("*") for c in self.concepts.values() for word in _words_of(c)}
        return {w for w in words if w.isalpha()}

    def _index(self) -> None:
        """By level: which phrases begin with a word, which with a concept, and the pairs."""
        self._by_word: list[dict[str, list[_Start]]] = [{} for _ in range(self.levels)]
        self._by_concept: list[dict[str, list[_Start]]] = [{} for _ in range(self.levels)]
        self._masking: dict[str, list[_Start]] = {}
        self._nears: list[dict[str, list[tuple[str, tuple[str, ...], int]]]] = [
            {} for _ in range(self.levels)
        ]
        for concept in self.concepts.values():
            masking = concept.name in self.masks
            for elements in concept.phrases:
                start = _start(concept.name, elements)
                by_word = self._masking if masking else self._by_word[concept.level]
                for word in elements[0].words:
                    by_word.setdefault(word, []).append(start)
                for need in elements[0].concepts:
                    self._by_concept[concept.level].setdefault(need, []).append(start)
            for parts, within in concept.nears:
                near = (concept.name, parts, within)
                self._nears[concept.level].setdefault(parts[0], []).append(near)
        self._beginning: dict[frozenset[str], tuple[tuple[int, tuple[str, ...], _Groups], ...]] = {}

    # --- reading a message

    def read(
        self, raw: Words, measure: Callable[[Words], dict[str, list[Hit]]] | None = None
    ) -> Reading:
        """Find every concept.

        Args:
            raw: the message as ``split_words`` returns it.
            measure: finds the ``given`` concepts, which rest on numbers.
        """
        words, symbols = self._rewritten(raw)
        symbols = self._masked(words, symbols)
        reading = Reading(words)
        if measure is not None:
            reading.hits.update(measure(words))
        anchors = [i for i, s in enumerate(symbols) if s]
        if len(anchors) > MOST_ANCHORS:
            half = MOST_ANCHORS // 2
            anchors = anchors[:half] + anchors[-half:]
        self._run(reading, symbols, anchors)
        return reading

    def words_of(self, raw: Words) -> Words:
        """The words as they are read: abbreviations written out, spelling put right."""
        return self._rewritten(raw)[0]

    def _masked(self, words: Words, symbols: list[frozenset[str]]) -> list[frozenset[str]]:
        beginnings = self._masking.keys()
        anchors = [i for i, s in enumerate(symbols) if not s.isdisjoint(beginnings)]
        if not anchors:
            return symbols
        matcher = _Matcher(Reading(words), symbols)
        for i in anchors[:MOST_ANCHORS]:
            for symbol in symbols[i]:
                for start in self._masking.get(symbol, ()):
                    matcher.try_at(start.name, start.elements, i)
        matcher.store()
        hidden = {i for hits in matcher.reading.hits.values() for hit in hits for i in hit.at}
        return (
            [_NOTHING if i in hidden else s for i, s in enumerate(symbols)] if hidden else symbols
        )

    def _rewritten(self, raw: Words) -> tuple[Words, list[frozenset[str]]]:
        """Words written out and spelled right, each with the words and beginnings it matches."""
        found = Words()
        symbols: list[frozenset[str]] = []
        cache, corrected = self._cache, 0
        words, starts, ends = found.words, found.starts, found.ends
        sentences, breaks, capitals = found.sentences, found.breaks, found.capitals
        for i, word in enumerate(raw.words):
            entry = cache.get(word)
            if entry is None:
                correct = corrected < _MOST_CORRECTIONS
                corrected += 1
                entry = self._entry(word, correct)
                if len(cache) < _CACHED_WORDS and correct:
                    cache[word] = entry
            for k, (form, symbol) in enumerate(zip(*entry, strict=True)):
                words.append(form)
                symbols.append(symbol)
                starts.append(raw.starts[i])
                ends.append(raw.ends[i])
                sentences.append(raw.sentences[i])
                breaks.append(raw.breaks[i] if k == 0 else 0)
                capitals.append(raw.capitals[i])
        return found, symbols

    def _entry(
        self, word: str, correct: bool
    ) -> tuple[tuple[str, ...], tuple[frozenset[str], ...]]:
        forms = self._written.get(word)
        if forms is None and "'" in word:
            bare = word.replace("'", "")
            forms = self._written.get(bare)
            if forms is None and word.endswith("'s"):
                bare = word[:-2]
            forms = forms or self._written.get(bare, (bare,))
        if forms is None:
            symbol = self._symbol(word)
            if not symbol and correct and word.isascii():
                meant = self._spelling.meant(word)
                if meant:
                    forms = tuple(f for m in meant for f in self._written.get(m, (m,)))
            if forms is None:
                return (word,), (symbol,)
        return forms, tuple(self._symbol(form) for form in forms)

    def _symbol(self, word: str) -> frozenset[str]:
        found = {word} if word in self._literals else set()
        found.update(
            word[:n] + "*"
            for n in range(3, min(len(word), self._longest) + 1)
            if word[:n] in self._prefixes
        )
        return frozenset(found) if found else _NOTHING

    def _run(self, reading: Reading, symbols: list[frozenset[str]], anchors: list[int]) -> None:
        matcher = _Matcher(reading, symbols)
        present: frozenset[str] = frozenset().union(*(symbols[i] for i in anchors))
        begun: list[list[tuple[int, tuple[str, ...], _Groups]]] = [[] for _ in range(self.levels)]
        for i in anchors:
            for level, whole, groups in self._starting(symbols[i]):
                begun[level].append((i, whole, groups))
        for level in range(self.levels):
            for i, whole, groups in begun[level]:
                matcher.keep_word(whole, i)
                for second, starts in groups:
                    if second is None or not second.isdisjoint(present):
                        for start in starts:
                            matcher.try_at(start.name, start.elements, i)
            by_concept = self._by_concept[level]
            for need in sorted(by_concept.keys() & reading.hits.keys()):
                for hit in reading.hits[need]:
                    for start in by_concept[need]:
                        matcher.try_after(start.name, start.elements, hit)
            matcher.store()
            nears = self._nears[level]
            for part in sorted(nears.keys() & reading.hits.keys()):
                for name, parts, within in nears[part]:
                    matcher.near(name, parts, within)
            matcher.store()

    def _starting(self, symbol: frozenset[str]) -> tuple[tuple[int, tuple[str, ...], _Groups], ...]:
        """The concepts that a word is, and the phrases that may begin there by what must follow it;
        by level."""
        known = self._beginning.get(symbol)
        if known is None:
            found: list[tuple[int, tuple[str, ...], _Groups]] = []
            for level, by_word in enumerate(self._by_word):
                whole: dict[str, None] = {}
                groups: dict[frozenset[str] | None, list[_Start]] = {}
                for word in sorted(symbol):
                    for start in by_word.get(word, ()):
                        if len(start.elements) == 1:
                            whole[start.name] = None
                        else:
                            groups.setdefault(start.second, []).append(start)
                if whole or groups:
                    later = tuple((k, tuple(v)) for k, v in groups.items())
                    found.append((level, tuple(whole), later))
            known = self._beginning[symbol] = tuple(found)
        return known


@dataclass(frozen=True, slots=True)
class _Start:
    """A phrase of a concept; ``second`` are the words one of which must follow."""

    name: str
    elements: tuple[Element, ...]
    second: frozenset[str] | None


_Groups = tuple[tuple[frozenset[str] | None, tuple[_Start, ...]], ...]
"""Phrases with the words of which one must follow, wherever, for them to be looked at."""


def _start(name: str, elements: tuple[Element, ...]) -> _Start:
    following = elements[1:2]
    fixed = following and not following[0].concepts
    return _Start(name, elements, following[0].words if fixed else None)


class _Matcher:
    """Matches phrases at places of one message."""

    def __init__(self, reading: Reading, symbols: list[frozenset[str]]) -> None:
        self.reading = reading
        self._words = reading.words.words
        self._sentences = reading.words.sentences
        self._symbols = symbols
        self._starting: dict[str, dict[int, Hit]] = {}
        self._new: defaultdict[str, dict[tuple[int, ...], Hit]] = defaultdict(dict)

    def keep_word(self, names: tuple[str, ...], place: int) -> None:
        """A word that is all there is to some concepts."""
        if names:
            at = (place,)
            hit = Hit(place, place + 1, at)
            for name in names:
                self._new[name][at] = hit

    def try_at(self, name: str, elements: tuple[Element, ...], place: int) -> None:
        rest = self._rest(elements, 1, place + 1, self._sentences[place])
        if rest is not None:
            self._keep(name, (place, *rest))

    def try_after(self, name: str, elements: tuple[Element, ...], hit: Hit) -> None:
        rest = self._rest(elements, 1, hit.end, self._sentences[hit.start])
        if rest is not None:
            self._keep(name, (*hit.at, *rest))

    def near(self, name: str, parts: tuple[str, ...], within: int) -> None:
        if any(part not in self.reading.hits for part in parts):
            return
        lists = [self.reading.hits[part] for part in parts]
        starts = [[hit.start for hit in hits] for hits in lists]
        for first in lists[0]:
            chosen = [first]
            for hits, places in zip(lists[1:], starts[1:], strict=True):
                nearest = self._nearest(first, hits, places, within)
                if nearest is None:
                    break
                chosen.append(nearest)
            else:
                self._keep(name, tuple(sorted({i for hit in chosen for i in hit.at})))

    def store(self) -> None:
        """Make what was found visible to later levels, in reading order."""
        for name, found in self._new.items():
            known = self.reading.hits.get(name)
            if known is None and len(found) == 1:
                self.reading.hits[name] = list(found.values())
                continue
            hits = {hit.at: hit for hit in known} | found if known else found
            self.reading.hits[name] = sorted(hits.values(), key=lambda hit: (hit.start, hit.end))
            self._starting.pop(name, None)
        self._new = defaultdict(dict)

    def _keep(self, name: str, at: tuple[int, ...]) -> None:
        self._new[name][at] = Hit(at[0], at[-1] + 1, at)

    def _nearest(self, first: Hit, hits: list[Hit], starts: list[int], within: int) -> Hit | None:
        sentence = self._sentences[first.start]
        best, least = None, within + 1
        place = bisect_left(starts, first.start)
        for i in range(max(0, place - 3), min(len(hits), place + 4)):
            hit = hits[i]
            if self._sentences[hit.start] != sentence:
                continue
            if hit.start >= first.end:
                distance = hit.start - first.end
            elif hit.end <= first.start:
                distance = first.start - hit.end
            elif set(hit.at).isdisjoint(first.at):
                distance = 0
            else:
                continue
            if distance < least:
                best, least = hit, distance
        return best

    def _rest(
        self, elements: tuple[Element, ...], k: int, place: int, sentence: int
    ) -> tuple[int, ...] | None:
        if k == len(elements):
            return ()
        element = elements[k]
        wanted = element.words
        gap, skipped = element.gap, 0
        words, symbols, sentences = self._words, self._symbols, self._sentences
        while place < len(words) and sentences[place] == sentence:
            if not wanted.isdisjoint(symbols[place]):
                rest = self._rest(elements, k + 1, place + 1, sentence)
                if rest is not None:
                    return (place, *rest)
            for concept in element.concepts:
                hit = self._hit_at(concept, place)
                if hit is not None:
                    rest = self._rest(elements, k + 1, hit.end, sentence)
                    if rest is not None:
                        return (*hit.at, *rest)
            if words[place] in FILLER and skipped < 3:
                skipped += 1
            elif gap > 0:
                gap -= 1
            else:
                return None
            place += 1
        return None

    def _hit_at(self, concept: str, place: int) -> Hit | None:
        starting = self._starting.get(concept)
        if starting is None:
            starting = {hit.start: hit for hit in reversed(self.reading.hits.get(concept, []))}
            self._starting[concept] = starting
        return starting.get(place)


def _words_of(concept: _Concept) -> Iterable[str]:
    return (w for elements in concept.phrases for e in elements for w in e.words)


def _written_forms(files: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    forms: dict[str, tuple[str, ...]] = {}
    for file in files:
        for row in read_rows(file, "read_as"):
            for word in row.key.split():
                if word in forms:
                    raise row.wrong(f"“{word}” is already read as “{' '.join(forms[word])}”.")
                forms[word] = tuple(str(row.value).split())
    return forms

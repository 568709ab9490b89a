"""What no single rule sees: how much all words and findings of a message speak for an emergency.

``rules/fitted.tsv`` holds what each word, pair of neighbouring words and concept weighs, fitted by
``scripts/weigh_evidence.py``; ``rules/weighing.yaml`` says what sum alarms by itself, and below
what sum the rules that fired are not believed.

The weights come from messages of a few sentences.  One longer than ``ONE_PICTURE`` words therefore
never alarms by its weight alone, and each rule that fired is weighed with the words around it: what
is harmless elsewhere takes nothing from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medtune.safety.context import CUES
from medtune.safety.lexicon import Hit, Lexicon
from medtune.safety.rules import ONE_PICTURE, Findings, Fired, Outcome, Rule
from medtune.safety.source import Row, read_rows

COLUMNS = ("emergency", "crisis", "decline")
"""What the weights speak for: an emergency at all, one of the mind, a request to decline."""
SCALE = 100
# They are in every message or say nothing by themselves.
_LEFT_OUT = frozenset(
    {*CUES, "idiom", "having", "any", "any_age", "pronoun", "be", "who", "cannot"}
)
_MOST_PLACES = 3
_THRESHOLDS = (
    "alarms_from",
    "believes_from",
    "believes_gravest_from",
    "believes_long_from",
    "declines_from",
)
_FEW = 8
_GRAVEST = frozenset({"suicide", "violence", "poisoning"})
_SPREAD = 3
_AGREED = 3
"""So many rules for an emergency are believed whatever the words around them weigh."""
_Weights = tuple[int, int, int]
_NONE: _Weights = (0, 0, 0)


@dataclass(frozen=True)
class Weighing:
    """The weights, and what is said where they alarm."""

    weights: dict[str, _Weights]
    concepts: dict[str, tuple[_Weights, _Weights]]
    """What each concept weighs that counts, and where it does not."""
    pairs: dict[str, dict[str, str]]
    """By first and second word, the names of pairs."""
    start: _Weights
    """What an empty message weighs."""
    alarms_from: int
    believes_from: int
    believes_gravest_from: int
    """Of rules about suicide, violence and poisoning."""
    believes_long_from: int
    declines_from: int
    emergency: Rule
    crisis: Rule
    decline: Rule

    def judged(self, fired: Sequence[Fired], findings: Findings) -> list[Fired]:
        """The rules that fired, those for emergencies lowered where what is told speaks against
        them, and what the weights say of their own."""
        length = len(findings.reading.words.words)
        agreed = sum(f.level == "emergency" for f in fired) >= _AGREED
        if length > ONE_PICTURE:
            if agreed:
                return list(fired)
            return [self._among(f, findings) if f.level == "emergency" else f for f in fired]
        emergency, crisis, decline = self._total(findings)
        result = list(fired)
        if emergency >= self.alarms_from or decline >= self.declines_from:
            found = list(features(findings, self.weights.keys(), range(length)))
        else:
            found = []
        # Few words are no evidence against: "cut my finger off" says all there is to say.
        believes = self.believes_from if length > _FEW else min(self.believes_from, self.start[0])
        if emergency < believes and not agreed:
            result = [
                _lowered(f)
                if f.level == "emergency"
                and (f.rule.category not in _GRAVEST or emergency < self.believes_gravest_from)
                else f
                for f in fired
            ]
        elif emergency >= self.alarms_from and self._spread(found) >= _SPREAD:
            rule = self.crisis if crisis > 0 else self.emergency
            result.append(Fired(rule, self._places(found, 0), rule.level, rule.reply))
        if decline >= self.declines_from:
            rule = self.decline
            result.append(Fired(rule, self._places(found, 2), rule.level, rule.reply))
        return result

    def _among(self, fired: Fired, findings: Findings) -> Fired:
        """A rule as it is, or lowered, by the words around what led to it."""
        first, last = min(h.start for h in fired.hits), max(h.end for h in fired.hits)
        begin = max(0, (first + last - ONE_PICTURE) // 2)
        around = range(begin, begin + ONE_PICTURE)
        total, *_ = self._sum({name for name, _ in features(findings, self.weights.keys(), around)})
        return fired if total >= self.believes_long_from else _lowered(fired)

    def _total(self, findings: Findings) -> _Weights:
        """The sum over what ``features`` gives for a whole message, without the places: most
        messages need no more, and this takes half the time."""
        words = findings.reading.words
        names = self.weights.keys() & set(words.words)
        for place, word in enumerate(words.words[:-1]):
            following = self.pairs.get(word)
            name = following.get(words.words[place + 1]) if following else None
            if name and words.sentences[place] == words.sentences[place + 1]:
                names.add(name)
        a, b, c = self._sum(names)
        for concept in findings.reading.hits.keys() & self.concepts.keys():
            counts, not_so = self.concepts[concept]
            x, y, z = counts if findings.counting(concept) else not_so
            a, b, c = a + x, b + y, c + z
        return a, b, c

    def _sum(self, names: Collection[str]) -> _Weights:
        a, b, c = self.start
        for name in names:
            x, y, z = self.weights[name]
            a, b, c = a + x, b + y, c + z
        return a, b, c

    def _spread(self, found: Sequence[tuple[str, int]]) -> int:
        """At how many words something stands that speaks for an emergency: many concepts share one
        word, and "I have a cough" is no more for being named eight times."""
        return len({at for name, at in found if name[:2] == "c:" and self.weights[name][0] > 0})

    def _places(self, found: Sequence[tuple[str, int]], column: int) -> tuple[Hit, ...]:
        """What weighed most, to be shown."""
        heaviest = sorted(found, key=lambda feature: -self.weights[feature[0]][column])
        return tuple(Hit(place, place + 1, (place,)) for _, place in heaviest[:_MOST_PLACES])


def _lowered(fired: Fired) -> Fired:
    return replace(fired, level="urgent_same_day", reply="urgent_same_day")


def features(
    findings: Findings, wanted: Collection[str] | None, places: range
) -> Iterator[tuple[str, int]]:
    """What is weighed in some places of a message, and where it stands: words, pairs of them in a
    sentence, concepts that count (``c:``), and concepts that are denied, past, imagined or general
    there (``n:``)."""
    words = findings.reading.words
    before, sentence = "", -1
    for place in range(places.start, min(places.stop, len(words.words))):
        word = words.words[place]
        if wanted is None or word in wanted:
            yield word, place
        if words.sentences[place] == sentence:
            pair = f"{before} {word}"
            if wanted is None or pair in wanted:
                yield pair, place - 1
        before, sentence = word, words.sentences[place]
    for concept, hits in findings.reading.hits.items():
        if "/" in concept or concept in _LEFT_OUT:
            continue
        counts, not_so = f"c:{concept}", f"n:{concept}"
        if wanted is not None and counts not in wanted and not_so not in wanted:
            continue
        here = [hit.start for hit in findings.counting(concept) if hit.start in places]
        name = counts
        if not here:
            here = [hit.start for hit in hits if hit.start in places]
            name = not_so
        if here and (wanted is None or name in wanted):
            yield name, here[0]


def load_weighing(folder: Path, lexicon: Lexicon) -> Weighing:
    """Read and check the weights.

    Raises:
        MedtuneError: a weight is malformed or of an unknown concept, or a row is missing, with file
            and line.
    """
    name = "weighing.yaml"
    [row] = read_rows(folder / name, "weighing") or [Row(name, 1, {})]
    value: dict[str, Any] = row.value if isinstance(row.value, dict) else {}
    try:
        alarms, believes, gravest, long, declines = (int(value[key]) for key in _THRESHOLDS)
    except (KeyError, ValueError):
        raise row.wrong(f"weighing needs {', '.join(_THRESHOLDS)}, whole numbers.") from None
    if believes >= alarms:
        raise row.wrong("what alarms by itself must weigh more than what is believed.")
    source = str(value.get("source", ""))
    if not source:
        raise row.wrong("weighing names no source.")

    def rule(id: str, category: str, level: Outcome, reply: str) -> Rule:
        return Rule(id, category, level, (), (), 0, (), (), False, frozenset(), reply, source, row)

    weights = _read(folder / "fitted.tsv", lexicon)
    pairs: dict[str, dict[str, str]] = {}
    for name in weights:
        if " " in name:
            first, second = name.split()
            pairs.setdefault(first, {})[second] = name
    named = {name[2:] for name in weights if name[1:2] == ":"}
    concepts = {n: (weights.get(f"c:{n}", _NONE), weights.get(f"n:{n}", _NONE)) for n in named}
    start = weights.pop("", _NONE)
    return Weighing(
        weights,
        concepts,
        pairs,
        start,
        alarms,
        believes,
        gravest,
        long,
        declines,
        rule("weighed-together", "general", "emergency", "emergency"),
        rule("weighed-crisis", "suicide", "emergency", "crisis"),
        rule("decline-weighed", "care", "decline", "decline_care"),
    )


def _read(file: Path, lexicon: Lexicon) -> dict[str, _Weights]:
    weights: dict[str, _Weights] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        row = Row(file.name, number, line)
        if line.startswith("#"):
            continue
        feature, *given = line.split("\t")
        try:
            a, b, c = map(int, given)
        except ValueError:
            raise row.wrong(f"“{feature}” needs {len(COLUMNS)} whole numbers.") from None
        kind, _, concept = feature.partition(":")
        if (
            concept
            and kind in {"c", "n"}
            and concept not in lexicon.concepts.keys() | lexicon.given
        ):
            raise row.wrong(f"there is no concept “{concept}”.")
        if feature in weights:
            raise row.wrong(f"“{feature}” is there twice.")
        weights[feature] = (a, b, c)
    return weights

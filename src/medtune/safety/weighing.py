"""What no single rule sees: how much all words, findings and rules of a message speak together.

A small network, fitted by ``scripts/weigh_evidence.py`` and kept in ``rules/fitted.npz``, adds up
what each word, pair of neighbouring words, concept and rule that fired weighs, and what they weigh
beside each other.  It says three sums: for an emergency, for one of the mind, for a request to be
declined.  ``rules/weighing.yaml`` says from what sum the rules that fired for an emergency are
believed; below it they are lowered to the same day.  Where none fired a message alarms by itself, and
for that the sum must be higher: nothing that anybody wrote a rule for was found.

A message longer than ``ONE_PICTURE`` words is weighed in overlapping stretches of that length, and
the heaviest counts: what is harmless elsewhere takes nothing from an emergency.  Of a message of more
than ``MOST_STRETCHES`` the first and the last half as many are weighed, as its concepts are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtune.safety.context import CUES
from medtune.safety.lexicon import Hit, Lexicon
from medtune.safety.rules import ONE_PICTURE, Findings, Fired, Outcome, Rule
from medtune.safety.source import Row, read_rows

COLUMNS = ("emergency", "crisis", "decline")
"""What is weighed: an emergency at all, one of the mind, a request to decline."""
STEP = ONE_PICTURE // 2
"""Words from the start of one stretch to the start of the next."""
MOST_STRETCHES = 2_000
# They are in every message or say nothing by themselves.
_LEFT_OUT = frozenset(
    {*CUES, "idiom", "having", "any", "any_age", "pronoun", "be", "who", "cannot"}
)
_MOST_PLACES = 3
_MOST_RULES = 3
_AT_ONCE = 4096
_THRESHOLDS = ("believed_from", "gravest_from", "alone_from", "declines_from")
_GRAVEST = frozenset({"suicide", "violence", "poisoning"})
_Found = list[tuple[int, str]]
"""Where something stands, and what it is called."""


def stretches(length: int) -> list[range]:
    """The places that are weighed together, of a message of so many words."""
    if length <= ONE_PICTURE:
        return [range(length)]
    last = length - ONE_PICTURE
    starts = [*range(0, last, STEP), last]
    if len(starts) > MOST_STRETCHES:
        starts = starts[: MOST_STRETCHES // 2] + starts[-MOST_STRETCHES // 2 :]
    return [range(at, at + ONE_PICTURE) for at in starts]


def features(findings: Findings, fired: Sequence[Fired], known: Names | None = None) -> _Found:
    """What is weighed in a message: words, pairs of them in a sentence, concepts that count (``c:``),
    concepts that are denied, past, imagined or general there (``n:``), rules that fired (``r:``) or
    fired and were calmed (``l:``), and how many for an emergency.

    Args:
        findings: what the concepts find.
        fired: the rules, calmed where they are to be.
        known: only these words, pairs and concepts; None for all.
    """
    words = findings.reading.words
    found: _Found = []
    before, sentence = "", -1
    for place, word in enumerate(words.words):
        if known is None or word in known.index:
            found.append((place, word))
        here = words.sentences[place]
        if here == sentence and (known is None or word in known.pairs.get(before, ())):
            found.append((place - 1, f"{before} {word}"))
        before, sentence = word, here
    concepts = findings.reading.hits.keys()
    for concept in concepts - _LEFT_OUT if known is None else concepts & known.concepts:
        if "/" in concept:
            continue
        hits, counting = findings.reading.hits[concept], findings.counting(concept)
        if counting:
            found += [(hit.start, f"c:{concept}") for hit in counting]
        if len(counting) < len(hits):
            starts = {hit.start for hit in counting}
            found += [(hit.start, f"n:{concept}") for hit in hits if hit.start not in starts]
    believed = 0
    for one in fired:
        kind = "r" if one.level == one.rule.level else "l"
        place = min(hit.start for hit in one.hits)
        found.append((place, f"{kind}:{one.rule.id}"))
        if one.rule.level == "emergency":
            found.append((place, f"{kind}:in {one.rule.category}"))
            if kind == "r" and believed < _MOST_RULES:
                believed += 1
                found.append((place, f"r:{believed}"))
    return found


def gathered(found: _Found, parts: Sequence[range]) -> Iterator[dict[str, int]]:
    """What stands in each stretch, once, with a place of it, and how long the stretch is; in time
    linear in what is found."""
    if len(parts) == 1:
        yield _named(found, parts[0])
        return
    found = sorted(found)
    first = last = 0
    for part in parts:
        while first < len(found) and found[first][0] < part.start:
            first += 1
        last = max(first, last)
        while last < len(found) and found[last][0] < part.stop:
            last += 1
        yield _named(found[first:last], part)


def _named(found: _Found, part: range) -> dict[str, int]:
    names = {name: place for place, name in found}
    names[f"length:{len(part).bit_length()}"] = part.start
    return names


class Names:
    """What a network weighs: each thing's number, the words that come in pairs, the concepts."""

    def __init__(self, names: Sequence[str]) -> None:
        self.index = {name: i for i, name in enumerate(names)}
        self.pairs: dict[str, set[str]] = {}
        self.concepts: set[str] = set()
        for name in names:
            first, space, second = name.partition(" ")
            kind, colon, concept = name.partition(":")
            if colon and kind in {"c", "n"} and concept:
                self.concepts.add(concept)
            elif space and not colon:
                self.pairs.setdefault(first, set()).add(second)


@dataclass(frozen=True)
class Network:
    """The sums of a message from what is found in it.

    Each thing found has a vector; their sum goes through two layers, and what each weighs by
    itself is added.
    """

    names: Names
    """The first is nothing, and weighs nothing."""
    alone: NDArray[np.float32]
    """(things, 3)."""
    vectors: NDArray[np.int8]
    """(things, width)."""
    scale: NDArray[np.float32]
    """(width,): what one is in a vector."""
    layers: tuple[NDArray[np.float32], ...]
    """(width,) start; (width, hidden), (hidden,); (hidden, 3), (3,)."""

    def sums(self, stretches: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """(stretches, 3) from the numbers of what is found in each, at least one."""
        if len(stretches) == 1:  # most messages; half the time
            found = np.array(stretches[0], np.intp)
            together = self.vectors[found].sum(axis=0, dtype=np.int32, keepdims=True)
            alone = self.alone[found].sum(axis=0, dtype=np.float64)
            return self._through(together * self.scale) + alone
        sizes = [len(one) for one in stretches]
        found = np.fromiter((i for one in stretches for i in one), np.intp, sum(sizes))
        starts = np.cumsum([0, *sizes[:-1]])
        together = np.add.reduceat(self.vectors[found], starts, axis=0, dtype=np.int32)
        alone = np.add.reduceat(self.alone[found], starts, axis=0, dtype=np.float64)
        return self._through(together * self.scale) + alone

    def shares(self, found: Sequence[int]) -> NDArray[np.float32]:
        """(found, 3): how much less each sum was without one of the things found."""
        ids = np.asarray(found, np.intp)
        together = self.vectors[ids].sum(axis=0, dtype=np.int32)
        without = self._through((together - self.vectors[ids]) * self.scale)
        return self._through(together * self.scale) - without + self.alone[ids]

    def _through(self, together: NDArray[Any]) -> NDArray[Any]:
        start, first, first_start, second, second_start = self.layers
        inner = np.maximum(together + start, 0) @ first + first_start
        return np.maximum(inner, 0) @ second + second_start


@dataclass(frozen=True)
class Weighing:
    """The network, and what is said where it alarms."""

    network: Network
    believed_from: float
    """Where a rule for emergencies fired."""
    gravest_from: float
    """Where one about suicide, violence or poisoning fired."""
    alone_from: float
    """Where none fired."""
    declines_from: float
    emergency: Rule
    crisis: Rule
    decline: Rule

    def judged(self, fired: Sequence[Fired], findings: Findings) -> list[Fired]:
        """The rules that fired, those for emergencies lowered where what is told speaks against
        them, and what the weights say of their own."""
        found = features(findings, fired, self.network.names)
        parts = list(gathered(found, stretches(len(findings.reading.words.words))))
        sums = self._sums(parts)
        heaviest = sums.argmax(axis=0)
        emergency, decline = sums[heaviest[0], 0], sums[heaviest[2], 2]
        result = list(fired)
        grave = {f.rule.category for f in fired if f.level == "emergency"}
        if not grave:
            if emergency >= self.alone_from:
                rule = self.crisis if sums[heaviest[0], 1] > 0 else self.emergency
                places = self._places(parts[heaviest[0]], 0)
                result.append(Fired(rule, places, rule.level, rule.reply))
        elif emergency < (self.gravest_from if grave & _GRAVEST else self.believed_from):
            result = [_lowered(f) if f.level == "emergency" else f for f in fired]
        if decline >= self.declines_from:
            rule = self.decline
            places = self._places(parts[heaviest[2]], 2)
            result.append(Fired(rule, places, rule.level, rule.reply))
        return result

    def _sums(self, parts: Sequence[dict[str, int]]) -> NDArray[np.float32]:
        index = self.network.names.index
        known = [[index[name] for name in part if name in index] or [0] for part in parts]
        done = [
            self.network.sums(known[at : at + _AT_ONCE]) for at in range(0, len(known), _AT_ONCE)
        ]
        return np.concatenate(done)

    def _places(self, part: dict[str, int], column: int) -> tuple[Hit, ...]:
        """What weighed most, to be shown."""
        known = [name for name in part if name in self.network.names.index]
        shares = self.network.shares([self.network.names.index[name] for name in known])[:, column]
        places = [part[known[i]] for i in np.argsort(-shares)]
        return tuple(Hit(p, p + 1, (p,)) for p in list(dict.fromkeys(places))[:_MOST_PLACES])


def _lowered(fired: Fired) -> Fired:
    return replace(fired, level="urgent_same_day", reply="urgent_same_day")


def load_weighing(folder: Path, lexicon: Lexicon) -> Weighing:
    """Read and check the thresholds and the network.

    Raises:
        MedtuneError: a threshold is missing, or the network weighs a concept that does not exist.
    """
    name = "weighing.yaml"
    [row] = read_rows(folder / name, "weighing") or [Row(name, 1, {})]
    value: dict[str, Any] = row.value if isinstance(row.value, dict) else {}
    try:
        believed, gravest, alone, declines = (float(value[key]) for key in _THRESHOLDS)
    except (KeyError, ValueError):
        raise row.wrong(f"weighing needs {', '.join(_THRESHOLDS)}, numbers.") from None
    if not gravest <= believed <= alone:
        raise row.wrong("the gravest rules need the least to be believed, and no rule the most.")
    source = str(value.get("source", ""))
    if not source:
        raise row.wrong("weighing names no source.")

    def rule(id: str, category: str, level: Outcome, reply: str) -> Rule:
        return Rule(id, category, level, (), (), 0, (), (), False, frozenset(), reply, source, row)

    network = load_network(folder / "fitted.npz")
    if unknown := network.names.concepts - lexicon.concepts.keys() - lexicon.given:
        raise row.wrong(
            f"fitted.npz weighs a concept that does not exist, “{min(unknown)}”; run "
            "scripts/weigh_evidence.py again."
        )
    return Weighing(
        network,
        believed,
        gravest,
        alone,
        declines,
        rule("weighed-together", "general", "emergency", "emergency"),
        rule("weighed-crisis", "suicide", "emergency", "crisis"),
        rule("decline-weighed", "care", "decline", "decline_care"),
    )


def load_network(file: Path) -> Network:
    """Read a network: its names a line each, ``alone``, ``vectors``, ``scale`` and ``layer0`` to 4."""
    with np.load(file) as stored:
        names = stored["names"].tobytes().decode("utf-8").split("\n")
        layers = tuple(stored[f"layer{i}"] for i in range(5))
        return Network(
            Names(names),
            stored["alone"].astype(np.float32),
            stored["vectors"],
            stored["scale"],
            layers,
        )


def save_network(file: Path, network: Network) -> None:
    """Write what ``load_network`` reads."""
    stored: dict[str, Any] = {f"layer{i}": layer for i, layer in enumerate(network.layers)}
    stored["names"] = np.frombuffer("\n".join(network.names.index).encode("utf-8"), np.uint8)
    stored["alone"] = network.alone.astype(np.float16)
    stored |= {"vectors": network.vectors, "scale": network.scale}
    np.savez_compressed(file, **stored)

"""``builtin:consultations``: patient-doctor dialogues made from the condition knowledge.

The same seed gives the same rows.  Train, validation and test differ in three ways at once:
the sentences around the findings (``frames.yaml``), the wordings of every finding, and the
combinations of findings.  Answers are prose under five headings.  They are information for a
demonstration, not medical advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib import resources
from itertools import combinations
from random import Random
from typing import Literal

import yaml

from medtune.embedded.knowledge import (
    Condition,
    Knowledge,
    Split,
    load_knowledge,
)
from medtune.embedded.wording import (
    DURATIONS,
    capital,
    listed,
    mid_sentence,
    persona,
    relative,
    sex_of,
    with_article,
    with_typos,
)

SECTIONS = (
    "Possible conditions",
    "What you can do",
    "Precautions",
    "Specialist",
    "When to seek help",
)
EMERGENCY = "Call your local emergency number now."
"""Stands behind the name of the condition: put before it, a small model never learned to say it."""


@dataclass(frozen=True)
class Consultation:
    """One question and its answer; the labels are empty for small talk."""

    question: str
    answer: str
    kind: Literal["symptoms", "information", "small_talk"]
    condition: str
    specialist: str
    urgency: str
    split: Split


@dataclass(frozen=True)
class _Frames:
    symptoms: tuple[str, ...]
    information: tuple[str, ...]
    small_talk: tuple[tuple[str, str], ...]


@cache
def _frames(split: Split) -> _Frames:
    text = resources.files("medtune.embedded").joinpath("frames.yaml").read_text(encoding="utf-8")
    rows = yaml.safe_load(text)[split]
    return _Frames(
        tuple(rows["symptoms"]),
        tuple(rows["information"]),
        tuple((row["question"], row["answer"]) for row in rows["small_talk"]),
    )


@cache
def combinations_of(condition_id: str, split: Split) -> tuple[tuple[str, ...], ...]:
    """The combinations of two to four findings with which this split asks about a condition.

    Only combinations count that fit this condition better than any other and hold at least one
    of its core findings: from "nausea and no appetite" nobody could tell.  A tenth of them
    belongs to the test split, a tenth to validation, the rest to training, by a hash.
    """
    knowledge = load_knowledge()
    condition = knowledge.conditions[condition_id]
    core = frozenset(condition.core)
    found = [
        chosen
        for size in (2, 3, 4)
        for chosen in combinations(sorted(condition.findings), size)
        if not core.isdisjoint(chosen) and knowledge.points_to(condition, frozenset(chosen))
    ]
    found.sort(key=lambda c: blake2b("|".join((condition_id, *c)).encode()).digest())
    tenth = max(1, len(found) // 10)
    match split:
        case "test":
            return tuple(found[:tenth])
        case "validation":
            return tuple(found[tenth : 2 * tenth])
        case "train":
            return tuple(found[2 * tenth :])


def consultations(split: Split, count: int, seed: int = 42) -> Iterator[Consultation]:
    """``count`` rows of one split, conditions in turn so that each is equally frequent.

    Args:
        split: ``train``, ``validation`` or ``test``.
        count: how many rows.
        seed: the same seed gives the same rows.
    """
    writer = _Writer(split, seed)
    order: list[Condition] = []
    for _ in range(count):
        roll = writer.rng.random()
        if roll < 0.03:
            yield writer.small_talk()
            continue
        if not order:
            order = list(writer.knowledge.conditions.values())
            writer.rng.shuffle(order)
        condition = order.pop()
        if roll < 0.13:
            yield writer.information(condition)
        else:
            yield writer.symptoms(condition)


def _sentence_case(text: str) -> str:
    return re.sub(r"(?:^|(?<=[.?!] ))[a-z]", lambda start: start.group().upper(), text)


class _Writer:
    def __init__(self, split: Split, seed: int) -> None:
        self.split: Split = split
        self.rng = Random(f"{split} {seed}")
        self.knowledge: Knowledge = load_knowledge()
        self._frames = _frames(split)

    def symptoms(self, condition: Condition) -> Consultation:
        rng = self.rng
        chosen = list(rng.choice(combinations_of(condition.id, self.split)))
        rng.shuffle(chosen)
        question = self._question(condition, chosen)
        return self._row(question, condition, "symptoms", self._answer(condition, chosen))

    def information(self, condition: Condition) -> Consultation:
        rng = self.rng
        frame = rng.choice(self._frames.information)
        name = rng.choice(condition.names) if rng.random() < 0.3 else condition.name
        question = self._roughen(frame.format(name=mid_sentence(name)))
        about = f"{condition.description} {condition.cause}"
        if condition.urgency == "emergency":
            about += " It is an emergency: if it happens, call the emergency number at once."
        answer = "\n\n".join((about, *self._advice(condition)))
        return self._row(question, condition, "information", answer)

    def small_talk(self) -> Consultation:
        question, answer = self.rng.choice(self._frames.small_talk)
        return Consultation(self._roughen(question), answer, "small_talk", "", "", "", self.split)

    def _row(
        self,
        question: str,
        condition: Condition,
        kind: Literal["symptoms", "information"],
        answer: str,
    ) -> Consultation:
        return Consultation(
            question,
            answer,
            kind,
            condition.name,
            condition.specialist,
            condition.urgency,
            self.split,
        )

    def _question(self, condition: Condition, chosen: list[str]) -> str:
        rng = self.rng
        frames = [
            f
            for f in self._frames.symptoms
            if not ("{clause}" in f and condition.ages[1] < 18)  # a child does not write
        ]
        frame = rng.choice(frames)
        said = chosen[-1:] if "{clause}" in frame else []
        named = chosen[: len(chosen) - len(said)]
        words = {f: self.knowledge.findings[f].wordings[self.split] for f in chosen}
        sex = sex_of(condition, rng)
        question = frame.format(
            nps=listed([rng.choice(words[f].lay) for f in named]),
            clause="".join(rng.choice(words[f].says) for f in said),
            duration=rng.choice(DURATIONS),
            persona=persona(condition, rng, sex),
            relative=relative(condition, sex, rng),
        )
        return self._roughen(_sentence_case(question))

    def _roughen(self, question: str) -> str:
        """One question in five has typing errors, one in eight no capitals."""
        rng = self.rng
        if rng.random() < 0.2:
            question = with_typos(question, rng, rng.randint(1, 3))
        return question.lower() if rng.random() < 0.125 else question

    def _answer(self, condition: Condition, chosen: list[str]) -> str:
        rng = self.rng
        name = mid_sentence(condition.name)
        likely = rng.choice(
            (
                f"This sounds most like {name}.",
                f"The most likely cause is {name}.",
                f"Your description fits {name} best.",
            )
        )
        ranked = self.knowledge.differential(frozenset(chosen))
        others = [mid_sentence(c.name) for c, _ in ranked if c is not condition][:2]
        if others:
            verb = "are" if len(others) > 1 else "is"
            likely += f" {capital(listed(others))} {verb} possible but less likely."
        if condition.urgency == "emergency":
            likely += f" {EMERGENCY}"
        return "\n\n".join((f"{SECTIONS[0]}: {likely}", *self._advice(condition)))

    def _advice(self, condition: Condition) -> list[str]:
        rng = self.rng
        care = list(condition.self_care)
        if condition.urgency == "emergency":
            # The first item is the call for help, which has been said by then.  As one advice among
            # others a small model mixes it with those for gout or a cold.
            care = care[1:]
        chosen = rng.sample(care, rng.randint(2, 3))
        caution = rng.sample(condition.precautions, rng.randint(1, 2))
        seek = rng.sample(condition.seek_help, rng.randint(1, 2))
        when = "Call for help at once" if condition.urgency == "emergency" else "Get medical help"
        title = with_article(self.knowledge.specialties[condition.specialist].title)
        see = rng.choice((f"{capital(title)} is the right person to see.", f"Please see {title}."))
        if condition.urgency == "urgent_same_day":
            see += " See a doctor today."
        return [
            f"{SECTIONS[1]}: {capital(listed(chosen))}.",
            f"{SECTIONS[2]}: {capital(listed(caution))}.",
            f"{SECTIONS[3]}: {see}",
            f"{SECTIONS[4]}: {when} {listed([f'if {s}' for s in seek], 'or')}.",
        ]

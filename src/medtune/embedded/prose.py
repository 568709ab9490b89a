"""Generated prose about the conditions and everyday life: what the embedded base is pre-trained on.

Every text is a short paragraph of plain English.  Facts run both ways, from condition to
findings and from findings to condition.  No text has the form of a dialogue; the sentences
around the findings share no frame with the questions of ``builtin:consultations``.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from medtune.embedded.knowledge import Condition, Finding, Knowledge, load_knowledge
from medtune.embedded.wording import (
    DURATIONS,
    capital,
    listed,
    mid_sentence,
    persona,
    with_article,
    with_typos,
)

_PROSE_SPLITS = ("train", "validation", "test")

_NAMES = [
    "Anna",
    "Ben",
    "Carla",
    "David",
    "Elena",
    "Felix",
    "Grace",
    "Hassan",
    "Ines",
    "Jonas",
    "Kofi",
    "Laura",
    "Mina",
    "Noah",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tara",
    "Umar",
    "Vera",
    "Will",
    "Yara",
    "Zoe",
    "Amir",
    "Bea",
    "Chen",
    "Dora",
    "Emil",
    "Fay",
]
_TOWNS = [
    "the village",
    "the harbour",
    "the old town",
    "the hills",
    "the north",
    "a small flat",
    "the city",
    "a farm",
]
_JOBS = [
    "teacher",
    "baker",
    "bus driver",
    "nurse",
    "gardener",
    "student",
    "carpenter",
    "cook",
    "librarian",
    "farmer",
    "painter",
    "shop owner",
    "engineer",
    "musician",
    "postman",
    "cleaner",
]
_THINGS = [
    "a bowl of soup",
    "a new bicycle",
    "some bread",
    "a long letter",
    "the garden fence",
    "an old radio",
    "a cup of tea",
    "the kitchen table",
    "a warm coat",
    "two tickets",
    "a basket of apples",
    "the morning paper",
    "a photo album",
    "the spare key",
    "a pot of rice",
]
_ACTS = [
    "walked to the market",
    "mended the roof",
    "read in the park",
    "cooked for friends",
    "waited for the bus",
    "cleaned the windows",
    "watered the plants",
    "called an old friend",
    "played cards",
    "took the early train",
    "painted the door",
    "slept until noon",
    "went for a swim",
    "listened to the rain",
    "baked a cake",
    "planted tomatoes",
]
_TIMES = [
    "On Monday",
    "On Tuesday",
    "On Wednesday",
    "On Friday",
    "Last weekend",
    "In the morning",
    "In the evening",
    "After lunch",
    "Before dinner",
    "In spring",
    "In autumn",
    "During the holidays",
    "At night",
    "Yesterday",
    "A week later",
]
_MOODS = [
    "calm",
    "tired",
    "cheerful",
    "busy",
    "quiet",
    "worried",
    "proud",
    "hungry",
    "curious",
    "patient",
]
_WEATHER = [
    "It rained all day.",
    "The sun was out.",
    "A cold wind blew.",
    "Snow lay on the roofs.",
    "The evening was warm.",
    "Fog hid the river.",
    "The air was dry and clear.",
    "A storm was coming.",
]


class Prose:
    """Writes paragraphs from the knowledge; the same seed writes the same text."""

    def __init__(self, seed: int, knowledge: Knowledge | None = None) -> None:
        self._rng = Random(seed)
        self._knowledge = knowledge or load_knowledge()
        self._conditions = list(self._knowledge.conditions.values())
        self._kinds = (
            (self._case_from_findings, 34),
            (self._case_in_a_diary, 22),
            (self._profile, 12),
            (self._glossary, 10),
            (self._advice, 12),
            (self._referral, 4),
            (self._everyday, 6),
        )

    def paragraphs(self) -> Iterator[str]:
        """Endless paragraphs of 20 to 140 words.

        One in eight carries typing errors, one in sixteen has no capitals.
        """
        kinds, weights = zip(*self._kinds, strict=True)
        while True:
            (write,) = self._rng.choices(kinds, weights)
            text = write(self._rng.choice(self._conditions))
            if self._rng.random() < 0.125:
                text = with_typos(text, self._rng, self._rng.randint(1, 5))
            yield text.lower() if self._rng.random() < 0.0625 else text

    def cloze(self, condition: Condition) -> str:
        """The start of a case, up to where the condition would be named."""
        nouns = listed([self._noun(f) for f in self._sample(condition)])
        who = with_article(persona(condition, self._rng))
        return f"{capital(who)} came in because of {nouns}. The most likely cause was"

    # Pieces -----------------------------------------------------------------------------

    def _pick(self, *options: str) -> str:
        return self._rng.choice(options)

    def _finding(self, id: str) -> Finding:
        return self._knowledge.findings[id]

    def _noun(self, id: str) -> str:
        finding = self._finding(id)
        options = [w for s in _PROSE_SPLITS for w in finding.wordings[s].lay]
        if self._rng.random() < 0.06:
            return finding.clinical
        return self._rng.choice(options)

    def _clause(self, id: str) -> str:
        finding = self._finding(id)
        return self._rng.choice([w for s in _PROSE_SPLITS for w in finding.wordings[s].says])

    def _name(self, condition: Condition) -> str:
        if self._rng.random() < 0.15:
            return mid_sentence(self._rng.choice(condition.names))
        return mid_sentence(condition.name)

    def _specialist(self, condition: Condition) -> str:
        return self._knowledge.specialties[condition.specialist].title

    def _sample(self, condition: Condition) -> list[str]:
        """Two to four findings that fit this condition better than any other."""
        while True:
            count = min(self._rng.choice((1, 2, 2, 2)), len(condition.core))
            chosen = self._rng.sample(condition.core, count)
            chosen += self._rng.sample(condition.other, self._rng.randint(0, 2))
            if len(chosen) > 1 and self._knowledge.points_to(condition, frozenset(chosen)):
                self._rng.shuffle(chosen)
                return chosen

    def _others(self, condition: Condition, findings: list[str]) -> list[str]:
        ranked = self._knowledge.differential(frozenset(findings))
        return [mid_sentence(c.name) for c, _ in ranked if c is not condition][:2]

    # Paragraphs -------------------------------------------------------------------------

    def _case_from_findings(self, condition: Condition) -> str:
        rng, pick = self._rng, self._pick
        chosen = self._sample(condition)
        nouns = listed([self._noun(f) for f in chosen])
        name, who = self._name(condition), with_article(persona(condition, rng))
        start = pick(
            f"{capital(who)} had noticed {nouns} for {rng.choice(DURATIONS)}.",
            f"{capital(who)} came in because of {nouns}.",
            f"{rng.choice(_NAMES)} was troubled by {nouns}.",
            f"{capital(nouns)}: this is what {who} described.",
            f"For {rng.choice(DURATIONS)} there had been {nouns}.",
            f"{rng.choice(_NAMES)}, {who}, lived with {nouns} for {rng.choice(DURATIONS)}.",
            f"When somebody has {nouns}, a pattern appears.",
            f"The record of {who} lists {nouns}.",
        )
        verdict = pick(
            f"This picture fits {name} best.",
            f"The most likely cause was {name}.",
            f"Together these point to {name}.",
            f"It turned out to be {name}.",
            f"The findings are typical of {name}.",
            f"Most doctors would think of {name} first.",
        )
        parts = [start, verdict]
        others = self._others(condition, chosen)
        if others and rng.random() < 0.7:
            verb = "were" if len(others) > 1 else "was"
            parts.append(
                pick(
                    f"{capital(listed(others))} {verb} less likely.",
                    f"It could also be {listed(others, 'or')}, but that is less likely.",
                    f"{capital(listed(others, 'or'))} would explain only a part of it.",
                )
            )
        if rng.random() < 0.6:
            parts.append(self._who_treats(condition))
        if rng.random() < 0.35:
            parts.append(self._what_helps(condition))
        return " ".join(parts)

    def _case_in_a_diary(self, condition: Condition) -> str:
        rng, pick = self._rng, self._pick
        chosen = self._sample(condition)
        clauses = [f"{capital(self._clause(f))}." for f in chosen[: rng.randint(1, len(chosen))]]
        nouns = [self._noun(f) for f in chosen[len(clauses) :]]
        if nouns:
            clauses.append(
                pick(f"There is also {listed(nouns)}.", f"I noticed {listed(nouns)} as well.")
            )
        name = self._name(condition)
        start = pick(
            f"From the diary of {with_article(persona(condition, rng))}.",
            f"{rng.choice(_TIMES)} I wrote this down.",
            f"A page from the notebook of {rng.choice(_NAMES)}.",
            f"It has been {rng.choice(DURATIONS)} now.",
            "My own story in a few words.",
        )
        end = pick(
            f"My neighbour thinks it is {name}.",
            f"Later I learned that this was {name}.",
            f"The doctor said that it was {name}.",
            f"The name for it is {name}.",
            f"So it was {name} all along.",
        )
        parts = [start, *clauses, end]
        if rng.random() < 0.4:
            parts.append(
                pick(
                    f"I have an appointment with {with_article(self._specialist(condition))}.",
                    f"They sent me to {with_article(self._specialist(condition))}.",
                )
            )
        return " ".join(parts)

    def _profile(self, condition: Condition) -> str:
        rng, pick = self._rng, self._pick
        findings = rng.sample(condition.findings, min(rng.randint(3, 5), len(condition.findings)))
        nouns = listed([self._noun(f) for f in findings])
        parts = [condition.description]
        if rng.random() < 0.5:
            parts.append(f"{condition.name} is also called {listed(condition.names[1:], 'or')}.")
        if rng.random() < 0.6:
            parts.append(condition.cause)
        name = self._name(condition)
        parts.append(
            pick(
                f"People with {name} notice {nouns}.",
                f"Signs of {name} are {nouns}.",
                f"{capital(name)} often brings {nouns}.",
                f"Typical of {name}: {nouns}.",
            )
        )
        if rng.random() < 0.3:
            parts.append(
                f'Somebody with {name} may say "{self._clause(rng.choice(condition.core))}".'
            )
        if rng.random() < 0.5:
            parts.append(self._who_treats(condition))
        return " ".join(parts)

    def _glossary(self, condition: Condition) -> str:
        rng, pick = self._rng, self._pick
        id = rng.choice(condition.findings)
        finding = self._finding(id)
        first, second = self._noun(id), self._noun(id)
        terms = [finding.clinical, *finding.abbreviations]
        seen_in = [mid_sentence(c.name) for c in self._conditions if id in c.findings][:4]
        return " ".join(
            (
                pick(
                    f"Clinicians write {rng.choice(terms)} when a patient has {first}.",
                    f"{capital(first)} is called {rng.choice(terms)} in a medical record.",
                    f"{capital(first)} and {second} mean the same thing.",
                    f"The words {first} describe {second}.",
                ),
                pick(
                    f'A patient would say "{self._clause(id)}".',
                    f'Another way to put it is "{self._clause(id)}".',
                    f'"{capital(self._clause(id))}" and "{self._clause(id)}" tell of it too.',
                ),
                pick(
                    f"It occurs in {listed(seen_in)}.",
                    f"It makes one think of {listed(seen_in, 'or')}.",
                    f"Doctors know it from {listed(seen_in)}.",
                ),
            )
        )

    def _who_treats(self, condition: Condition) -> str:
        name, title = self._name(condition), with_article(self._specialist(condition))
        return self._pick(
            f"{capital(title)} treats {name}.",
            f"The right person for {name} is {title}.",
            f"With {name} one goes to {title}.",
            f"{capital(name)} belongs in the hands of {title}.",
            f"{capital(title)} was asked for advice.",
        )

    def _what_helps(self, condition: Condition) -> str:
        helps = listed(self._rng.sample(condition.self_care, self._rng.randint(1, 2)))
        return self._pick(
            f"It helps to {helps}.",
            f"The advice was to {helps}.",
            f"A sensible first step is to {helps}.",
        )

    def _advice(self, condition: Condition) -> str:
        rng, pick = self._rng, self._pick
        name = self._name(condition)
        care = listed(rng.sample(condition.self_care, rng.randint(2, 4)))
        caution = capital(listed(rng.sample(condition.precautions, rng.randint(1, 3))))
        seek = listed([f"if {s}" for s in rng.sample(condition.seek_help, rng.randint(1, 3))], "or")
        parts = [
            pick(
                f"Advice for {name}: {care}.",
                f"With {name} it helps to {care}.",
                f"People with {name} are told to {care}.",
            ),
            f"{caution}.",
            pick(
                f"Get medical help {seek}.",
                f"A doctor should look at it {seek}.",
                f"Do not wait {seek}.",
            ),
        ]
        if rng.random() < 0.4:
            parts.append(f"Warning signs are {listed(list(condition.red_flags))}.")
        if rng.random() < 0.5:
            parts.append(self._who_treats(condition))
        return " ".join(parts)

    def _referral(self, condition: Condition) -> str:
        field = condition.specialist
        treated = [c for c in self._conditions if c.specialist == field]
        names = [mid_sentence(c.name) for c in self._rng.sample(treated, min(4, len(treated)))]
        specialty = self._knowledge.specialties[field]
        words = listed([with_article(s) for s in (specialty.title, *specialty.synonyms[:1])], "or")
        return (
            f"{capital(words)} works in {field}. "
            f"{capital(with_article(specialty.title))} looks after people with {listed(names)}."
        )

    def _everyday(self, condition: Condition) -> str:
        rng, pick = self._rng, self._pick
        name, friend = rng.sample(_NAMES, 2)
        sentences = [
            f"{name} is {with_article(rng.choice(_JOBS))} and lives in {rng.choice(_TOWNS)}.",
            f"{rng.choice(_TIMES)} {name} {rng.choice(_ACTS)}.",
            f"{friend} brought {rng.choice(_THINGS)} and {rng.choice(_ACTS)}.",
            f"{name} was {rng.choice(_MOODS)}, and {friend} was {rng.choice(_MOODS)}.",
            rng.choice(_WEATHER),
            f"They wanted {rng.choice(_THINGS)}, so {friend} {rng.choice(_ACTS)}.",
            pick(
                f'"Hello," said {name}.', f'"Thank you," said {friend}.', "Nobody was in a hurry."
            ),
            f"{name} has {rng.randint(2, 9)} books about {pick('birds', 'ships', 'food', 'history', 'music')}.",
        ]
        return " ".join(rng.sample(sentences, rng.randint(3, 6)))

"""The condition knowledge: what Medtune's built-in world knows, read from YAML.

The facts stand in ``conditions.yaml``, ``findings.yaml`` and ``specialties.yaml`` beside
this module, written for Medtune from public sources that each condition names.  They are
information for a demonstration, not medical advice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

Urgency = Literal["self_care", "routine", "urgent_same_day", "emergency"]
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Wordings:
    """How a finding is said: noun phrases ("I have ...") and first-person clauses."""

    lay: tuple[str, ...]
    says: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """A symptom or sign, with the wordings that each split may use.

    ``train`` wordings appear in training questions.  ``validation`` and ``test`` wordings
    appear only in those splits and in the prose of the base model.
    """

    id: str
    clinical: str
    abbreviations: tuple[str, ...]
    wordings: dict[Split, Wordings]


@dataclass(frozen=True)
class Source:
    organisation: str
    topic: str


@dataclass(frozen=True)
class Condition:
    """One condition.  ``core`` findings point to it; ``other`` findings go along with it."""

    id: str
    name: str
    synonyms: tuple[str, ...]
    abbreviations: tuple[str, ...]
    icd10: str
    specialist: str
    accepted_specialists: tuple[str, ...]
    urgency: Urgency
    ages: tuple[int, int]
    sex: Literal["any", "female", "male"]
    core: tuple[str, ...]
    other: tuple[str, ...]
    description: str
    cause: str
    self_care: tuple[str, ...]
    precautions: tuple[str, ...]
    seek_help: tuple[str, ...]
    red_flags: tuple[str, ...]
    source: Source

    @property
    def findings(self) -> tuple[str, ...]:
        return self.core + self.other

    @property
    def names(self) -> tuple[str, ...]:
        """The name, its synonyms and abbreviations: what an answer may call it."""
        return (self.name, *self.synonyms, *self.abbreviations)


@dataclass(frozen=True)
class Specialty:
    """A field of medicine and what its practitioners are called."""

    id: str
    title: str
    synonyms: tuple[str, ...]


@dataclass(frozen=True)
class Knowledge:
    conditions: dict[str, Condition]
    findings: dict[str, Finding]
    specialties: dict[str, Specialty]

    def fit(self, condition: Condition, findings: frozenset[str]) -> int:
        """How well findings fit a condition: 3 for each core finding, 1 for each other one."""
        return 3 * len(findings.intersection(condition.core)) + len(
            findings.intersection(condition.other)
        )

    def differential(self, findings: frozenset[str]) -> list[tuple[Condition, int]]:
        """The conditions that share a finding, best fit first, ties by id."""
        fits = [(c, self.fit(c, findings)) for c in self.conditions.values()]
        return sorted((f for f in fits if f[1] > 0), key=lambda f: (-f[1], f[0].id))

    def points_to(self, condition: Condition, findings: frozenset[str]) -> bool:
        """Whether these findings fit this condition better than every other one."""
        (best, fit), *rest = self.differential(findings)
        return best is condition and (not rest or fit > rest[0][1])


def _load(name: str) -> dict[str, Any]:
    text = resources.files("medtune.embedded").joinpath(name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _finding(id: str, row: dict[str, Any]) -> Finding:
    wordings: dict[Split, Wordings] = {"train": Wordings(tuple(row["lay"]), tuple(row["says"]))}
    for split, held in row["held_out"].items():
        wordings[split] = Wordings(tuple(held["lay"]), tuple(held["says"]))
    return Finding(id, row["clinical"], tuple(row["abbreviations"]), wordings)


def _condition(id: str, row: dict[str, Any]) -> Condition:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    fields["ages"] = tuple(row.get("ages", (18, 80)))
    fields.setdefault("sex", "any")
    fields["source"] = Source(**row["source"])
    return Condition(id=id, **fields)


@cache
def load_knowledge() -> Knowledge:
    """Read the three YAML files; the result is shared, so treat it as read-only."""
    return Knowledge(
        conditions={k: _condition(k, v) for k, v in _load("conditions.yaml").items()},
        findings={k: _finding(k, v) for k, v in _load("findings.yaml").items()},
        specialties={
            k: Specialty(k, v["title"], tuple(v["synonyms"]))
            for k, v in _load("specialties.yaml").items()
        },
    )

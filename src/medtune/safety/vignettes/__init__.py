"""Messages with the level that they deserve, written apart from the rules.

Each row has an id, ``text`` or ``messages``, a category, a level and a reason.  A hash of the id
puts it into one of two halves: rules are tuned on ``tune`` only, figures come from ``report``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from importlib import resources
from typing import Literal, get_args

Half = Literal["tune", "report"]
Family = Literal[
    "emergencies", "harmless", "pairs", "crisis", "poisoning", "dosage", "injection", "decline"
]
FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True)
class Vignette:
    """One conversation and how urgent it is."""

    id: str
    family: Family
    messages: tuple[str, ...]
    category: str
    level: str
    kind: str
    reason: str
    expect: str = ""
    """What a request should meet, "decline" or "answer"; empty where nothing is asked for."""


def half_of(id: str) -> Half:
    """Which half a row belongs to; the same for ever."""
    return "tune" if blake2b(id.encode(), digest_size=8).digest()[0] % 2 == 0 else "report"


def vignettes(half: Half | None = None, family: Family | None = None) -> Iterator[Vignette]:
    """The rows of one half and one family, or of all."""
    folder = resources.files("medtune.safety.vignettes")
    for name in FAMILIES:
        if family is not None and name != family:
            continue
        for line in folder.joinpath(f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if half is None or half_of(row["id"]) == half:
                messages = tuple(row.get("messages") or [row["text"]])
                yield Vignette(
                    row["id"],
                    name,
                    messages,
                    row["category"],
                    row["level"],
                    row.get("kind", name),
                    row["reason"],
                    row.get("expect", ""),
                )

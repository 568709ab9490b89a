"""What is said first: the action, with the lines of the person's country."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

REPLIES = frozenset(
    {
        "emergency",
        "crisis",
        "poison",
        "violence",
        "urgent_same_day",
        "routine",
        "self_care",
        "decline_harm",
        "decline_drugs",
        "decline_documents",
        "decline_records",
        "decline_instructions",
        "decline_care",
        "decline_scope",
    }
)
"""The kinds of reply that a rule may ask for."""
_ORDER = ("crisis", "violence", "poison", "emergency")


@dataclass(frozen=True)
class Lines:
    """Telephone numbers of one country; empty where there is no national one."""

    emergency: str = ""
    crisis: str = ""
    poison: str = ""


@cache
def _texts() -> dict[str, Any]:
    text = resources.files("medtune.safety").joinpath("replies.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def lines(country: str = "") -> Lines:
    """The lines of a country by its two letters; of none where it is unknown."""
    row = _texts()["lines"].get(country.upper(), {})
    return Lines(**{key: str(value) for key, value in row.items()})


def countries() -> list[str]:
    return sorted(_texts()["lines"])


def reply(kinds: Sequence[str], country: str = "", category: str = "") -> str:
    """The reply to one or several kinds, the gravest first, the action in its first sentence.

    Args:
        kinds: of ``REPLIES``, as the rules that fired ask for them.
        country: two letters.
        category: what the rule is about; some have a sentence of first aid.
    """
    texts, numbers = _texts(), lines(country)
    ordered = [kind for kind in _ORDER if kind in kinds] or list(kinds[:1])
    chosen = ordered[0]
    emergency = numbers.emergency or "your local emergency number"
    said = [
        texts["replies"][chosen].format(
            emergency=emergency,
            crisis=f"call {numbers.crisis}" if numbers.crisis else "call your local crisis line",
            poison=f"call {numbers.poison}" if numbers.poison else "call your local poison centre",
        )
    ]
    aid = texts["first_aid"].get(category)
    if aid and chosen == "emergency":
        said.append(aid)
    return " ".join(part.strip() for part in said)


def seek_help(country: str = "") -> str:
    """When to seek help, said with every answer that no rule made urgent."""
    number = lines(country).emergency or "your local emergency number"
    return _texts()["seek_help"].format(emergency=number).strip()

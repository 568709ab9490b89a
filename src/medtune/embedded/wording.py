"""Small pieces of English shared by the prose and the dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from medtune.embedded.knowledge import Condition

DURATIONS = (
    "a few hours",
    "two days",
    "three days",
    "four or five days",
    "about a week",
    "ten days",
    "two weeks",
    "three weeks",
    "about a month",
    "six weeks",
    "a couple of months",
)

_PROPER_NAMES = {"Bell's", "Parkinson's", "Lyme", "Crohn's", "English"}

_NEIGHBOURS = {
    row[i]: row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for i in range(len(row))
}


def listed(items: Sequence[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """``a cardiologist``, ``an eye doctor``, ``a urologist``, ``an 80 year old man``."""
    vowel = noun[:1].lower() in "aeio" or noun.startswith(("ENT", "un", "8", "11 ", "18 "))
    return f"{'an' if vowel else 'a'} {noun}"


def mid_sentence(name: str) -> str:
    """A condition's name inside a sentence: ``Gout`` becomes ``gout``, ``Bell's palsy`` stays."""
    first = name.split()[0]
    keeps_capital = first in _PROPER_NAMES or first[1:2].isupper()
    return name if keeps_capital else name[:1].lower() + name[1:]


def persona(condition: Condition, rng: Random, sex: str = "") -> str:
    """Age and sex of somebody who may have the condition: ``45 year old woman``."""
    age = rng.randint(*condition.ages)
    sex = sex or sex_of(condition, rng)
    who = {"female": ("girl", "woman"), "male": ("boy", "man")}[sex][age >= 18]
    return f"{age} year old {who}"


def sex_of(condition: Condition, rng: Random) -> str:
    return condition.sex if condition.sex != "any" else rng.choice(("female", "male"))


def relative(condition: Condition, sex: str, rng: Random) -> str:
    """A relative of that sex whose age suits the condition."""
    if condition.ages[1] < 18:
        return {"female": "daughter", "male": "son"}[sex]
    kin = {
        "female": ("mother", "wife", "sister", "aunt"),
        "male": ("father", "husband", "brother", "uncle"),
    }
    return rng.choice(kin[sex])


def with_typos(text: str, rng: Random, count: int) -> str:
    """Swap, drop, double or mistype ``count`` letters inside words of four letters or more."""
    chars = list(text)
    spots = [
        i
        for i in range(1, len(chars) - 2)
        if all(chars[j].isalpha() for j in range(i - 1, i + 3)) and chars[i].islower()
    ]
    for i in sorted(rng.sample(spots, min(count, len(spots))), reverse=True):
        match rng.randrange(4):
            case 0:
                chars[i], chars[i + 1] = chars[i + 1], chars[i]
            case 1:
                del chars[i]
            case 2:
                chars.insert(i, chars[i])
            case _:
                chars[i] = rng.choice(_NEIGHBOURS.get(chars[i], "e"))
    return "".join(chars)

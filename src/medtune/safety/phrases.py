"""The small language in which concepts are written, and how it is compiled.

==================  ============================================================
``chest pain``      these words in this order
``hurt*``           every word that begins so
``pain|ache``       one of these
``bad?``            may be missing
``pain _3 chest``   up to three other words between
``(a b|c)``         one of these, of one or more words
``<breathing>``     whatever the concept ``breathing`` finds
``<a> &6 <b>``      both in one sentence, in any order, at most six words between
==================  ============================================================

Articles, possessives and words like "really" between two words of a phrase are skipped, so
``pain in chest`` finds "pain in my left chest" only with ``left?``, but "pain in the chest" as is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

FILLER = frozenset(
    [
        "a",
        "an",
        "the",
        "my",
        "his",
        "her",
        "hers",
        "their",
        "our",
        "your",
        "its",
        "this",
        "that",
        "these",
        "those",
        "very",
        "so",
        "really",
        "just",
        "quite",
        "too",
        "extremely",
        "totally",
        "completely",
        "super",
        "some",
        "any",
        "kinda",
        "sorta",
        "pretty",
        "little",
        "proper",
        "bloody",
        "fucking",
        "freaking",
        "fkn",
        "literally",
        "actually",
        "absolutely",
        "of",
        "damn",
        "still",
        "also",
        "always",
        "like",
        "all",
        "more",
        "kind",
        "sort",
        "such",
        "bit",
        "big",
        "whole",
        "only",
        "even",
        "now",
        "currently",
        "right",
        "suddenly",
        "again",
        "poor",
        "old",
    ]
)


@dataclass(frozen=True)
class Element:
    """One place of a phrase."""

    words: frozenset[str]
    """Words, or beginnings of words with ``*`` at their end."""
    concepts: tuple[str, ...]
    gap: int = 0
    """How many other words may stand before it."""
    optional: bool = False


@dataclass(frozen=True)
class Phrase:
    elements: tuple[Element, ...]


@dataclass(frozen=True)
class Near:
    """Several things in one sentence, in any order."""

    parts: tuple[str | Phrase, ...]
    """Names of concepts, or phrases."""
    within: int


def expanded(text: str) -> list[str]:
    """A line written out once for every choice that its parentheses leave.

    Raises:
        ValueError: parentheses stand inside others, or one of a pair is missing.
    """
    marks = re.sub(r"[^()]", "", text)
    if marks != "()" * (len(marks) // 2):
        raise ValueError(f"the parentheses of “{text}” do not stand one pair after the other")
    group = re.search(r"\(([^()]*)\)(\?)?", text)
    if group is None:
        return [" ".join(text.split())]
    choices = [" ".join(choice.split()) for choice in group[1].split("|")]
    words = [choice for choice in choices if " " not in choice]
    kept = ["|".join(words)] if words else []
    kept += [choice for choice in choices if " " in choice]
    before, after = text[: group.start()], text[group.end() :]
    lines = [line for choice in kept for line in expanded(f"{before}{choice}{after}")]
    if group[2]:
        lines += expanded(re.sub(r"_\d+\s*$", "", before) + after)
    return lines


def parse(text: str) -> Phrase | Near:
    """Compile one line of the language.

    Raises:
        ValueError: what is wrong with it, as a sentence without the place.
    """
    pieces = re.split(r"\s&(\d+)\s", text)
    if len(pieces) > 1:
        parts: list[str | Phrase] = []
        for piece in pieces[::2]:
            name = re.fullmatch(r"\s*<([a-z_.0-9]+)>\s*", piece)
            parts.append(name[1] if name else _phrase(piece))
        return Near(tuple(parts), max(int(n) for n in pieces[1::2]))
    return _phrase(text)


def variants(phrase: Phrase) -> list[tuple[Element, ...]]:
    """The phrase with every optional element present and absent."""
    choices = [(e, None) if e.optional else (e,) for e in phrase.elements]
    found = (tuple(e for e in chosen if e is not None) for chosen in product(*choices))
    return [elements for elements in found if elements]


def _phrase(text: str) -> Phrase:
    elements: list[Element] = []
    gap = 0
    for piece in text.split():
        if distance := re.fullmatch(r"_(\d+)", piece):
            if not elements:
                raise ValueError(f"“{text}” begins with a gap")
            gap = int(distance[1])
            continue
        optional = piece.endswith("?")
        alternatives = piece.removesuffix("?").split("|")
        if "" in alternatives:
            raise ValueError(f"“{piece}” has an empty alternative")
        words = tuple(a for a in alternatives if not a.startswith("<"))
        concepts = tuple(a[1:-1] for a in alternatives if a.startswith("<") and a.endswith(">"))
        if len(words) + len(concepts) != len(alternatives) or any(
            c in word for word in words for c in "<>_&?"
        ):
            raise ValueError(f"“{piece}” is not understood")
        for word in words:
            if word.endswith("*") and len(word) < 4:
                raise ValueError(f"“{word}” would find too many words")
            if "*" in word[:-1]:
                raise ValueError(f"“{word}” has a star before its end")
        elements.append(Element(frozenset(words), concepts, gap, optional))
        gap = 0
    if not elements:
        raise ValueError("it is empty")
    if gap:
        raise ValueError(f"“{text}” ends with a gap")
    if all(e.optional for e in elements):
        raise ValueError(f"every part of “{text}” may be missing")
    return Phrase(tuple(elements))

"""Typing errors in the words that matter: bounded edit distance, and words run together."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

SHORTEST = 5
"""Shorter words are only corrected where two neighbouring letters changed places."""
TWO_ERRORS_FROM = 9
"""From this length two errors are accepted."""
_ORDINARY_FROM = 200
"""Times that a word was counted: 38,000 words."""


class Spelling:
    """Finds the word that was meant.

    Every known word is stored under itself and under what is left of it when letters are taken
    away (the symmetric-delete index of Garbe, 2012), so a look-up costs as many steps as the word
    has letters and not one per known word.
    """

    def __init__(self, known: Iterable[str], never: Iterable[str]) -> None:
        self._known = frozenset(known)
        self._never = frozenset(never)
        self._index: dict[str, list[str]] = {}
        for word in sorted(self._known):
            if len(word) < 4 or not word.isalpha():
                continue
            for rest in _without(word, 2 if len(word) >= TWO_ERRORS_FROM else 1):
                self._index.setdefault(rest, []).append(word)

    def meant(self, word: str) -> tuple[str, ...] | None:
        """The known word or two words that ``word`` stands for; ``None`` if it is what it is."""
        if not 4 <= len(word) <= 24 or word in self._known or word in self._never:
            return None
        squeezed = _squeezed(word)
        if squeezed != word:
            if squeezed in self._known:
                return (squeezed,)
            single = _squeezed(word, 1)
            if single in self._known:
                return (single,)
        best = self._nearest(word)
        if best:
            return (best,)
        for cut in range(4, len(word) - 3):
            left, right = word[:cut], word[cut:]
            if left in self._known and right in self._known and len(word) >= 8:
                return (left, right)
        return None

    def _nearest(self, word: str) -> str | None:
        candidates: set[str] = set()
        for rest in _without(word, 2 if len(word) >= TWO_ERRORS_FROM - 1 else 1):
            candidates.update(self._index.get(rest, ()))
        best, least = None, 3
        for candidate in sorted(candidates):
            shorter = min(len(candidate), len(word))
            allowed = 2 if len(candidate) >= TWO_ERRORS_FROM else 1
            if shorter < SHORTEST and sorted(candidate) != sorted(word):
                continue
            if (
                candidate[0] != word[0]
                and (shorter < 6 or candidate[1:] != word[1:])
                and (sorted(candidate) != sorted(word))
            ):
                continue
            distance = edit_distance(word, candidate)
            if distance <= allowed and distance < least:
                best, least = candidate, distance
        return best


@cache
def ordinary_words() -> frozenset[str]:
    """Common words that are what they are, however near they come to a word that matters.

    From pyspellchecker's counts of words in English subtitles; rarer ones may be typing errors.
    """
    from spellchecker import SpellChecker

    counted = SpellChecker(language="en").word_frequency.items()
    return frozenset(word for word, count in counted if count >= _ORDINARY_FROM)


def edit_distance(a: str, b: str) -> int:
    """Letters to insert, delete, replace or swap with a neighbour (optimal string alignment)."""
    before: list[int] = []
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            cost = min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, previous = previous, row
    return previous[-1]


def _without(word: str, most: int) -> set[str]:
    found = {word}
    last = found
    for _ in range(most):
        last = {w[:i] + w[i + 1 :] for w in last for i in range(len(w))}
        found |= last
    return found


def _squeezed(word: str, keep: int = 2) -> str:
    """The word with letters repeated at most ``keep`` times: paaaain is pain."""
    letters: list[str] = []
    for letter in word:
        if letters[-keep:] != [letter] * keep:
            letters.append(letter)
    return "".join(letters)

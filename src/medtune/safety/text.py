"""A message as words with their places: Unicode folded, contractions and abbreviations written out.

What people type to hide a word, or type by accident, ends here: letters of other alphabets that
look the same, invisible characters, letters with spaces or digits between them, typing errors.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

MOST_CHARACTERS = 2_000_000
"""Of a longer message the beginning and the end are read, half each."""

_LOOKALIKES = str.maketrans(
    "аеорсухікмнтвгѕјԁɡαεικνορτυχγβ’‘`´′ʼ“”„«»—–‒−…ıłøđßæœ",
    "aeopcyxikmhtbrsjdgaeiknoptuxyb''''''\"\"\"\"\"----.ilodsao",
)
_DIGITS_FOR_LETTERS = str.maketrans("0134578@$!", "oieastbasi")
_PIECES = re.compile(
    r"(?P<spaced>(?<![^\W_])(?:[a-z][ .\-_*]){3,60}[a-z](?![a-z']))"
    r"|(?P<mixed>(?<!\w)[a-z]+[0-9@$!]+[a-z][a-z0-9@$]*)"
    r"|(?P<number>\d+(?:[.,/]\d+)*)"
    r"|(?P<short>\b(?:[a-z]/[a-z]o?|w/o?)(?![a-z]))"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)"
    r"|(?P<stop>[.!?;\n…]+)"
    r"|(?P<pause>[,:()\"\-]+)"
    r"|(?P<sign>[^\w\s])"
)
STOP, PAUSE = 2, 1


@dataclass
class Words:
    """The words of a message in reading order."""

    words: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """Where each word begins in the text that the person wrote; words written out from one
    abbreviation share their place."""
    ends: list[int] = field(default_factory=list)
    sentences: list[int] = field(default_factory=list)
    """The number of the sentence that each word stands in."""
    breaks: list[int] = field(default_factory=list)
    """What stands before each word: ``STOP``, ``PAUSE`` or 0."""
    capitals: list[bool] = field(default_factory=list)
    """Whether the word was written in capitals alone."""


def fold(text: str) -> tuple[str, list[int] | None]:
    """Lower case without accents, look-alikes and invisible characters, and where each character
    came from (``None``: places are unchanged)."""
    if text.isascii():
        return text.lower(), None
    if unicodedata.is_normalized("NFKD", text) and not re.search(r"[^\x00-\x7f’‘“”–—…]", text):
        return text.lower().translate(_LOOKALIKES), None
    characters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        if character.isascii():
            characters.append(character)
            places.append(place)
            continue
        for part in unicodedata.normalize("NFKD", character):
            if unicodedata.category(part) in {"Mn", "Cf", "Me"}:
                continue
            characters.append(part)
            places.append(place)
    # Lower case may be longer than upper case in a few alphabets; such letters stay as they are.
    folded = "".join(low if len(low := c.lower()) == 1 else c for c in characters)
    return folded.translate(_LOOKALIKES), places


def shortened(text: str) -> tuple[str, int, int]:
    """The text that is read, and from which place on how many characters were left out."""
    if len(text) <= MOST_CHARACTERS:
        return text, len(text), 0
    half = MOST_CHARACTERS // 2
    return text[:half] + "\n" + text[-half:], half + 1, len(text) - 2 * half - 1


def split_words(text: str) -> Words:
    """The raw words of a message; spelling and abbreviations are the lexicon's business."""
    read, cut, left_out = shortened(text)
    folded, places = fold(read)
    found = Words()
    words, starts, ends = found.words, found.starts, found.ends
    sentence, pending = 0, 0
    for match in _PIECES.finditer(folded):
        kind, piece = match.lastgroup, match.group()
        if kind == "word" or kind == "number":
            word = piece
        elif kind == "stop":
            pending = STOP
            continue
        elif kind == "pause":
            pending = pending or PAUSE
            continue
        elif kind == "sign":
            word = piece
            if piece in "'&/+*@#$%^<=>[]{}|\\~_":
                continue
        elif kind == "spaced":
            word = re.sub(r"[ .\-_*]", "", piece)
        elif kind == "mixed":
            word = piece.translate(_DIGITS_FOR_LETTERS)
        else:
            word = piece
        if pending == STOP and words:
            sentence += 1
        start, end = match.span()
        words.append(word)
        starts.append(start)
        ends.append(end)
        found.sentences.append(sentence)
        found.breaks.append(pending)
        pending = 0
    if places is not None:
        found.starts = [places[s] for s in starts]
        found.ends = [places[e - 1] + 1 for e in ends]
    if left_out:
        found.starts = [s if s < cut else s + left_out for s in found.starts]
        found.ends = [e if e < cut else e + left_out for e in found.ends]
    found.capitals = [text[s:e].isupper() for s, e in zip(found.starts, found.ends, strict=True)]
    return found

"""Reasons to leave a row out, each with a name."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, get_args

import yaml

from medtune.recipe import DataSection, Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

KEPT = ""
REASONS: tuple[str, ...] = (
    KEPT, "no question", "no answer", *get_args(Filter),
    "exact duplicate", "near duplicate", "contaminated", "longer than max_length", "not drawn",
)  # fmt: skip
"""Why a row is not used, in the order in which it is found out; the first one counts."""

_FEW_WORDS = 30
_REFERRAL_WORDS = 60
_BEGINNING = 450
"""Characters in which prose has said enough different words not to be repetitive."""
_RICHNESS = 2.0
"""Guiraud's index (different words by the root of all words) of the poorest text we keep: a
sentence of ten words said ten times has 1.0, prose has 5 and more."""


@cache
def _lists() -> dict[str, Any]:
    text = resources.files("medtune.data").joinpath("filters.yaml").read_text("utf-8")
    lists = yaml.safe_load(text)
    lists["profanity"] = rf"(?i)\b(?:{'|'.join(lists['profanity'].split())})\b"
    return lists


def reasons(
    questions: pa.Array, answers: pa.Array, section: DataSection, language: str | None
) -> NDArray[np.int8]:
    """For each row the index into ``REASONS`` of why it is left out, or 0.

    Args:
        questions: cleaned, without nulls.
        answers: cleaned, without nulls.
        section: limits, and filters that are off.
        language: two letters, or None where any language will do.
    """
    import numpy as np
    import pyarrow.compute as pc

    lists = _lists()
    found = np.zeros(len(questions), np.int8)

    def mark(reason: str, mask: Any) -> None:
        if reason in section.filters_off:
            return
        mask = np.asarray(mask)
        found[(found == 0) & mask] = REASONS.index(reason)

    answer_words = _words(answers)
    words = answer_words + _words(questions)
    mark("no question", _not(pc.match_substring_regex(questions, r"[\pL\pN]")))
    mark("no answer", _not(pc.match_substring_regex(answers, r"[\pL\pN]")))
    mark("too short", answer_words < section.min_answer_words)
    mark("too long", words > section.max_words)
    both = pc.binary_join_element_wise(questions, answers, "\n")
    if language is not None:
        mark("wrong language", _other_language(both, words, language))
    referral = np.asarray(pc.match_substring_regex(answers, lists["referral"]))
    mark("refers elsewhere", referral & (answer_words <= _REFERRAL_WORDS))
    mark("repetition", _repetitive(both, words))
    mark("profanity", pc.match_substring_regex(both, lists["profanity"]))
    mark("broken text", _broken(both))
    return found


def _words(texts: pa.Array) -> NDArray[np.int64]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    # Where single spaces part the words, counting the spaces does, and is five times faster.
    words = np.asarray(pc.count_substring(texts, " ")).astype(np.int64) + 1
    odd = np.asarray(pc.match_substring_regex(texts, r"\A\z|\A | \z|  |[\t\n\f\r]"))
    words[odd] = pc.count_substring_regex(texts.filter(pa.array(odd)), r"\S+")
    return words


def _not(mask: Any) -> NDArray[np.bool_]:
    import numpy as np

    return ~np.asarray(mask)


def _repetitive(texts: pa.Array, words: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows that say the same words over and over."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    found = np.zeros(len(texts), bool)
    rows = np.flatnonzero(words >= _FEW_WORDS)
    if not len(rows):
        return found
    chosen = pc.utf8_lower(texts.take(pa.array(rows)))
    fewest = _RICHNESS * np.sqrt(words[rows])
    # Most texts say enough different words in their beginning, the last of which may be cut.
    poor = _different_words(pc.utf8_slice_codeunits(chosen, 0, _BEGINNING)) - 1 < fewest
    found[rows[poor]] = _different_words(chosen.filter(pa.array(poor))) < fewest[poor]
    return found


def _different_words(texts: pa.Array) -> NDArray[np.int64]:
    """How many different words each text has."""
    import numpy as np
    import pyarrow.compute as pc

    split = pc.utf8_split_whitespace(texts)
    words = split.flatten().dictionary_encode()
    lengths = np.asarray(pc.list_value_length(split)).astype(np.int64)
    row = np.repeat(np.arange(len(texts)), lengths)
    pairs = row * max(1, len(words.dictionary)) + np.asarray(words.indices).astype(np.int64)
    pairs.sort()  # numpy's own unique() is ten times slower on these
    first = np.r_[True, pairs[1:] != pairs[:-1]] if len(pairs) else np.zeros(0, bool)
    return np.bincount(pairs[first] // max(1, len(words.dictionary)), minlength=len(texts))


def _broken(texts: pa.Array) -> NDArray[np.bool_]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    # The whole pattern is slow, so it reads only those in which a shorter one finds something.
    strange = np.array(pc.match_substring_regex(texts, _lists()["broken_hint"]))
    strange[strange] = pc.match_substring_regex(texts.filter(pa.array(strange)), _lists()["broken"])
    letters = np.asarray(pc.utf8_length(pc.replace_substring_regex(texts, r"[^\pL\pM\s]", "")))
    return strange | (letters < 0.5 * np.asarray(pc.utf8_length(texts)))


def _other_language(texts: pa.Array, words: NDArray[np.int64], language: str) -> NDArray[np.bool_]:
    """Rows that are surely in another language; short ones never are."""
    import numpy as np
    import pyarrow.compute as pc

    suspects = words >= 8
    small = _lists()["small_words"].get(language)
    if small is not None:
        share = np.asarray(pc.count_substring_regex(texts, small)) / np.maximum(words, 1)
        suspects &= share < 0.15
    found = np.zeros(len(texts), bool)
    for row in np.flatnonzero(suspects):
        detected, certainty = language_of(texts[int(row)].as_py())
        found[row] = detected != language and certainty > 0.95
    return found


def language_of(text: str) -> tuple[str, float]:
    """Two letters of the most likely language, and its probability (py3langid)."""
    return _identifier().classify(text[:2_000])


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def main_language(texts: list[str]) -> str | None:
    """The language that at least 85% of the texts are in, if there is one."""
    from collections import Counter

    told = [language_of(text)[0] for text in texts if len(text.split()) >= 8]
    if len(told) < 5:
        return None
    language, count = Counter(told).most_common(1)[0]
    return language if count >= 0.85 * len(told) else None

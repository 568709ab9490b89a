"""Rows that share a run of words with an evaluation file, so that a score would measure memory.

The usual measure (Brown et al., "Language Models are Few-Shot Learners", 2020, appendix C): a run
of n words in both.  An evaluation text shorter than n words counts as a whole.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.data.engine import Facts, write_part
from medtune.data.formats import records_of, suffix_of
from medtune.data.shapes import text_of
from medtune.data.signatures import hashes, normalised
from medtune.errors import MedtuneError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

FEWEST_WORDS = 6
"""A shorter evaluation text ("What is gout?") proves nothing."""


def evaluation_grams(files: list[str], words: int) -> dict[int, NDArray[np.uint64]]:
    """Hashes of all runs of words in the files, by length of the run, sorted.

    Raises:
        MedtuneError: a file is missing or broken.
    """
    import numpy as np
    import pyarrow as pa

    found: dict[int, list[NDArray[np.uint64]]] = {}
    for name in files:
        path = Path(name).expanduser()
        if not path.is_file() or suffix_of(path) is None:
            raise MedtuneError(
                f"The evaluation file {name} of data.contamination is no csv, json, jsonl or "
                "parquet file here; check the path."
            )
        texts = normalised(pa.array(list(_cells(path)), pa.string()))
        for length, grams, _ in _by_length(texts, words):
            found.setdefault(length, []).append(grams)
    return {length: np.unique(np.concatenate(grams)) for length, grams in found.items()}


@dataclass(frozen=True)
class Overlap:
    """Say of every row how many runs of words it shares with the evaluation files."""

    grams: dict[int, NDArray[np.uint64]]

    def __call__(self, source: Path, target: Path) -> Facts:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import parquet

        table = parquet.read_table(source, columns=["question", "answer"])
        both = pc.binary_join_element_wise(table["question"], table["answer"], "\n")
        texts = normalised(both.combine_chunks())
        shared = np.zeros(len(texts), np.int32)
        for length, known in self.grams.items():
            grams, rows = runs(texts, length)
            np.add.at(shared, rows[np.isin(grams, known, assume_unique=False)], 1)
        write_part(pa.table({"shared": shared}), target)
        return {"rows": int((shared > 0).sum())}


def runs(texts: pa.Array, length: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of all runs of ``length`` words of normalised texts, and the text each is from."""
    import numpy as np
    import pyarrow.compute as pc

    split = pc.split_pattern(texts, " ")
    words = hashes(split.values)
    offsets = np.asarray(split.offsets).astype(np.int64)
    if len(words) < length:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    count = len(words) - length + 1
    mixed = np.zeros(count, np.uint64)
    for place in range(length):
        mixed = (mixed ^ words[place : place + count]) * np.uint64(0x100000001B3)
        mixed ^= mixed >> np.uint64(31)
    text_of_word = np.repeat(np.arange(len(texts)), np.diff(offsets))
    inside = text_of_word[:count] == text_of_word[length - 1 :]
    inside &= ~np.asarray(pc.equal(split.values, ""))[:count]  # an empty text has no word
    return mixed[inside], text_of_word[:count][inside]


def _by_length(
    texts: pa.Array, words: int
) -> Iterator[tuple[int, NDArray[np.uint64], NDArray[np.int64]]]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = np.asarray(pc.count_substring(texts, " ")) + 1
    for length in range(FEWEST_WORDS, words + 1):
        mask = lengths == length if length < words else lengths >= words
        if mask.any():
            yield length, *runs(texts.filter(pa.array(mask)), length)


def _cells(path: Path) -> Iterator[str]:
    for record in records_of(path):
        for value in record.values():
            yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield text_of(value)

"""What two texts are compared by: a hash of their words, and a MinHash signature of word pairs.

MinHash: Broder, "On the resemblance and containment of documents" (1997).  The share of equal
positions of two signatures estimates the Jaccard similarity of their sets of word pairs, with a
standard error of at most 0.5 / sqrt(positions).
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

PERMUTATIONS = 128
_NGRAM = 2
_SURE = 0.995
"""Two texts exactly at the threshold must meet in a band with this probability."""


def normalised(texts: pa.Array) -> pa.Array:
    """Small letters and single spaces, without punctuation."""
    import pyarrow.compute as pc

    # Every replacement costs, so the single spaces that are most of them stay untouched.
    plain = pc.replace_substring_regex(pc.utf8_lower(texts), r"[^\pL\pM\pN ]+", " ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(plain, r" {2,}", " "))


def hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """64 bits for each text (xxHash), the same on every machine."""
    import daft
    import numpy as np

    return np.array(daft.Series.from_arrow(texts).hash().to_arrow(), dtype=np.uint64)


def signatures(texts: pa.Array) -> NDArray[np.uint32]:
    """MinHash signatures of normalised texts, of shape (texts, ``PERMUTATIONS``)."""
    import daft
    import numpy as np

    if not len(texts):
        return np.zeros((0, PERMUTATIONS), np.uint32)
    series = daft.Series.from_arrow(texts)
    signed = series.minhash(num_hashes=PERMUTATIONS, ngram_size=_NGRAM, seed=1)
    flat = signed.to_arrow().flatten()
    return np.asarray(flat, dtype=np.uint32).reshape(len(texts), PERMUTATIONS)


def banding(threshold: float) -> tuple[int, int]:
    """Bands and rows a band for locality-sensitive hashing at this similarity.

    Two signatures of similarity s agree in all r rows of at least one of b bands with probability
    1 - (1 - s^r)^b.  The most rows that still find pairs at the threshold leave the fewest
    candidates to check.
    """
    for rows in range(16, 0, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= _SURE:
            return bands, rows
    return PERMUTATIONS, 1


def band_hashes(signed: NDArray[np.uint32], threshold: float) -> NDArray[np.uint32]:
    """One hash for every band, of shape (texts, bands)."""
    import numpy as np

    bands, rows = banding(threshold)
    parts = signed[:, : bands * rows].reshape(len(signed), bands, rows).astype(np.uint64)
    mixed = np.zeros((len(signed), bands), np.uint64)
    for row in range(rows):
        mixed = (mixed ^ parts[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def packed(signed: NDArray[np.uint32]) -> pa.Array:
    """Signatures as binary: the low 16 bits of every position tell them apart just as well."""
    import numpy as np
    import pyarrow as pa

    low = np.ascontiguousarray(signed.astype(np.uint16))
    width = 2 * low.shape[1]
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(low), [None, pa.py_buffer(low)]
    )


def unpacked(binary: pa.Array) -> NDArray[np.uint16]:
    """The positions of packed signatures, of shape (texts, ``PERMUTATIONS``)."""
    import numpy as np

    width = binary.type.byte_width // 2
    whole = np.frombuffer(binary.buffers()[1], np.uint16)
    start = binary.offset * width
    return whole[start : start + len(binary) * width].reshape(len(binary), width)

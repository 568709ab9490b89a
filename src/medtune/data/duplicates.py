"""Exact and near duplicates, and groups of rows that must not straddle two splits.

Works on hashes and signatures, a few hundred bytes a row, so it does not grow with the texts:
band by band, rows that share a band hash become candidates, the MinHash estimate decides, and
connected components make the groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.data.components import components, same_value_edges
from medtune.data.signatures import unpacked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PAIRS_AT_ONCE = 200_000
_BANDS_AT_ONCE = 8


@dataclass(frozen=True)
class Keys:
    """The part files with what rows are compared by; ids run through them without a gap."""

    parts: Sequence[Path]
    rows: int

    def column(self, name: str) -> NDArray[np.generic]:
        """One column of all rows."""
        return self.columns([name])[0]

    def columns(self, names: list[str]) -> list[NDArray[np.generic]]:
        """Some columns of all rows; opening the files takes longer than reading one more."""
        import numpy as np
        from pyarrow import parquet

        pieces: list[list[Any]] = [[] for _ in names]
        for path in self.parts:
            table = parquet.read_table(path, columns=names)
            for name, piece in zip(names, pieces, strict=True):
                piece.append(np.asarray(table.column(name)))
        return [np.concatenate(p) if p else np.zeros(0, np.int64) for p in pieces]

    def names(self) -> list[str]:
        from pyarrow import parquet

        return parquet.read_schema(self.parts[0]).names if self.parts else []

    def signatures(self, name: str, wanted: NDArray[np.bool_]) -> NDArray[np.uint16]:
        """The signatures of the wanted rows, in the order of their ids."""
        import numpy as np
        from pyarrow import parquet

        pieces, start = [], 0
        for path in self.parts:
            rows = parquet.ParquetFile(path).metadata.num_rows
            here = wanted[start : start + rows]
            start += rows
            if here.any():
                column = parquet.read_table(path, columns=[name]).column(0).combine_chunks()
                pieces.append(unpacked(column)[here])
        return np.concatenate(pieces) if pieces else np.zeros((0, 1), np.uint16)


def exact(hashes: NDArray[np.uint64], kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows whose words an earlier kept row already has."""
    import numpy as np

    nodes = np.flatnonzero(kept)
    repeated = np.zeros(len(hashes), bool)
    repeated[same_value_edges(hashes[nodes], nodes)[:, 1]] = True
    return repeated


def similar(keys: Keys, what: str, kept: NDArray[np.bool_], threshold: float) -> NDArray[np.int64]:
    """Pairs of kept rows that are at least this similar, of shape (pairs, 2).

    Not every such pair is given, but enough to connect all that belong together: in every band,
    each row is compared with the first of those that share its hash.

    Args:
        keys: with the columns ``{what}_band_00`` ... and ``{what}_signature``.
        what: ``pair`` (question and answer) or ``question``.
        kept: the rows that take part.
        threshold: Jaccard similarity of word pairs, as MinHash estimates it.
    """
    import numpy as np

    nodes = np.flatnonzero(kept)
    found = np.zeros(0, np.int64)
    bands = [name for name in keys.names() if name.startswith(f"{what}_band_")]
    for start in range(0, len(bands), _BANDS_AT_ONCE):
        for values in keys.columns(bands[start : start + _BANDS_AT_ONCE]):
            edges = same_value_edges(values[nodes], nodes)
            found = np.union1d(found, edges[:, 0] * keys.rows + edges[:, 1])
    pairs = np.stack(np.divmod(found, max(1, keys.rows)), axis=1)
    involved = np.zeros(keys.rows, bool)
    involved[pairs] = True
    place = np.cumsum(involved) - 1
    signed = keys.signatures(f"{what}_signature", involved)
    alike = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = pairs[start : start + _PAIRS_AT_ONCE]
        equal = signed[place[some[:, 0]]] == signed[place[some[:, 1]]]
        alike[start : start + _PAIRS_AT_ONCE] = equal.mean(axis=1) >= threshold
    return pairs[alike]


def repeated_in(rows: int, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """All rows but the first of every set of rows that these pairs connect."""
    import numpy as np

    return components(rows, pairs) != np.arange(rows)

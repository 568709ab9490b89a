"""Connected components of a graph given by its edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def components(count: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of ``count`` nodes the smallest node it is connected with.

    Args:
        count: of nodes, numbered from 0.
        edges: of shape (edges, 2).
    """
    import numpy as np

    label = np.arange(count, dtype=np.int64)
    left, right = edges[:, 0], edges[:, 1]
    while True:
        lower = np.minimum(label[left], label[right])
        before = label.copy()
        # A root takes over the smallest label that any of its edges offers ...
        np.minimum.at(label, before[left], lower)
        np.minimum.at(label, before[right], lower)
        # ... and everybody follows to the end of the chain.
        while True:
            shorter = label[label]
            if np.array_equal(shorter, label):
                break
            label = shorter
        if np.array_equal(label, before):
            return label


def same_value_edges(values: NDArray[np.generic], nodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Edges from the smallest node to every other that has the same value.

    Args:
        values: one for each of ``nodes``.
        nodes: ascending.
    """
    import numpy as np

    order = np.argsort(values, kind="stable")
    ordered = values[order]
    start = np.r_[True, ordered[1:] != ordered[:-1]] if len(values) else np.zeros(0, bool)
    first = nodes[order][np.maximum.accumulate(np.where(start, np.arange(len(values)), 0))]
    return np.stack([first[~start], nodes[order][~start]], axis=1)

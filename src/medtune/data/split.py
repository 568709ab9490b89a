"""Divide groups of rows into train, validation and test, balanced by a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medtune.errors import MedtuneError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNUSED = -1
"""The split of a row that is left out; the others are indices into ``run.SPLITS``."""
_TRAIN, _VALIDATION, _TEST = range(3)


@dataclass(frozen=True)
class Division:
    split: NDArray[np.int8]
    """For each row an index into ``SPLITS``, or ``UNUSED``."""
    groups: int
    largest_group: int
    """Its rows."""
    kept_whole: int
    """Rows of groups so large that they could only go to the training rows."""


def question_key(text: str) -> str:
    """What makes two questions the same: their words, whatever the case and spacing."""
    return " ".join(text.casefold().split())


def divide(
    group: NDArray[np.int64],
    kept: NDArray[np.bool_],
    stratum: NDArray[np.uint64],
    order: NDArray[np.uint64],
    validation: float,
    test: float,
    seed: int,
) -> Division:
    """Give every group wholly to one split.

    Groups are put in an order by stratum, at random within it, and the held-out shares are taken
    from that order at equal distances (systematic sampling), so every stratum gives its share.

    Args:
        group: for each row its group.
        kept: the rows that take part.
        stratum: for each row the hash of its label; 0 where there is none.
        order: for each row a hash of its content, so that the division does not depend on where
            in the file a row stands.
        validation: share of the rows.
        test: share of the rows.
        seed: of the random order.

    Raises:
        MedtuneError: there are too few groups for three splits.
    """
    import numpy as np

    rows = np.flatnonzero(kept)
    names, first, member = np.unique(group[rows], return_index=True, return_inverse=True)
    sizes = np.bincount(member)
    wanted = {_TEST: max(1.0, len(rows) * test), _VALIDATION: max(1.0, len(rows) * validation)}
    if len(names) < 3:
        raise MedtuneError(
            f"{len(names)} different question{'s are' if len(names) != 1 else ' is'} too few to train, "
            "validate and test on; add rows."
        )
    # The least hash of a group is the same whichever of its rows comes first in the file.
    least = np.full(len(names), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, member, order[rows])
    shuffled = _mixed(least, seed)
    sequence = np.lexsort((shuffled, stratum[rows][first]))
    assigned = np.full(len(names), _TRAIN, np.int8)
    # A group larger than a whole share would swell it, so it is trained on; unless all are.
    too_large = sizes > min(wanted.values())
    if (~too_large).sum() < 2:
        too_large[:] = False
    for split, spare in ((_TEST, 2), (_VALIDATION, 1)):
        free = sequence[(assigned[sequence] == _TRAIN) & ~too_large[sequence]]
        # By groups and not by rows: a group's chance must not grow with its size.
        every = max(1.0, sizes[free].sum() / wanted[split])
        place = np.arange(len(free)) + every * ((seed * 0.6180339887498949 + 0.37) % 1)
        crossed = np.floor((place + 1) / every) > np.floor(place / every)
        if not crossed.any():
            crossed[int(shuffled[free].argmin())] = True
        left_over = spare - (1 if too_large.any() else 0)
        assigned[free[crossed][: len(free) - left_over]] = split
    split_of = np.full(len(kept), UNUSED, np.int8)
    split_of[rows] = assigned[member]
    return Division(
        split=split_of,
        groups=len(names),
        largest_group=int(sizes.max()),
        kept_whole=int(sizes[too_large & (sizes > 1)].sum()),
    )


def drawn(
    kept: NDArray[np.bool_],
    source: NDArray[np.int64],
    weights: list[float],
    limit: int | None,
    order: NDArray[np.uint64],
    seed: int,
) -> NDArray[np.bool_]:
    """The rows that a mixture and a limit leave, drawn at random with the seed.

    Sources keep the proportions of their weights: as many rows as the scarcest one allows.

    Args:
        kept: the rows to draw from.
        source: for each row the index of its source.
        weights: of the sources.
        limit: of rows altogether.
        order: for each row a hash of its content.
        seed: of the draw.
    """
    import numpy as np

    there = [int((kept & (source == i)).sum()) for i in range(len(weights))]
    total = float(sum(there))
    if len(weights) > 1:
        total = min(n * sum(weights) / w for n, w in zip(there, weights, strict=True))
    total = min(total, limit or total)
    chosen = np.zeros(len(kept), bool)
    shuffled = _mixed(order, seed + 1)
    for index, weight in enumerate(weights):
        rows = np.flatnonzero(kept & (source == index))
        count = len(rows) if len(weights) == 1 else round(total * weight / sum(weights))
        count = min(count, len(rows), limit or len(rows))
        chosen[rows[np.argsort(shuffled[rows], kind="stable")[:count]]] = True
    return chosen


def _mixed(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Values scattered by a seed (the finaliser of SplitMix64, Steele et al. 2014)."""
    import numpy as np

    # Wrapping round is meant.
    mixed = values + np.uint64((0x9E3779B97F4A7C15 * (2 * seed + 1)) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))

"""Which row is used for what: duplicates, groups, contamination, draw and split, all by ids."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.data.components import components, same_value_edges
from medtune.data.duplicates import Keys, exact, repeated_in, similar
from medtune.data.engine import part_files
from medtune.data.filters import REASONS
from medtune.data.split import UNUSED, divide, drawn
from medtune.errors import MedtuneError
from medtune.recipe import DataSection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ONE_ROW_EACH = 0.8
"""Share of rows with a condition of their own from which a random split tests only new ones."""


@dataclass(frozen=True)
class Plan:
    """For each row the index of its reason and of its split, as arrays on disk."""

    folder: Path

    @property
    def reason_file(self) -> Path:
        return self.folder / "reason.npy"

    @property
    def split_file(self) -> Path:
        return self.folder / "split.npy"


def make_plan(
    section: DataSection, checked: Path, source_rows: list[int], overlap: Path | None, target: Path
) -> dict[str, Any]:
    """Decide about every row and write the decisions.

    Args:
        section: the settings.
        checked: the folder with reasons, hashes and signatures.
        source_rows: rows of each source, in the order of the ids.
        overlap: the folder that says what each row shares with evaluation files.
        target: the folder of the plan.

    Returns:
        Counts of reasons, groups and splits, and warnings.

    Raises:
        MedtuneError: no row or too few rows are left; the sentence says why they went.
    """
    import numpy as np

    keys = Keys(part_files(checked), sum(source_rows))
    reason = keys.column("reason").astype(np.int8)
    pair_hash = keys.column("pair_hash").astype(np.uint64)
    kept = reason == 0

    def leave_out(mask: NDArray[np.bool_], name: str) -> None:
        nonlocal kept
        reason[kept & mask] = REASONS.index(name)
        kept = reason == 0

    leave_out(exact(pair_hash, kept), "exact duplicate")
    near = np.zeros((0, 2), np.int64)
    if section.near_duplicates is not None:
        near = similar(keys, "pair", kept, section.near_duplicates)
        leave_out(repeated_in(keys.rows, near), "near duplicate")
    contaminated = 0
    if overlap is not None:
        shared = Keys(part_files(overlap), keys.rows).column("shared").astype(np.int64) > 0
        contaminated = int((shared & kept).sum())
        if section.contaminated == "remove":
            leave_out(shared, "contaminated")
    if not kept.any():
        raise MedtuneError(
            f"No row is left of {keys.rows:,} ({reasons_sentence(reason)}); "
            "loosen the settings of the data section, or look at the data."
        )
    group = _groups(section, keys, kept)
    source = np.repeat(np.arange(len(source_rows)), source_rows)
    weights = [part.weight for part in section.mixture] or [1.0]
    leave_out(~drawn(kept, source, weights, section.limit, pair_hash, section.seed), "not drawn")
    condition = keys.column("condition").astype(np.uint64)
    division = divide(
        group, kept, keys.column("stratum").astype(np.uint64), pair_hash,
        section.validation, section.test, section.seed,
    )  # fmt: skip
    np.save(target / "reason.npy", reason)
    np.save(target / "split.npy", division.split)
    return {
        "reasons": {REASONS[i]: n for i, n in Counter(reason.tolist()).items() if i},
        "groups": division.groups,
        "largest_group": division.largest_group,
        "contaminated": contaminated,
        "drawn": [int((kept & (source == i)).sum()) for i in range(len(source_rows))],
        "warnings": list(_warnings(section, division, condition[kept])),
    }


def reasons_sentence(reason: NDArray[np.int8]) -> str:
    """The reasons with their numbers, most frequent first."""
    counts = Counter(REASONS[i] for i in reason.tolist() if i)
    return ", ".join(f"{n:,} {name}" for name, n in counts.most_common())


def _groups(section: DataSection, keys: Keys, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows that ask the same, are of the same patient or, if wanted, of the same condition."""
    import numpy as np

    nodes = np.flatnonzero(kept)
    edges = [same_value_edges(keys.column("question_hash")[nodes], nodes)]
    if section.near_duplicates is not None:
        long_enough = kept & keys.column("long_question").astype(bool)
        edges.append(similar(keys, "question", long_enough, section.near_duplicates))
    for label, wanted in (("patient", True), ("condition", section.conditions_apart)):
        if wanted:
            values = keys.column(label)
            known = np.flatnonzero(kept & (values != 0))
            edges.append(same_value_edges(values[known], known))
    return components(keys.rows, np.concatenate(edges))


def _warnings(section: DataSection, division: Any, condition: NDArray[np.uint64]) -> Any:
    import numpy as np

    named = condition[condition != 0]
    if len(named) and not section.conditions_apart:
        _, counts = np.unique(named, return_counts=True)
        alone = int((counts == 1).sum())
        if alone >= _ONE_ROW_EACH * len(named):
            yield (
                f"{alone:,} of {len(named):,} rows have a condition of their own: the test rows ask "
                "only for conditions that were never trained on. A score on them says how well the "
                "model guesses, not what it learned."
            )
    if division.kept_whole:
        yield (
            f"{division.kept_whole:,} rows are in groups of alike questions too large to hold out; "
            "they are trained on."
        )
    held_out = int(np.isin(division.split, (1, 2)).sum())
    if 0 < held_out < 20:
        yield f"Only {held_out} rows are held out: figures on them have wide intervals."
    if int((division.split != UNUSED).sum()) < 100:
        yield "Fewer than 100 rows are left; that is little to train on."

"""One prepared dialogue, and the parquet files that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from medtune.run import Run, SplitName, whole

if TYPE_CHECKING:
    import pyarrow as pa

Turn = dict[str, str]
"""``{"role": "user" | "assistant", "content": ...}``."""


@dataclass(frozen=True)
class Row:
    """A question and its answer; a label that the source does not have is empty."""

    id: str
    question: str
    answer: str
    condition: str = ""
    specialist: str = ""
    urgency: str = ""
    kind: str = ""
    system: str = ""
    tokens: int = 0
    """Length of prompt and answer as the model sees them."""
    history: tuple[Turn, ...] = ()
    """The turns before the question, oldest first; the first one is the user's."""
    source: str = ""


def row_schema() -> pa.Schema:
    """The columns of a split file."""
    import pyarrow as pa

    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    types: dict[str, pa.DataType] = {"tokens": pa.int64(), "history": turns}
    return pa.schema([(f.name, types.get(f.name, pa.string())) for f in fields(Row)])


def write_rows(path: Path, rows: Iterable[Row], reasons: list[str] | None = None) -> None:
    """Write rows as parquet, whole or not at all; with why each was left out, if it was."""
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pylist([asdict(r) for r in rows], row_schema())
    if reasons is not None:
        table = table.append_column("reason", pa.array(reasons, pa.string()))
    with whole(path) as part:
        parquet.write_table(table, part)


def read_split(run: Run, split: SplitName) -> list[Row]:
    """The prepared rows of a split.

    Raises:
        MedtuneError: the run has not been prepared.
    """
    from pyarrow import parquet

    path = run.require(
        run.split_file(split),
        f"The run {run.name!r} has no prepared {split} rows; start with `medtune prepare`.",
    )
    rows = parquet.read_table(path).to_pylist()
    return [Row(**{**row, "history": tuple(row.get("history") or ())}) for row in rows]

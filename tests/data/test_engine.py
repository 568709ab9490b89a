from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from medtune.data import engine
from medtune.data.engine import Facts, Step, map_parts, part_files
from medtune.errors import MedtuneError


def _double() -> Step:
    """Doubles a column; a negative value is refused, a missing one breaks."""

    def step(source: Path, target: Path) -> Facts:  # inside, so that it travels as a whole
        import pyarrow as pa
        from pyarrow import parquet

        from medtune.errors import MedtuneError

        values = parquet.read_table(source).column("x").to_pylist()
        if any(v is None for v in values):
            raise ValueError("a value is missing")
        if min(values) < 0:
            raise MedtuneError("A value is below 0; mend it.")
        parquet.write_table(pa.table({"x": [2 * v for v in values]}), target)
        return {"rows": len(values)}

    return step


def _parts(folder: Path, values: list[list[Any]]) -> list[Path]:
    folder.mkdir()
    for number, some in enumerate(values):
        parquet.write_table(
            pa.table({"x": pa.array(some, pa.int64())}), folder / f"part-{number:06}.parquet"
        )
    return part_files(folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_keep_their_order_and_names(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_workers", lambda: workers)
    (tmp_path / "out").mkdir()
    done: list[int] = []
    facts = map_parts(
        _double(), _parts(tmp_path / "in", [[1], [2, 3], [4, 5, 6]]), tmp_path / "out", done.append
    )
    assert [f["rows"] for f in facts] == [1, 2, 3]
    assert sum(done) == 3
    values = [parquet.read_table(p).column("x").to_pylist() for p in part_files(tmp_path / "out")]
    assert values == [[2], [4, 6], [8, 10, 12]]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_sentence_across_processes(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_workers", lambda: workers)
    (tmp_path / "out").mkdir()
    with pytest.raises(MedtuneError, match="^A value is below 0; mend it.$"):
        map_parts(_double(), _parts(tmp_path / "a", [[1], [-1], [3]]), tmp_path / "out")
    with pytest.raises(RuntimeError, match="ValueError in part-000001.parquet: a value is missing"):
        map_parts(_double(), _parts(tmp_path / "b", [[1], [None], [3]]), tmp_path / "out")

"""``medtune prepare --cluster`` gives the same splits on two Ray nodes as the command gives here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medtune.run import SPLITS, Run

pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")

# The command, with parts so small that 260 rows are several.
_MEDTUNE = """
from medtune.data import read
read.PART_ROWS = 60
from medtune.cli import main
main()
"""


@pytest.mark.slow
def test_two_nodes_give_the_same_splits(tmp_path: Path) -> None:
    import pandas as pd
    import pyarrow.parquet as pq

    rows = [
        (
            f"Why does place {i % 97} of my {('knee', 'neck', 'ear')[i % 3]} hurt so badly since day {i}?",
            f"Because of strain {i}, rest it.",
        )
        for i in range(240)
    ]
    rows += rows[:20]
    pd.DataFrame(rows, columns=["question", "answer"]).to_csv(tmp_path / "rows.csv", index=False)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"name: mine\nmodel: {{base: embedded}}\ndata: {{source: {tmp_path}/rows.csv}}\n"
    )

    def prepared(folder: str, *more: str) -> Run:
        done = subprocess.run(
            [sys.executable, "-c", _MEDTUNE, "prepare", str(recipe), "--runs", folder, *more],
            capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return Run(tmp_path / folder / "mine")

    here, there = prepared("here"), prepared("there", "--cluster", "local:2")
    for split in SPLITS:
        ours, theirs = (pq.read_table(run.split_file(split)).to_pylist() for run in (here, there))
        assert ours
        assert theirs == ours
    cards = [run.read_json(run.card_json) for run in (here, there)]
    for name in ("fingerprint", "dropped", "rows"):
        assert cards[0][name] == cards[1][name], name

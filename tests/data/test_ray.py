"""The same recipe gives the same splits on a Ray cluster of two nodes as here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")

_WORK = """
import json, sys
from pathlib import Path
from transformers import AutoTokenizer
from medtune.data import read
from medtune.data.prepare import prepare
from medtune.embedded import BASE_FOLDER
from medtune.recipe import DataSection
from medtune.run import Run

folder, on_ray = Path(sys.argv[1]), sys.argv[2] == "ray"
read.PART_ROWS = 60
if on_ray:
    from ray.cluster_utils import Cluster
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    import ray
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    assert len([n for n in ray.nodes() if n["Alive"]]) == 2
    import daft
    daft.set_runner_ray(cluster.address)
section = DataSection(source=str(folder / "rows.csv"))
done = prepare(section, Run(folder / ("ray" if on_ray else "here")), AutoTokenizer.from_pretrained(BASE_FOLDER))
print(json.dumps([done.counts, done.dropped, done.fingerprint]))
"""


@pytest.mark.slow
def test_two_nodes_give_the_same_splits(tmp_path: Path) -> None:
    import pandas as pd

    rows = [
        (
            f"Why does place {i % 97} of my {('knee', 'neck', 'ear')[i % 3]} hurt so badly since day {i}?",
            f"Because of strain {i}, rest it.",
        )
        for i in range(240)
    ]
    rows += rows[:20]
    pd.DataFrame(rows, columns=["question", "answer"]).to_csv(tmp_path / "rows.csv", index=False)
    said = []
    for how in ("here", "ray"):
        done = subprocess.run(
            [sys.executable, "-c", _WORK, str(tmp_path), how],
            capture_output=True, text=True, check=False, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        said.append(json.loads(done.stdout.splitlines()[-1]))
    assert said[0] == said[1]

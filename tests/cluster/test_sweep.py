"""Experiments side by side; one whose process is killed is tried again, alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")
psutil = pytest.importorskip("psutil")

from medtune.recipe import Recipe
from medtune.run import Run


def _recipe(base: Path) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "three",
            "model": {"base": str(base)},
            "data": {"limit": 60},
            "training": {"epochs": 40, "evaluate_every": 10, "samples": 0, "learning_rate": 1e-3},
            "evaluation": {"limit": 2, "max_new_tokens": 4},
            "experiments": [
                {"name": "long"},
                {"name": "short", "training.max_steps": 4},
                {"name": "bad", "adapter.targets": ["c_attn"]},
            ],
        }
    )


@pytest.mark.slow
def test_a_killed_experiment_alone_is_repeated_and_a_wrong_one_fails_alone(
    tiny_base: Path, tmp_path: Path, four_nodes: str
) -> None:
    from medtune.cluster.sweep import sweep

    long = Run(tmp_path / "three-long")
    killed: list[int] = []

    def kill_the_long_one() -> None:
        for _ in range(2400):
            if any(long.checkpoints.glob("checkpoint-*/trainer_state.json")):
                break
            time.sleep(0.05)
        for process in psutil.process_iter(["pid", "cmdline"]):
            if "ray::three-long" in " ".join(process.info["cmdline"] or ()):
                os.kill(process.info["pid"], signal.SIGKILL)
                killed.append(process.info["pid"])

    killer = threading.Thread(target=kill_the_long_one)
    killer.start()
    told: list[str] = []
    result = sweep(_recipe(tiny_base), Run(tmp_path / "three"), told.append)
    killer.join()
    assert len(killed) == 1
    assert {row.run for row in result.experiments} == {"three-long", "three-short"}
    assert "no projection c_attn" in result.failed["three-bad"]
    short = (tmp_path / "three-short" / "manifest.json").read_text()
    assert short.count("fingerprint") == 1
    again: list[str] = []
    assert sweep(_recipe(tiny_base), Run(tmp_path / "three"), again.append).winner == result.winner
    assert sum(line.endswith("done before.") for line in again) == 2

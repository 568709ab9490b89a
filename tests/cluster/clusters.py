"""What the tests of the cluster share: nodes, processes that are killed, and what must come of it."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from trained import curves

from medtune.cluster.connect import connected
from medtune.run import Run

INTERVAL = 5
LONGER = (
    "data.limit=150",
    "training.epochs=3",
    f"training.evaluate_every={INTERVAL}",
    "training.samples=2",
)
"""Long enough for something to happen on the way."""

# Read by Ray's processes when they start.
for name, value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A lost node is noticed after a second and a half, not after a quarter of a minute.
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}.items():
    os.environ.setdefault(name, value)


def local_cluster(nodes: int) -> Any:
    """A fixture: so many nodes on this machine, and the address of the first."""

    @pytest.fixture(scope="module")
    def address() -> Iterator[str]:
        pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")
        with connected(f"local:{nodes}") as found:
            yield found

    return address


def until(found: Callable[[], Any], what: str, seconds: float = 400) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"after {seconds} s still no {what}")


def newest(storage: Path) -> int:
    """The step of the newest checkpoint that the storage has."""
    steps = storage.glob("*/checkpoint_*/checkpoints/checkpoint-*")
    return max((int(path.name.rpartition("-")[2]) for path in steps), default=0)


def starts_in(said: str) -> set[int]:
    """The steps that the workers began with."""
    return {int(step) for step in re.findall(r"from step (\d+)", said)}


def check_same_end(run: Run, expected: Run, said: str) -> None:
    """The run ended as the one that nothing happened to, and fell back one interval at most, by what
    the command said of its progress."""
    steps = [found.read_json(found.training_file)["steps"] for found in (run, expected)]
    assert steps[0] == steps[1]
    assert curves(run) == pytest.approx(curves(expected), abs=2e-5)
    reached = [int(step) for step in re.findall(r"training: (\d+)/", said)]
    assert max(before - after for before, after in pairwise(reached)) <= INTERVAL, said


class Killer(threading.Thread):
    """Kills the process with a title as soon as its run has a checkpoint."""

    def __init__(self, title: str, run: Run) -> None:
        super().__init__(daemon=True)
        self._title, self._run = title, run
        self.killed: list[int] = []

    def run(self) -> None:
        for _ in range(2400):
            if any(self._run.checkpoints.glob("checkpoint-*/trainer_state.json")):
                break
            time.sleep(0.05)
        for process in psutil.process_iter(["pid", "cmdline"]):
            if self._title in " ".join(process.info["cmdline"] or ()):
                os.kill(process.info["pid"], signal.SIGKILL)
                self.killed.append(process.info["pid"])

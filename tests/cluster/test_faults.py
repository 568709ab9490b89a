"""Processes are killed for real; the training goes on by itself and ends where it would have."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import curves, prepared, small_recipe

from medtune.cluster.connect import connected
from medtune.errors import MedtuneError
from medtune.training.train import train

_INTERVAL = 5
_LONGER = (
    "data.limit=150",
    "training.epochs=6",
    f"training.evaluate_every={_INTERVAL}",
    "training.samples=2",
)


def _until(found: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"after {seconds} s still no {what}")


def _newest(storage: Path) -> int:
    """The step of the newest checkpoint that the storage has."""
    steps = storage.glob("*/checkpoint_*/checkpoints/checkpoint-*")
    return max((int(path.name.rpartition("-")[2]) for path in steps), default=0)


def _workers(raylets: list[int]) -> dict[int, int]:
    """Training processes and the raylets of the nodes that they run on."""
    found = {}
    for process in psutil.process_iter(["pid", "ppid", "cmdline"]):
        title = " ".join(process.info["cmdline"] or ())
        if process.info["ppid"] in raylets and "RayTrainWorker" in title:
            found[process.info["pid"]] = process.info["ppid"]
    return found


@pytest.fixture
def nodes() -> Iterator[dict[str, Any]]:
    """Three nodes of one core: two train, one is there when another is lost."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "nodes.py"), "3"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    yield json.loads(process.stdout.readline())  # type: ignore[union-attr]
    process.communicate(timeout=60)


@pytest.mark.slow
def test_worker_node_storage_and_driver_are_lost_and_the_loss_is_the_same(
    tiny_base: Path, tmp_path: Path, nodes: dict[str, Any]
) -> None:
    here = prepared(small_recipe(tiny_base, "here", *_LONGER), tmp_path)
    expected = train(here.recipe(), here)
    storage, away = tmp_path / "storage", tmp_path / "away"
    recipe = small_recipe(
        tiny_base, "lost", *_LONGER, "cluster.workers=2", f"cluster.storage={storage}"
    )
    run = prepared(recipe, tmp_path)
    raylets = nodes["raylets"]
    said = tmp_path / "said.txt"

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "medtune", "train", str(run.recipe_file)]
        return subprocess.Popen(
            [*command, "--cluster", nodes["address"]],
            stderr=said.open("ab"),
            stdout=said.open("ab"),
        )

    driver = start()
    _until(lambda: _newest(storage) >= _INTERVAL, "first checkpoint")
    workers = _workers(raylets)
    assert len(set(workers.values())) == 2, "the workers are on two nodes"
    before = _newest(storage)
    os.kill(next(iter(workers)), signal.SIGKILL)
    _until(lambda: _newest(storage) > before, "checkpoint after a worker was killed")

    storage.rename(away)
    storage.write_text("no folder")
    time.sleep(3)
    storage.unlink()
    away.rename(storage)
    before = _newest(storage)
    _until(lambda: _newest(storage) > before, "checkpoint after the storage was away")

    before = _newest(storage)
    os.kill(next(iter(_workers(raylets).values())), signal.SIGKILL)
    _until(lambda: _newest(storage) > before, "checkpoint after a node was lost")

    driver.kill()
    driver.wait()
    assert not run.adapter.exists(), "the training ended before it could be interrupted"
    driver = start()
    assert driver.wait(timeout=240) == 0, said.read_text()[-3000:]

    trained = run.read_json(run.training_file)
    assert trained["steps"] == expected.steps
    assert curves(run) == pytest.approx(curves(here), abs=2e-5)
    _at_most_one_interval_was_lost(said.read_text())
    assert not list(storage.glob("lost-*"))


def _at_most_one_interval_was_lost(said: str) -> None:
    steps = [int(step) for step in re.findall(r"training: (\d+)/", said)]
    lost = [before - after for before, after in pairwise(steps)]
    starts = [int(step) for step in re.findall(r"from step (\d+)", said)]
    assert max(lost) <= _INTERVAL, steps
    assert len(set(starts)) >= 4, f"three losses, three new starts, none from zero: {starts}"


def test_nothing_of_a_local_cluster_outlives_the_command_that_was_killed() -> None:
    pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")
    code = (
        "from medtune.cluster.connect import connected\n"
        "with connected('local:2'):\n"
        "    print('up', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"  # type: ignore[union-attr]
    started = psutil.Process(process.pid).children(recursive=True)
    assert sum("raylet" in child.name() for child in started) == 2
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(started, timeout=180)
    assert not alive, [child.cmdline() for child in alive]
    assert gone


def test_runs_that_need_ray_say_so_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MedtuneError, match=r"pip install 'medtune\[cluster\]'"):
        with connected("local"):
            pass
    monkeypatch.undo()
    pytest.importorskip("ray")
    with pytest.raises(MedtuneError, match="is no cluster; write local, local:2"):
        with connected("local:0"):
            pass

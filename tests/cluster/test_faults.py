"""Processes are killed for real; the training goes on by itself and ends where it would have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import INTERVAL, LONGER, check_same_end, newest, starts_in, until
from trained import prepared, small_recipe

from medtune.cluster.connect import connected
from medtune.errors import MedtuneError
from medtune.run import Run
from medtune.training.train import train


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
    process.communicate(timeout=120)


@pytest.fixture(scope="module")
def whole(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The training that nothing happens to, in one process."""
    run = prepared(small_recipe(tiny_base, "whole", *LONGER), tmp_path_factory.mktemp("whole"))
    train(run.recipe(), run)
    return run


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("lost", [("storage", "worker"), ("node", "driver")], ids="+".join)
def test_what_is_lost_is_made_up_for_and_the_loss_is_the_same(
    tiny_base: Path,
    tmp_path: Path,
    nodes: dict[str, Any],
    whole: Run,
    lost: tuple[str, str],
) -> None:
    storage, said = tmp_path / "storage", tmp_path / "said.txt"
    more = ("cluster.workers=2", f"cluster.storage={storage}")
    run = prepared(small_recipe(tiny_base, "lost", *LONGER, *more), tmp_path)

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "medtune", "train", str(run.recipe_file)]
        with said.open("ab") as file:
            return subprocess.Popen(
                [*command, "--cluster", nodes["address"]], stderr=file, stdout=file
            )

    def lose(what: str) -> None:
        nonlocal driver
        workers = _workers(nodes["raylets"])
        if what == "worker":
            os.kill(next(iter(workers)), signal.SIGKILL)
        elif what == "node":
            assert len(set(workers.values())) == 2, "the workers are on two nodes"
            os.kill(next(iter(workers.values())), signal.SIGKILL)
        elif what == "driver":
            driver.kill()
            driver.wait()
            driver = start()
        else:
            away = tmp_path / "away"
            storage.rename(away)
            storage.write_text("no folder")
            time.sleep(3)
            storage.unlink()
            away.rename(storage)

    driver = start()
    for checkpoint, what in zip((2 * INTERVAL, 5 * INTERVAL), lost, strict=True):
        until(lambda least=checkpoint: newest(storage) >= least, f"checkpoint {checkpoint}")
        assert not run.adapter.exists(), "the training ended before it could be disturbed"
        lose(what)
    assert driver.wait(timeout=400) == 0, said.read_text()[-3000:]

    check_same_end(run, whole, said.read_text())
    starts = starts_in(said.read_text())
    assert len(starts) == 3 - lost.count("storage"), starts
    assert not list(storage.glob("lost-*")), "what was needed to go on is not needed now"


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

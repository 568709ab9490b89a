"""Nodes with addresses of their own; a link between them is cut, and the training comes to its end.

The network is made of Linux' namespaces: whoever may make them (root, or anybody where user
namespaces are allowed) can run this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from clusters import INTERVAL, LONGER, check_same_end, newest, starts_in, until
from network import HEAD, PORT
from trained import prepared, small_recipe

from medtune.training.train import train

_UNSHARE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
if os.getuid():
    _UNSHARE += ["--user", "--map-root-user"]
_NOTICED = {
    # A node that does not answer is given up after some 7 seconds; a shorter silence is none.
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}


class Network:
    """A head and two more nodes.

    Args:
        process: whose child is the first process of the namespaces.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        (self._first,) = (child.pid for child in psutil.Process(process.pid).children())

    def inside(self, *command: str) -> list[str]:
        """The command, as it runs beside the head."""
        enter = ["nsenter", f"--target={self._first}", "--net", "--pid", "--mount"]
        if os.getuid():
            enter += ["--user", "--preserve-credentials"]
        return [*enter, *command]

    def cut(self, node: int) -> None:
        self._set(node, "down")

    def mend(self, node: int) -> None:
        self._set(node, "up")

    def _set(self, node: int, state: str) -> None:
        subprocess.run(self.inside("ip", "link", "set", f"port{node}", state), check=True)

    def trained_on(self) -> dict[int, psutil.Process]:
        """The nodes that train, the head is 0, each with the process that does."""
        return {
            self._node_of(process): process
            for process in psutil.Process(self._first).children(recursive=True)
            if "RayTrainWorker" in " ".join(process.cmdline())
        }

    def _node_of(self, process: psutil.Process) -> int:
        command = ["nsenter", f"--target={process.pid}", "--net", "ip", "-o", "-4", "addr"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return next(n for n in range(3) if f"{HEAD.rpartition('.')[0]}.{n + 1}/" in said)


@pytest.fixture
def network() -> Iterator[Network]:
    pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")
    trial = "ip link add one type veth peer name two && ip link add hub type bridge"
    tools = all(shutil.which(tool) for tool in ("ip", "unshare", "nsenter"))
    if not tools or subprocess.run([*_UNSHARE, "sh", "-c", trial], capture_output=True).returncode:
        pytest.skip("no network namespaces with links can be made here")
    folder = tempfile.mkdtemp(prefix="ray-")
    process = subprocess.Popen(
        [*_UNSHARE, sys.executable, str(Path(__file__).parent / "network.py"), folder, "2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **_NOTICED},
    )
    try:
        assert process.stdout.readline() == "up\n"  # type: ignore[union-attr]
        yield Network(process)
    finally:
        process.kill()  # its child goes with it, and everything in the namespaces with that
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_link_cut_for_a_moment_costs_nothing_and_for_long_one_interval_at_most(
    tiny_base: Path, tmp_path: Path, network: Network
) -> None:
    whole = prepared(small_recipe(tiny_base, "whole", *LONGER, "training.samples=0"), tmp_path)
    storage, said = tmp_path / "storage", tmp_path / "said.txt"
    more = ("training.samples=0", "cluster.workers=2", f"cluster.storage={storage}")
    run = prepared(small_recipe(tiny_base, "cut", *LONGER, *more), tmp_path)
    command = [sys.executable, "-m", "medtune", "train", str(run.recipe_file)]
    with said.open("ab") as file:
        driver = subprocess.Popen(
            network.inside(*command, "--cluster", f"{HEAD}:{PORT}"), stderr=file, stdout=file
        )
    try:
        train(whole.recipe(), whole)
        until(lambda: newest(storage) >= INTERVAL or driver.poll() is not None, "checkpoint")
        assert driver.poll() is None, said.read_text()[-3000:]
        processes = network.trained_on()
        assert len(processes) == 2, "the workers are on two nodes"
        node = max(processes)
        network.cut(node)
        time.sleep(2)
        network.mend(node)
        until(lambda: newest(storage) >= 3 * INTERVAL, "checkpoint after the link is back", 60)
        assert starts_in(said.read_text()) == {0}, "a moment's silence is no loss"

        network.cut(node)
        until(lambda: len(starts_in(said.read_text())) == 2, "second start", 120)
        network.mend(node)
        assert driver.wait(timeout=200) == 0, said.read_text()[-3000:]
        _, alive = psutil.wait_procs([processes[node]], timeout=60)
        assert not alive, "what was given up trains no more"
    finally:
        driver.kill()
        driver.wait()

    check_same_end(run, whole, said.read_text())

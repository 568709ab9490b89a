"""Actors give the results that one process gives, also when one of them is killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")
psutil = pytest.importorskip("psutil")

from medtune.evaluation.evaluate import evaluate
from medtune.run import Run


@pytest.mark.slow
def test_two_actors_one_of_them_killed_give_the_same_results(
    tuned_run: Run, tmp_path: Path, four_nodes: str
) -> None:
    from medtune.cluster.evaluate import Actors
    from medtune.recipe import changed

    here, there = (Run(Path(shutil.copytree(tuned_run.folder, tmp_path / n))) for n in "ab")
    recipe = changed(tuned_run.recipe(), {"evaluation.batch_size": 2, "cluster.workers": 2})
    expected = evaluate(recipe, here)

    class Killing(Actors):
        """Kills one of the processes once the first batch is there."""

        killed = 0

        def compute(self, *asked: Any) -> Iterator[tuple[int, list[Any]]]:
            for answer in super().compute(*asked):
                yield answer
                if not self.killed:
                    self.killed = _kill_a_voice()

    actors = Killing(recipe, there)
    try:
        found = evaluate(recipe, there, actors)
    finally:
        actors.close()
    assert actors.killed
    for results in (expected, found):
        results.pop("seconds")
    assert found == expected


def _kill_a_voice() -> int:
    for process in psutil.process_iter(["pid", "cmdline"]):
        if "ray::Voice" in " ".join(process.info["cmdline"] or ()):
            os.kill(process.info["pid"], signal.SIGKILL)
            return process.info["pid"]
    return 0

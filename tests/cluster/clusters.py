"""What the tests of the cluster share: a small recipe, its run, and how curves are read."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from medtune.data.prepare import prepare
from medtune.model.load import load_tokenizer
from medtune.recipe import Recipe, load_recipe
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


def small_recipe(base: Path, name: str, *overrides: str) -> Recipe:
    """In float32 and with dropout: what could make a difference does."""
    return load_recipe(
        "embedded-qlora",
        [
            f"name={name}",
            f"model.base={base}",
            "model.quantization=none",
            "model.dtype=float32",
            "adapter.dropout=0.1",
            "data.limit=110",
            "training.batch_size=2",
            "training.gradient_accumulation=4",
            "training.epochs=2",
            "training.warmup_steps=0",
            "training.learning_rate=3e-3",
            "training.evaluate_every=5",
            "training.samples=0",
            *overrides,
        ],
    )


def prepared(recipe: Recipe, folder: Path) -> Run:
    run = Run(folder / recipe.name)
    prepare(recipe.data, run, load_tokenizer(recipe.model))
    run.keep(recipe)
    return run


def curves(run: Run) -> dict[tuple[int, str], float]:
    """Training loss, validation loss, gradient norm and learning rate by step."""
    log = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    names = ("loss", "eval_loss", "grad_norm", "learning_rate")
    return {(entry["step"], name): entry[name] for entry in log for name in names if name in entry}


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


def most_steps_lost(said: str) -> int:
    """How far the training fell back at most, by what the command said of its progress."""
    reached = [int(step) for step in re.findall(r"training: (\d+)/", said)]
    return max(before - after for before, after in pairwise(reached))


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

"""Trackers with their real libraries, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from medtune.errors import MedtuneError
from medtune.training.tracking import check_installed

FOUND = {
    "tensorboard": "**/events.out.tfevents.*",
    "wandb": "**/offline-run-*/run-*.wandb",
    "trackio": "**/*.db",
    "mlflow": "**/metrics/train_loss",
}
_TRAIN = """
import sys
from pathlib import Path
from medtune.data.prepare import prepare
from medtune.model.load import load_tokenizer
from medtune.recipe import load_recipe
from medtune.run import Run
from medtune.training.train import train

for tracker in sys.argv[3:]:
    recipe = load_recipe("embedded-qlora", [f"name={tracker}", f"model.base={sys.argv[1]}",
        "data.limit=40", "training.max_steps=5", "training.evaluate_every=5", "training.samples=0",
        f"tracking.report_to={tracker}"])
    run = Run(Path(sys.argv[2]) / tracker)
    prepare(recipe.data, run, load_tokenizer(recipe.model))
    train(recipe, run)
"""


@pytest.fixture(scope="module")
def tracked(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``runs`` and ``kept`` of a training for each tracker that is installed."""
    folder = tmp_path_factory.mktemp("tracked")
    (folder / "kept").mkdir()
    trackers = [name for name in FOUND if find_spec(name)]
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN, str(tiny_base), str(folder / "runs"), *trackers],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "offline",
            "WANDB_DIR": str(folder / "kept"),
            "TRACKIO_DIR": str(folder / "kept"),
            "TENSORBOARD_LOGGING_DIR": str(folder / "kept"),
            "MLFLOW_TRACKING_URI": (folder / "kept" / "mlruns").as_uri(),
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("tracker", sorted(FOUND))
def test_a_tracker_keeps_the_losses_without_a_network(tracker: str, tracked: Path) -> None:
    pytest.importorskip(tracker)
    log = [json.loads(line) for line in (tracked / "runs" / tracker / "metrics.jsonl").open()]
    files = [path for path in (tracked / "kept").glob(FOUND[tracker]) if path.stat().st_size]
    assert files, [str(path) for path in (tracked / "kept").rglob("*") if path.is_file()]
    losses = [round(entry["loss"], 4) for entry in log if "loss" in entry]
    assert losses
    if tracker == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(files[0].parent)).Reload()
        assert [round(scalar.value, 4) for scalar in events.Scalars("train/loss")] == losses
    if tracker == "mlflow":
        # time, value, step
        told = [float(line.split()[1]) for line in files[0].read_text().splitlines()]
        assert [round(value, 4) for value in told] == losses


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded() -> None:
    check_installed("none")
    missing = next((name for name in FOUND if not find_spec(name)), None)
    with pytest.raises(MedtuneError, match=r"needs the package .*medtune\[tracking\]"):
        check_installed(missing or "a_tracker_that_nobody_wrote")

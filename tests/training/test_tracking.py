"""Trackers with their real libraries, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOUND = {
    "tensorboard": "**/events.out.tfevents.*",
    "wandb": "**/offline-run-*/run-*.wandb",
    "trackio": "**/*.db",
    "mlflow": "**/metrics/train_loss",
}
_LOCAL = {
    "WANDB_MODE": "offline",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@pytest.mark.parametrize("tracker", sorted(FOUND))
def test_a_tracker_keeps_the_losses_without_a_network(
    tracker: str, tiny_base: Path, tmp_path: Path
) -> None:
    pytest.importorskip(tracker)
    kept = tmp_path / "kept"
    kept.mkdir()
    done = subprocess.run(
        [
            sys.executable, "-m", "medtune", "train", "embedded-qlora", "name=tracked",
            f"model.base={tiny_base}", "data.limit=40", "training.max_steps=5",
            "training.evaluate_every=5", "training.samples=0", f"tracking.report_to={tracker}",
        ],
        cwd=tmp_path,
        env={
            **os.environ, **_LOCAL, "WANDB_DIR": str(kept), "TRACKIO_DIR": str(kept),
            "TENSORBOARD_LOGGING_DIR": str(kept), "MLFLOW_TRACKING_URI": kept.as_uri(),
        },
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (tmp_path / "runs/tracked/metrics.jsonl").open()]
    assert any("loss" in entry for entry in log)
    files = [path for path in kept.glob(FOUND[tracker]) if path.stat().st_size]
    assert files, [str(path) for path in tmp_path.rglob("*") if path.is_file()]
    if tracker == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(files[0].parent)).Reload()
        told = [round(scalar.value, 4) for scalar in events.Scalars("eval/loss")]
        assert told == [round(entry["eval_loss"], 4) for entry in log if "eval_loss" in entry]

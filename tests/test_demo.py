"""The main job on the embedded default: the figures it must reach."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medtune.run import Run


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_the_demo_beats_its_base_by_far_and_every_answer_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medtune", "demo", "--no-serve"]
    with (tmp_path / "said.txt").open("w") as said:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said)
        # Not wait4's figure, which counts what this process held when it forked.
        held = 0
        while process.poll() is None:
            state = Path(f"/proc/{process.pid}/status").read_text()
            held = max(held, *(int(n) for n in re.findall(r"VmRSS:\s+(\d+) kB", state)), 0)
            time.sleep(0.1)
    text = (tmp_path / "said.txt").read_text(encoding="utf-8")
    assert process.returncode == 0, text
    run = Run(tmp_path / "runs" / "embedded-qlora")
    results = json.loads(run.results_file.read_text(encoding="utf-8"))
    base, tuned = results["base"], results["tuned"]
    assert tuned["condition_top1"]["value"] >= 0.85
    assert tuned["specialist"]["value"] >= 0.90
    assert base["condition_top1"]["value"] < 0.15
    assert base["specialist"]["value"] < 0.15
    assert tuned["ended"]["value"] == 1.0
    assert tuned["perplexity"]["value"] < base["perplexity"]["value"] / 10
    assert tuned["condition_top1"]["n"] >= 200
    assert run.report_file.exists()
    assert "Possible conditions:" in text
    assert "not medical advice" in text
    assert held * 1024 <= 3e9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "columns"),
    [
        ("ai_medical_chatbot.csv", "{question: Patient, answer: Doctor}"),
        ("medifyai_diseases_symptoms.csv", "{question: Symptoms, answer: [Name, Treatments]}"),
    ],
)
def test_genuine_rows_train_and_lower_the_validation_perplexity(
    shared_data: Path, tmp_path: Path, file: str, columns: str
) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "medtune", "train", "own-dialogues", f"data.source={shared_data / file}",
            f"data.columns={columns}", "data.limit=80", "training.epochs=1", "training.evaluate_every=0.5",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "runs" / "own-dialogues")
    trained = json.loads(run.training_file.read_text(encoding="utf-8"))
    assert trained["validation_loss"] < trained["validation_loss_before"]
    assert run.adapter.exists()

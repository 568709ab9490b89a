from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from medtune.training.callbacks import (
    LossGuard,
    Throughput,
    evaluations_since_best,
    keep_until,
    read_metrics,
)


def test_lines_that_a_resumed_run_writes_again_are_dropped_and_a_torn_one_too(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in (5, 10, 15)]
    path.write_text("\n".join([*lines, '{"step": 20, "lo']))
    assert [entry["step"] for entry in read_metrics(path)] == [5, 10, 15]
    assert [entry["step"] for entry in keep_until(path, 10)] == [5, 10]
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [5, 10]


def test_evaluations_since_the_best_are_counted_without_the_untrained_one() -> None:
    def logged(*losses: float) -> list[dict[str, float]]:
        return [{"step": 5 * i, "eval_loss": loss} for i, loss in enumerate(losses)]

    assert evaluations_since_best(logged()) == 0
    assert evaluations_since_best(logged(1.0)) == 0
    assert evaluations_since_best(logged(1.0, 3.0)) == 0
    assert evaluations_since_best(logged(9.0, 3.0, 2.0, 2.5, 2.4)) == 2


def test_throughput_leaves_the_time_of_evaluations_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 30.0])
    monkeypatch.setattr("medtune.training.callbacks.time.perf_counter", lambda: next(clock))
    throughput = Throughput()
    assert throughput.rate({"num_tokens": 1000.0}) == pytest.approx(100.0)
    assert throughput.rate({"eval_loss": 1.0, "eval_runtime": 15.0}) is None
    assert throughput.rate({"num_tokens": 2000.0}) == pytest.approx(200.0)


@pytest.mark.parametrize(
    ("logs", "half", "words"),
    [
        ({"loss": math.nan}, False, "no number"),
        ({"eval_loss": math.inf}, False, "no number"),
        ({"loss": 2.0, "grad_norm": math.nan}, False, "no number"),
        ({"loss": 2.0, "grad_norm": math.inf}, True, None),
        ({"eval_loss": 3.1}, False, "rose from 2.00 before the training to 3.10 at step 7"),
        ({"eval_loss": 2.9}, False, None),
    ],
)
def test_the_guard_stops_what_is_ruined_and_nothing_else(
    tmp_path: Path, logs: dict[str, float], half: bool, words: str | None
) -> None:
    guard, control = LossGuard(untrained=2.0), TrainerControl(should_save=True)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    arguments.fp16 = half
    guard.on_log(arguments, TrainerState(global_step=7), control, logs=logs)
    assert control.should_training_stop == (words is not None)
    assert control.should_save == (words is None)
    assert (words or "") in (guard.reason or "")

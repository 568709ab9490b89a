"""What watches a training: progress, the log, the guard against a ruined loss, Ctrl-C."""

from __future__ import annotations

import json
import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_KEPT = {
    "loss": "loss",
    "eval_loss": "eval_loss",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
}


class ProgressBar(TrainerCallback):
    """Steps, loss and time left on stderr; a line per evaluation where it is no terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._note: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._bar.start()
        self._task = self._bar.add_task(
            "", total=state.max_steps, completed=state.global_step, note=""
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._bar.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for key, name in (("loss", "loss"), ("eval_loss", "validation")):
            if key in (logs or {}):
                self._note[name] = f"{float(logs[key]):.3f}"  # type: ignore[index]
        note = ", ".join(f"{name} {value}" for name, value in self._note.items())
        if self._bar.tasks:
            self._bar.update(self._task, note=note)
        if self._bar.disable and "eval_loss" in (logs or {}):
            self._console.print(f"training: step {state.global_step}/{state.max_steps}, {note}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        self._bar.stop()


class MetricsLog(TrainerCallback):
    """Appends one JSON object per logged step to ``metrics.jsonl``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kept = {name: float(logs[key]) for key, name in _KEPT.items() if logs and key in logs}
        if not {"loss", "eval_loss"} & kept.keys():
            return
        seconds = time.perf_counter() - self._started
        entry = {
            "step": state.global_step,
            "epoch": round(state.epoch or 0.0, 4),
            **kept,
            "seconds": round(seconds, 2),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def keep_until(path: Path, step: int) -> None:
    """Drop the lines of ``metrics.jsonl`` that a resumed run will write again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


class LossGuard(TrainerCallback):
    """Stops when the loss is no number any more; the last whole checkpoint stays."""

    def __init__(self) -> None:
        self.ruined_at: int | None = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for key in ("loss", "eval_loss", "grad_norm"):
            value = (logs or {}).get(key)
            if value is not None and not math.isfinite(float(value)):
                self.ruined_at = state.global_step
                control.should_training_stop = True
                control.should_save = False


class Interruption(TrainerCallback):
    """Ctrl-C or SIGTERM saves a checkpoint after the current step; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.at_step: int | None = None
        self._asked = False
        self._before: dict[int, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not in the main thread: whoever owns it handles signals
                return

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._asked and state.global_step < state.max_steps:
            self.at_step = state.global_step
            control.should_save = True
            control.should_training_stop = True

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

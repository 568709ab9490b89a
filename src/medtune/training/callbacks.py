"""What watches a training: progress, the log, the guard against a ruined loss, Ctrl-C."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medtune.run import whole

_KEPT = {
    "loss": "loss",
    "eval_loss": "eval_loss",
    "eval_runtime": "eval_seconds",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
}


class Throughput:
    """Tokens per second between two logs of the trainer, evaluations left out."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._since = time.perf_counter()

    def rate(self, logs: dict[str, Any]) -> float | None:
        """The rate since the last log that counted tokens; None if this one does not."""
        self._since += float(logs.get("eval_runtime", 0.0))
        if "num_tokens" not in logs:
            return None
        now, tokens = time.perf_counter(), float(logs["num_tokens"])
        rate = (tokens - self._tokens) / max(now - self._since, 1e-9)
        self._since, self._tokens = now, tokens
        return rate


def losses_said(logs: Mapping[str, Any]) -> dict[str, str]:
    """What the progress line says of the losses in an entry of the trainer's log."""
    named = {"loss": "loss", "eval_loss": "validation"}
    return {name: f"{name} {float(logs[key]):.3f}" for key, name in named.items() if key in logs}


class ProgressBar(TrainerCallback):
    """Steps, loss, speed and time left on stderr; a line per evaluation where it is no terminal."""

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
        self._throughput = Throughput()
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
        self._note.update(losses_said(logs or {}))
        rate = self._throughput.rate(logs or {})
        if rate is not None:
            self._note["rate"] = f"{rate:,.0f} tokens/s"
        note = ", ".join(self._note.values())
        if self._bar.tasks:
            self._bar.update(self._task, note=note)
        if self._bar.disable and "eval_loss" in (logs or {}):
            self._console.print(f"training: step {state.global_step}/{state.max_steps}, {note}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._bar.stop()


class MetricsLog(TrainerCallback):
    """Appends one JSON object per logged step to ``metrics.jsonl``.

    Args:
        path: the file.
        before: seconds that earlier parts of a resumed run took.
    """

    def __init__(self, path: Path, before: float = 0.0) -> None:
        self._path = path
        self._before = before

    @property
    def seconds(self) -> float:
        """Since the run began, the pauses before a ``--resume`` left out."""
        return self._before + time.perf_counter() - self._started

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = time.perf_counter()
        self._throughput = Throughput()

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
        rate = self._throughput.rate(logs or {})
        entry = {
            "step": state.global_step,
            "epoch": round(state.epoch or 0.0, 4),
            **kept,
            **({} if rate is None else {"tokens_per_second": round(rate, 1)}),
            "seconds": round(self.seconds, 2),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; one that a kill cut short is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def keep_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the lines of ``metrics.jsonl`` that a resumed run will write again; the others."""
    kept = [entry for entry in read_metrics(path) if entry["step"] <= step]
    with whole(path) as part:
        part.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
    return kept


def evaluations_since_best(entries: list[dict[str, Any]]) -> int:
    """How often the validation loss was measured after its best value, the untrained one aside."""
    losses = [e["eval_loss"] for e in entries if "eval_loss" in e and e["step"] > 0]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


class LossGuard(TrainerCallback):
    """Stops a training that ruins the model; the last whole checkpoint stays.

    It is ruined when a loss is no number any more, or when the validation loss is worse than
    that of the untrained adapter by more than 1: the perplexity has grown by the factor e.

    Args:
        untrained: the validation loss before the first step, where a resumed run knows it.
    """

    def __init__(self, untrained: float | None = None) -> None:
        self._untrained = untrained
        self.reason: str | None = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # In float16 the loss scaler meets overflowing gradients by design and skips the step.
        watched = ("loss", "eval_loss") if args.fp16 else ("loss", "eval_loss", "grad_norm")
        values = {key: float(logs[key]) for key in watched if logs and logs.get(key) is not None}
        if not all(math.isfinite(value) for value in values.values()):
            self.reason = f"The loss was no number any more at step {state.global_step}"
        elif "eval_loss" in values:
            if self._untrained is None:
                self._untrained = values["eval_loss"]
            if values["eval_loss"] > self._untrained + 1:
                self.reason = (
                    f"The validation loss rose from {self._untrained:.2f} before the training to "
                    f"{values['eval_loss']:.2f} at step {state.global_step}"
                )
        if self.reason is not None:
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
        print("Saving after this step; Ctrl-C again ends at once.", file=sys.stderr, flush=True)

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

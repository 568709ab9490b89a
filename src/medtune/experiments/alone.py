"""A training and its evaluation in processes of their own, so that their memory is their own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from medtune.errors import MedtuneError
from medtune.recipe import Recipe
from medtune.run import SPLITS, Run, whole

_LOOK_EVERY = 0.5
"""Seconds between two looks at a training that may be stopped."""


class Stopped(Exception):
    """The training was ended because whoever watched it asked for that."""


def train_alone(
    settings: Recipe, run: Run, others: Sequence[Run], stop: Callable[[], bool] = lambda: False
) -> str | None:
    """Train in a process of its own, or go on with a training that was interrupted.

    Args:
        settings: of this run.
        run: where; emptied first if it was made with other settings.
        others: runs whose rows may be taken over, if they were prepared in the same way.
        stop: asked now and then whether the training shall end.

    Returns:
        What went wrong in one sentence, or None.

    Raises:
        Stopped: ``stop`` said so; the run stays as it is.
    """
    begin(settings, run, others)
    if run.training_file.exists():
        return None
    return _medtune("train", str(run.recipe_file), "--resume", stop=stop)


def evaluate_alone(run: Run) -> str | None:
    """Evaluate in a process of its own; what went wrong in one sentence, or None."""
    return _medtune("evaluate", str(run.folder))


def begin(settings: Recipe, run: Run, others: Sequence[Run]) -> None:
    """Make the run, unless it was begun with these settings; equal rows are shared."""
    if not was_made_with(settings, run):
        shutil.rmtree(run.folder, ignore_errors=True)
        run.keep(settings)
        _share_rows(settings, run, others)


def was_made_with(settings: Recipe, run: Run) -> bool:
    """Whether the run was made with these very settings."""
    try:
        return run.recipe_file.exists() and run.recipe() == settings
    except MedtuneError:
        return False


def _medtune(*arguments: str, stop: Callable[[], bool] = lambda: False) -> str | None:
    """Run a command; its progress goes to the terminal, its last error into the answer."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "medtune", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=None if sys.stderr.isatty() else errors,
        )
        try:
            while not _ended(process):
                if stop():
                    process.kill()  # nothing of it is wanted any more
                    process.wait()
                    raise Stopped
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, _Terminated):
                process.terminate()
            process.wait()  # Ctrl-C reached it too: it saves its step
            raise
        return None if process.returncode == 0 else _reason(process.returncode, arguments, errors)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_LOOK_EVERY)
    except subprocess.TimeoutExpired:
        return False
    return True


def _reason(code: int, arguments: Sequence[str], errors: IO[str]) -> str:
    errors.seek(0)
    said = [line for line in errors.read().splitlines() if line.startswith("medtune: ")]
    if said:
        return said[-1].removeprefix("medtune: ")
    return f"`medtune {arguments[0]}` ended with {code}; try it alone to see why"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which unlike Ctrl-C reaches this process alone."""


@contextmanager
def together() -> Iterator[None]:
    """No training goes on alone when this process is interrupted or asked to end.

    Raises:
        MedtuneError: it was.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: whoever owns it handles signals
        yield
        return
    try:
        yield
    except KeyboardInterrupt:
        raise MedtuneError(
            "The sweep was interrupted; the same command goes on from there."
        ) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _share_rows(settings: Recipe, run: Run, others: Sequence[Run]) -> None:
    """Copy the rows of an experiment with the same data and base: they would come out equal."""
    for other in others:
        there = other.card_json.exists() and all(other.split_file(s).exists() for s in SPLITS)
        if not there:
            continue
        made_with = other.recipe()
        if (made_with.data, made_with.model) == (settings.data, settings.model):
            with whole(run.data_folder) as part:
                shutil.copytree(other.data_folder, part)
            return

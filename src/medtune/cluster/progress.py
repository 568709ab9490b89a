"""How far the workers are, told to whoever waits for them at a terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LOOKS = 0.5


class Board:
    """Holds the last thing that was said.  A worker that writes to it never waits for it."""

    def __init__(self) -> None:
        self._said = (0, 0, "")

    def write(self, done: int, total: int, note: str) -> None:
        self._said = (done, total, note)

    def read(self) -> tuple[int, int, str]:
        return self._said


@contextmanager
def shown(title: str) -> Iterator[Any]:
    """A board whose content is a bar on standard error; a line per note where it is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    board: Any = ray.remote(Board).options(num_cpus=0, max_restarts=-1).remote()
    ended = threading.Event()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:

        def follow() -> None:
            task, last = bar.add_task("", total=None, note="the workers start"), ""
            while not ended.wait(_SECONDS_BETWEEN_LOOKS):
                try:
                    done, total, note = ray.get(board.read.remote(), timeout=5)
                except RayError:  # its node is being replaced
                    continue
                if not total:  # nothing was said yet, or the board began anew with its node lost
                    continue
                bar.update(task, completed=done, total=total, note=note)
                if bar.disable and note != last:
                    console.print(f"{title}: {done}/{total}, {note}", markup=False)
                last = note

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield board
        finally:
            ended.set()
            thread.join()
            ray.kill(board)

"""The engine as the page sees it."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Lock

from medtune.chat.engines import Decoding, Engine
from medtune.model.template import Message


class Watched:
    """Counts its running answers, so that a server that is asked to stop can let them end."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.context = engine.name, engine.context
        self.running = 0
        self._engine = engine
        self._lock = Lock()

    def count(self, messages: list[Message]) -> int:
        return self._engine.count(messages)

    def stream(
        self, messages: list[Message], settings: Decoding, stop: Event | None = None
    ) -> Iterator[str]:
        with self._lock:
            self.running += 1
        try:
            yield from self._engine.stream(messages, settings, stop)
        finally:
            with self._lock:
                self.running -= 1

"""A real server in a thread, on engines whose answers and faults the test decides."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

import httpx

from medtune.chat.engines import Decoding, Ended
from medtune.errors import MedtuneError
from medtune.model.template import Message
from medtune.serving.server import Server, build_server, stop
from medtune.serving.service import Service


@dataclass
class Scripted:
    """Says its words one by one, a token each; waits where it is told to."""

    words: list[str]
    name: str = "scripted"
    context: int = 1000
    hold: Event | None = None
    """The engine waits for it before its second word."""
    breaks_at: int = -1
    seen: list[tuple[list[Message], Decoding]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    _lock: Lock = field(default_factory=Lock)

    def count(self, messages: list[Message]) -> int:
        return sum(len(turn["content"].split()) for turn in messages)

    def stream(
        self, messages: list[Message], settings: Decoding, stop: Event | None = None
    ) -> Iterator[str]:
        assert stop is not None
        with self._lock:
            self.seen.append((messages, settings))
            self.running += 1
            self.most_running = max(self.running, self.most_running)
        try:
            for number, word in enumerate(self.words):
                if number == self.breaks_at:
                    raise MedtuneError("The model failed while answering: /secret/path is gone")
                if number == settings.max_new_tokens:
                    return Ended(number, True)
                while number == 1 and self.hold and not self.hold.wait(0.01):
                    if stop.is_set():
                        return Ended(1, False)
                if stop.is_set():
                    return Ended(number, False)
                yield word
            return Ended(len(self.words), False)
        finally:
            with self._lock:
                self.running -= 1


@dataclass
class Served:
    url: str
    server: Server
    service: Service
    thread: Thread

    def client(self, **more: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **more)  # type: ignore[arg-type]


@contextmanager
def serving(service: Service, **more: object) -> Iterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = build_server(service, port=port, **{"page": False, **more})  # type: ignore[arg-type]
    thread = Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    served = Served(f"http://127.0.0.1:{port}", server, service, thread)
    try:
        yield served
    finally:
        stop(server)
        stop(server)
        thread.join(20)
        assert not thread.is_alive()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)

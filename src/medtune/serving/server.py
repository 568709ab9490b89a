"""The API and the page on one port, and an end that lets running answers finish."""

from __future__ import annotations

import os
import signal
from threading import Lock, Thread
from time import monotonic, sleep
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from medtune.chat.engines import Decoding, Engine
from medtune.errors import MedtuneError
from medtune.model.template import Message
from medtune.serving.api import create_app
from medtune.serving.keys import VARIABLE, Keys
from medtune.serving.service import Service
from medtune.serving.web import build_page, check_port, page_style

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from socket import socket
    from threading import Event

    from fastapi import FastAPI

_THIS_MACHINE = {"127.0.0.1", "localhost", "::1"}
_LONGEST_GOODBYE = 60.0  # seconds that running answers get to end


class Watched:
    """The engine as the page sees it, with a count of its running answers."""

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


class Server(uvicorn.Server):
    """uvicorn that, asked to stop, first lets the running answers end; asked twice, it stops.

    Meanwhile new questions get 503 with Retry-After, and ``/ready`` says so.
    """

    def __init__(self, config: uvicorn.Config, service: Service, page: Watched | None) -> None:
        super().__init__(config)
        self._service = service
        self._page = page

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        gate = self._service.gate
        if gate.draining:
            super().handle_exit(sig, frame)
            return
        gate.draining = True
        Thread(target=self._leave, args=(sig,), daemon=True).start()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self._service.gate.goodbye.set()
        await super().shutdown(sockets)

    def _leave(self, sig: int) -> None:
        end = monotonic() + _LONGEST_GOODBYE
        while self._is_busy() and not self.should_exit and monotonic() < end:
            sleep(0.05)
        super().handle_exit(sig, None)

    def _is_busy(self) -> bool:
        gate = self._service.gate
        return bool(gate.running or gate.waiting or (self._page and self._page.running))


def build_server(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    page: bool = True,
    origins: Sequence[str] = (),
) -> Server:
    """The server, not started.

    Args:
        service: the model and its limits.
        host: the address to listen on.
        port: of it.
        page: open the web page at ``/``, too.
        origins: web pages of other addresses that may call the API.
    """
    app = create_app(service, origins)
    watched = Watched(service.engine) if page else None
    if watched is not None:
        app = _with_page(app, watched, service)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Running answers have ended by now; what is left are idle pages.
        timeout_graceful_shutdown=2,
    )
    return Server(config, service, watched)


def serve(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    page: bool = True,
    origins: Sequence[str] = (),
) -> None:
    """Start API and page and stay until Ctrl-C or SIGTERM.

    Raises:
        MedtuneError: the port is taken.
    """
    check_port(host, port)
    try:
        build_server(service, host=host, port=port, page=page, origins=origins).run()
    except KeyboardInterrupt:  # uvicorn passes the signal on once it has stopped
        pass
    finally:
        service.gate.pool.shutdown(wait=False, cancel_futures=True)


def check_address(host: str, keys: Keys, is_open: bool) -> None:
    """Whether the server may listen there.

    Raises:
        MedtuneError: others could reach it, and it has no keys.
    """
    if host in _THIS_MACHINE or keys or is_open:
        return
    raise MedtuneError(
        f"At {host} others can reach the model, so it needs keys: set {VARIABLE} "
        "(`openssl rand -hex 24` makes one), or say --open where something in front asks for them.",
        exit_code=2,
    )


def _with_page(app: FastAPI, engine: Watched, service: Service) -> FastAPI:
    import gradio as gr

    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    page = build_page(engine, service.settings, service.system, service.country)
    page.queue(default_concurrency_limit=service.limits.slots, max_size=service.limits.waiting)
    sign_in: dict[str, Any] = {}
    if service.keys:
        sign_in = {
            "auth": lambda _, key: service.keys.owner(key) is not None,
            "auth_message": "Any name; the password is your API key.",
        }
    return gr.mount_gradio_app(
        app, page, path="/", css=page_style(), footer_links=[], run_history=False, **sign_in
    )


def stop(server: Server) -> None:
    """Ask a server in another thread to stop, as SIGTERM would."""
    server.handle_exit(signal.SIGTERM, None)

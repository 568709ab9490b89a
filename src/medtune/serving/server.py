"""The API and the page on one port, and an end that lets running answers finish."""

from __future__ import annotations

import os
import signal
from threading import Thread
from time import monotonic, sleep
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from medtune.errors import MedtuneError
from medtune.serving.api import create_app
from medtune.serving.keys import VARIABLE, Keys
from medtune.serving.service import Service
from medtune.serving.web import build_page, check_port, look

if TYPE_CHECKING:
    from collections.abc import Sequence
    from socket import socket

    from fastapi import FastAPI

_THIS_MACHINE = {"127.0.0.1", "localhost", "::1"}
_LONGEST_GOODBYE = 60.0  # seconds that running answers get to end


class Server(uvicorn.Server):
    """uvicorn that, asked to stop, first lets the running answers end; asked twice, it stops.

    Meanwhile new questions get 503 with Retry-After, and ``/ready`` says so.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

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
        return bool(gate.running or gate.waiting or self._service.page_engine.running)


def build_server(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    page: bool = True,
    origins: Sequence[str] = (),
    frames: Sequence[str] = (),
) -> Server:
    """The server, not started.

    Args:
        service: the model and its limits.
        host: the address to listen on.
        port: of it.
        page: open the web page at ``/``, too.
        origins: web pages of other addresses that may call the API.
        frames: web pages of other addresses that may show the page in a frame.
    """
    app = create_app(service, origins, frames)
    if page:
        app = _with_page(app, service)
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
    return Server(config, service)


def serve(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    page: bool = True,
    origins: Sequence[str] = (),
    frames: Sequence[str] = (),
) -> None:
    """Start API and page and stay until Ctrl-C or SIGTERM.

    Raises:
        MedtuneError: the port is taken.
    """
    check_port(host, port)
    try:
        build_server(service, host=host, port=port, page=page, origins=origins, frames=frames).run()
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


def _with_page(app: FastAPI, service: Service) -> FastAPI:
    import gradio as gr

    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    page = build_page(service)
    sign_in: dict[str, Any] = {}
    if service.keys:
        sign_in = {
            "auth": lambda _, key: service.keys.owner(key) is not None,
            "auth_message": "Any name; the password is your API key.",
        }
    return gr.mount_gradio_app(app, page, path="/", run_history=False, **look(), **sign_in)


def stop(server: Server) -> None:
    """Ask a server in another thread to stop, as SIGTERM would."""
    server.handle_exit(signal.SIGTERM, None)

"""A judge on this machine whose replies and faults the test decides."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | int | float | dict[str, str] | None
"""A text is the reply, a number below 100 seconds of silence, any other an HTTP status, headers
are a 429 with them, and None closes the connection."""


class JudgeServer:
    """Answers ``/v1/chat/completions``.

    Args:
        reply: from the prompt and how often it has come before to what the judge does.
    """

    def __init__(self, reply: Callable[[str, int], Reply]) -> None:
        self.prompts: list[str] = []
        self.keys: set[str | None] = set()
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][-1]["content"]
                with lock:
                    before = outer.prompts.count(prompt)
                    outer.prompts.append(prompt)
                    outer.keys.add(self.headers.get("Authorization"))
                said = reply(prompt, before)
                if said is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                if isinstance(said, int | float) and said < 100:
                    time.sleep(said)
                    said = verdict(True)
                if isinstance(said, str):
                    content = {"choices": [{"message": {"role": "assistant", "content": said}}]}
                    self._send(200, content, {})
                elif isinstance(said, dict):
                    self._send(429, {"error": {"message": "slow down"}}, said)
                else:
                    self._send(int(said), {"error": {"message": "as the test wants"}}, {})

            def _send(self, status: int, tree: dict[str, Any], headers: dict[str, str]) -> None:
                body = json.dumps(tree).encode()
                try:
                    self.send_response(status)
                    for name, value in {**headers, "Content-Length": str(len(body))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # the caller has given up, as a test of patience wants

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> JudgeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def verdict(met: bool) -> str:
    return json.dumps({"explanation": "So it is.", "criteria_met": met})

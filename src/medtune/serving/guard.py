"""Before any route: size of the body, key, rate.  After it: headers that browsers obey."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from medtune.serving.problems import problem
from medtune.serving.service import Service

_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_API = "/v1/"


class Guard:
    """Wraps the application.  The page asks for a key itself, by its sign-in."""

    def __init__(self, app: ASGIApp, service: Service, frames: Sequence[str] = ()) -> None:
        self._app = app
        self._service = service
        around = " ".join(["'self'", *frames])
        self._headers = {**_SECURITY, "Content-Security-Policy": f"frame-ancestors {around}"}
        if not frames:  # the older header knows no other address than one's own
            self._headers["X-Frame-Options"] = "SAMEORIGIN"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        is_api = path.startswith(_API)
        status, complete = 500, False

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if is_api:
                    headers.setdefault("Cache-Control", "no-store")
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        try:
            refusal = self._refusal(scope, path, is_api)
            if refusal is not None:
                await refusal(scope, receive, answer)
                return
            await self._app(scope, self._limited(self._until_goodbye(receive)), answer)
            if not complete and self._service.gate.goodbye.is_set():
                await send({"type": "http.response.body", "body": b""})
        finally:
            if is_api:
                route = scope.get("route")
                name = getattr(route, "path", "other")
                self._service.metrics.requests.labels(name, str(status)).inc()

    def _refusal(self, scope: Scope, path: str, is_api: bool) -> Response | None:
        """What is answered instead of the route, if anything."""
        headers, service = Headers(scope=scope), self._service
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > service.limits.body_bytes:
            return problem(413, self._too_large, "too_large")
        if not is_api and path != "/metrics":
            return None
        client = scope["client"][0] if scope.get("client") else "unknown"
        if service.keys and scope["method"] != "OPTIONS":
            kind, _, key = headers.get("authorization", "").partition(" ")
            owner = service.keys.owner(key.strip()) if kind.lower() == "bearer" else None
            if owner is None:
                return problem(
                    401, "This server needs an API key, as `Authorization: Bearer KEY`.",
                    "invalid_api_key", headers={"WWW-Authenticate": "Bearer"},
                )  # fmt: skip
            client = owner
        scope["medtune.client"] = client
        if is_api and scope["method"] == "POST":
            wait = max(service.requests.wait(client), service.tokens.wait(client))
            if wait > 0:
                service.metrics.refused.labels("rate").inc()
                seconds = str(int(wait) + 1)
                return problem(
                    429, f"Too many requests; wait {seconds} s.", "rate", headers={"Retry-After": seconds}
                )  # fmt: skip
            service.requests.spend(client)
        return None

    def _until_goodbye(self, receive: Receive) -> Receive:
        """``receive`` that reports a closed connection when the server ends.

        An open page listens to its server for ever, and would hold up the end.
        """
        goodbye = self._service.gate.goodbye

        async def listening() -> MutableMapping[str, Any]:
            message = asyncio.ensure_future(receive())
            ending = asyncio.ensure_future(goodbye.wait())
            try:
                await asyncio.wait({message, ending}, return_when=asyncio.FIRST_COMPLETED)
                return message.result() if message.done() else {"type": "http.disconnect"}
            finally:
                message.cancel()
                ending.cancel()

        return listening

    def _limited(self, receive: Receive) -> Receive:
        """``receive`` that refuses a body without a stated length once it is too large."""
        got = 0

        async def limited() -> MutableMapping[str, Any]:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._service.limits.body_bytes:
                raise HTTPException(413, self._too_large)
            return message

        return limited

    @property
    def _too_large(self) -> str:
        return f"The request is larger than {self._service.limits.body_bytes:,} bytes."

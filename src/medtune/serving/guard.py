"""Before any route: size of the body, key, rate.  After it: headers that browsers obey."""

from __future__ import annotations

from collections.abc import MutableMapping
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
    "Content-Security-Policy": "frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_API = "/v1/"


class Guard:
    """Wraps the application.  The page asks for a key itself, by its sign-in."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        is_api = path.startswith(_API)
        status = 500

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                if is_api:
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            refusal = self._refusal(scope, path, is_api)
            if refusal is not None:
                await refusal(scope, receive, answer)
                return
            await self._app(scope, self._limited(receive), answer)
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

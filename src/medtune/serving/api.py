"""The application: OpenAI's chat API, consultations, the safety layer, health and figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.middleware.cors import CORSMiddleware

from medtune import __version__
from medtune.chat.pipeline import DISCLAIMER
from medtune.serving.completions import completions
from medtune.serving.consultations import consultations
from medtune.serving.guard import Guard
from medtune.serving.opinions import opinions
from medtune.serving.problems import add_problems, problem
from medtune.serving.service import Service


def create_app(
    service: Service, origins: Sequence[str] = (), frames: Sequence[str] = ()
) -> FastAPI:
    """The API of a served model, without the page.

    Args:
        service: the model and its limits.
        origins: web pages of other addresses that may call the API, such as
            ``https://clinic.example``; none by default.
        frames: web pages of other addresses that may show this one in a frame.
    """
    app = FastAPI(
        title="Medtune",
        version=__version__,
        description=DISCLAIMER,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # the usual page loads its scripts from elsewhere
        redoc_url=None,
    )
    started = int(time.time())
    model: dict[str, Any] = {
        "id": service.name,
        "object": "model",
        "created": started,
        "owned_by": "medtune",
        "max_model_len": service.engine.context,
        "adapter": service.adapter,
    }
    add_problems(app, service)
    app.include_router(completions(service))
    app.include_router(consultations(service))
    app.include_router(opinions(service))

    @app.get("/v1/models", summary="The model of this server")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}", summary="One model")
    async def one_model(name: str) -> Response:
        if name != service.name:
            return problem(404, f"There is no model {name[:100]!r} here.", "model_not_found")
        return JSONResponse(model)

    @app.get("/health", summary="Whether the server lives")
    async def health() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @app.get("/ready", summary="Whether a question would be answered now")
    async def ready() -> Response:
        gate = service.gate
        if gate.draining:
            return problem(503, "The server is stopping.", "stopping", headers={"Retry-After": "5"})
        if gate.waiting >= gate.limits.waiting:
            return problem(503, "Too many wait.", "queue", headers={"Retry-After": "5"})
        state = {"running": gate.running, "waiting": gate.waiting, "slots": gate.limits.slots}
        return JSONResponse({"status": "ready", "model": service.name, **state})

    @app.get("/metrics", summary="Figures for Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    app.add_middleware(Guard, service=service, frames=frames)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After", "X-Medtune-Urgency", "X-Medtune-Rules-Version"],
        )
    return app

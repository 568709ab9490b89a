"""``/v1/feedback`` and ``/v1/votes``: what people say about answers, kept before it is thanked for."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from medtune.serving.feedback import Feedback, Vote
from medtune.serving.problems import BadRequest
from medtune.serving.service import Service
from medtune.serving.store import Kind


def opinions(service: Service) -> APIRouter:
    """The routes of a served model."""
    routes = APIRouter()

    async def keep(kind: Kind, said: Feedback | Vote) -> dict[str, str]:
        if service.store is None:
            raise BadRequest("This server keeps no feedback.", "no_store", status=404)
        document = said.model_dump(mode="json")
        return {"object": kind, "id": await run_in_threadpool(service.store.keep, kind, document)}

    @routes.post("/v1/feedback", status_code=201, summary="Say what an answer was worth")
    async def feedback(said: Feedback) -> dict[str, str]:
        return await keep("feedback", said)

    @routes.post("/v1/votes", status_code=201, summary="Say which of two answers was better")
    async def vote(said: Vote) -> dict[str, str]:
        return await keep("vote", said)

    return routes

"""``/v1/consultations`` and ``/v1/assess``: the structured answer, and the safety layer alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool

from medtune.chat.consultation import Consultation
from medtune.chat.exports import to_fhir, to_markdown
from medtune.chat.pipeline import structured_answer
from medtune.safety import assess
from medtune.serving.answering import Answer, unless_gone
from medtune.serving.metered import Metered
from medtune.serving.problems import check_question, client_of
from medtune.serving.service import Service, assessed
from medtune.serving.wire import AssessRequest, ConsultationRequest


def consultations(service: Service) -> APIRouter:
    """The routes of a served model."""
    routes = APIRouter()

    @routes.post("/v1/consultations", summary="Answer symptoms in a structured form")
    async def consult(asked: ConsultationRequest, request: Request) -> Response:
        began = time.monotonic()
        check_question(service, asked)
        country = service.country if asked.country is None else asked.country
        conversation = asked.conversation(service.system)
        assessment = await run_in_threadpool(assess, conversation.questions, country)
        service.metrics.answers.labels(assessment.urgency).inc()
        meter = Metered(service.engine)
        settings = asked.decoding(service.settings, meter.context)
        found: list[Consultation] = []

        def work() -> Iterator[str]:
            found.append(
                structured_answer(
                    conversation, meter, settings, country=country, forced=asked.forced
                )
            )
            return iter(())

        if assessment.urgency == "emergency" or assessment.declined:
            await run_in_threadpool(work)
        else:
            answer = await unless_gone(request, Answer.start(service.gate, meter, work))
            try:
                await unless_gone(request, answer.whole())
            finally:
                answer.end()
                service.metrics.answered(meter, began, time.monotonic())
                spent = meter.prompt_tokens + meter.completion_tokens
                service.tokens.spend(client_of(request), spent)
        headers = service.headers(assessment)
        if asked.format == "markdown":
            return PlainTextResponse(
                to_markdown(found[0]), media_type="text/markdown", headers=headers
            )
        if asked.format == "fhir":
            return JSONResponse(
                to_fhir(found[0]), media_type="application/fhir+json", headers=headers
            )
        tree = {
            "id": f"consultation-{uuid4().hex}",
            "object": "consultation",
            "created": int(time.time()),
            "model": service.name,
            "consultation": found[0].model_dump(mode="json"),
            "medtune": service.about(assessment),
        }
        return JSONResponse(tree, headers=headers)

    @routes.post("/v1/assess", summary="Say how urgent a message is, without the model")
    async def assess_text(asked: AssessRequest) -> dict[str, Any]:
        country = service.country if asked.country is None else asked.country
        texts = asked.messages if asked.messages is not None else [asked.text or ""]
        return assessed(await run_in_threadpool(assess, texts, country))

    return routes

"""``/v1/chat/completions``: OpenAI's chat API, with the safety layer in front of the model."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from medtune.chat.forced import check_schema, forced_answer
from medtune.chat.pipeline import answer
from medtune.errors import MedtuneError
from medtune.safety import Assessment, assess
from medtune.serving.answering import Answer, unless_gone
from medtune.serving.metered import Metered
from medtune.serving.problems import BROKEN, check_question, client_of
from medtune.serving.service import Service
from medtune.serving.wire import ChatRequest


@dataclass
class _Completion:
    """One answer on its way out, whole or in chunks."""

    service: Service
    assessment: Assessment
    meter: Metered
    refused: bool = False
    """The safety layer's word stands where JSON was asked for."""
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        if self.refused:
            message |= {"content": None, "refusal": text}
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": self.meter.reason,
            "logprobs": None,
        }
        return self._object("chat.completion", [choice]) | {"usage": self._usage()}

    def chunk(self, delta: dict[str, Any], end: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": end, "logprobs": None}
        return _event(self._object("chat.completion.chunk", [choice]))

    def chunk_of(self, piece: str) -> str:
        return self.chunk({"refusal" if self.refused else "content": piece})

    def usage_chunk(self) -> str:
        return _event(self._object("chat.completion.chunk", []) | {"usage": self._usage()})

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.service.name,
            "system_fingerprint": self.service.adapter or None,
            "choices": choices,
            "medtune": self.service.about(self.assessment),
        }

    def _usage(self) -> dict[str, int]:
        read, wrote = self.meter.prompt_tokens, self.meter.completion_tokens
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


def completions(service: Service) -> APIRouter:
    """The route of a served model."""
    routes = APIRouter()

    @routes.post("/v1/chat/completions", summary="Answer a conversation")
    async def chat_completions(asked: ChatRequest, request: Request) -> Response:
        began = time.monotonic()
        check_question(service, asked)
        country = service.country if asked.country is None else asked.country
        conversation = asked.conversation(service.system)
        schema = asked.response_format.schema_of_answer if asked.response_format else None
        if schema is not None:
            await run_in_threadpool(check_schema, schema)
        assessment = await run_in_threadpool(assess, conversation.questions, country)
        service.metrics.answers.labels(assessment.urgency).inc()
        meter = Metered(service.engine, asked.stops)
        settings = asked.decoding(service.settings, meter.context)
        completion = _Completion(service, assessment, meter)
        headers = service.headers(assessment)

        def pieces() -> Iterator[str]:
            if schema is not None and not completion.refused:
                return iter([forced_answer(conversation, meter, settings, schema)])
            return answer(
                conversation, meter, settings,
                stop=meter.cancelled, country=country, audit=service.audit,
            )  # fmt: skip

        def note() -> None:
            service.metrics.answered(meter, began, time.monotonic())
            spent = meter.prompt_tokens + meter.completion_tokens
            service.tokens.spend(client_of(request), spent)

        # The rules answer these alone and at once, however busy the model is.
        if assessment.urgency == "emergency" or assessment.declined:
            completion.refused = schema is not None
            text = await run_in_threadpool(lambda: "".join(pieces()))
            if asked.stream:
                known = [
                    *_opening(completion),
                    completion.chunk_of(text),
                    *_end(completion, asked),
                ]
                return _stream(_each(known), headers)
            return JSONResponse(completion.whole(text), headers=headers)

        work = await unless_gone(request, Answer.start(service.gate, meter, pieces))
        try:
            if not asked.stream:
                text = await unless_gone(request, work.whole())
                return JSONResponse(completion.whole(text), headers=headers)
            # Until the first piece an error still has a status of its own.
            first = await unless_gone(request, work.next())
        except BaseException:
            work.end()
            raise
        finally:
            if not asked.stream:
                work.end()
                note()

        async def chunks() -> AsyncIterator[str]:
            try:
                for chunk in _opening(completion):
                    yield chunk
                piece = first
                while piece is not None:
                    yield completion.chunk_of(piece)
                    piece = await work.next()
                for chunk in _end(completion, asked):
                    yield chunk
            except MedtuneError:
                yield _event({"error": {"message": BROKEN, "type": "server_error", "code": None}})
            finally:
                work.end()
                note()

        return _stream(chunks(), headers)

    return routes


def _opening(completion: _Completion) -> list[str]:
    return [
        completion.chunk({"role": "assistant", "content": "" if not completion.refused else None})
    ]


def _end(completion: _Completion, asked: ChatRequest) -> list[str]:
    last = [completion.chunk({}, completion.meter.reason)]
    if asked.stream_options and asked.stream_options.include_usage:
        last.append(completion.usage_chunk())
    return [*last, "data: [DONE]\n\n"]


def _event(tree: dict[str, Any]) -> str:
    return f"data: {json.dumps(tree, ensure_ascii=False)}\n\n"


async def _each(chunks: list[str]) -> AsyncIterator[str]:
    for chunk in chunks:
        yield chunk


def _stream(chunks: AsyncIterator[str], headers: dict[str, str]) -> StreamingResponse:
    # Proxies such as nginx hold back what they may buffer.
    held = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(chunks, media_type="text/event-stream", headers=headers | held)

"""What a client is told when there is no answer: OpenAI's form, one sentence, no stack trace."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from medtune.errors import MedtuneError
from medtune.serving.answering import ClientLeft
from medtune.serving.limits import Refused
from medtune.serving.metered import EngineFailed
from medtune.serving.service import Service
from medtune.serving.wire import Question

BROKEN = "The model failed while answering; please ask again."
_LOG = logging.getLogger(__name__)


class BadRequest(Exception):
    """The client's request cannot be answered as it stands."""

    def __init__(self, message: str, code: str, param: str | None = None, status: int = 400):
        super().__init__(message)
        self.code, self.param, self.status = code, param, status


def check_question(service: Service, asked: Question) -> None:
    """Whether this server answers such a question.

    Raises:
        BadRequest: another model is meant, or the conversation is too long.
    """
    if asked.model and asked.model != service.name:
        raise BadRequest(
            f"There is no model {asked.model[:100]!r} here; this server has {service.name!r}.",
            "model_not_found",
            "model",
            404,
        )
    if len(asked.messages) > service.limits.messages:
        raise BadRequest(
            f"A conversation has {service.limits.messages} messages at most; send the newest.",
            "too_many_messages",
            "messages",
        )


def client_of(request: Request) -> str:
    """Whom the limits concern: the key's owner, or the address where there are no keys."""
    return request.scope.get("medtune.client", "")


def problem(
    status: int,
    message: str,
    code: str | None = None,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """An error in OpenAI's form."""
    kind = {401: "authentication_error", 429: "rate_limit_error", 503: "overloaded_error"}.get(
        status, "server_error" if status >= 500 else "invalid_request_error"
    )
    tree = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(tree, status, headers)


def add_problems(app: FastAPI, service: Service) -> None:
    """Turn every error of the routes into a sentence with a status."""

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        service.metrics.refused.labels(error.reason).inc()
        return problem(
            error.status, str(error), error.reason, headers={"Retry-After": str(error.retry_after)}
        )

    def bad(request: Request, error: Exception) -> Response:
        assert isinstance(error, BadRequest)
        return problem(error.status, str(error), error.code, error.param)

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first: dict[str, Any] = dict(error.errors()[0])
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        said = str(first["msg"]).removeprefix("Value error, ")
        return problem(400, f"{place}: {said}" if place else said, "invalid_request", place or None)

    def too_much(request: Request, error: Exception) -> Response:
        return problem(400, str(error), "invalid_request")

    def failed(request: Request, error: Exception) -> Response:
        _LOG.error("%s", error)
        service.metrics.refused.labels("engine").inc()
        return problem(503, BROKEN, "engine", headers={"Retry-After": "5"})

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    def left(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it; the log and the figures do

    def unexpected(request: Request, error: Exception) -> Response:
        _LOG.error("%s at %s", type(error).__name__, request.url.path)
        return problem(500, "Something went wrong on the server; please ask again.")

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(BadRequest, bad)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(MedtuneError, too_much)
    app.add_exception_handler(EngineFailed, failed)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientLeft, left)
    app.add_exception_handler(Exception, unexpected)

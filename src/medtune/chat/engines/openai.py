"""An engine behind any server that speaks OpenAI's chat API: vLLM, Ollama, another Medtune."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from queue import Empty, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from medtune.chat.engines import Decoding, Ended, Leaving
from medtune.errors import MedtuneError
from medtune.model.template import Message

if TYPE_CHECKING:
    import httpx

KEY_VARIABLES = ("MEDTUNE_ENGINE_KEY", "OPENAI_API_KEY")
_USUAL_CONTEXT = 4096
_BYTES_PER_TOKEN = 3  # fewer than English takes, so that the estimate is rather too high
_TURN_TOKENS = 8


class OpenAIEngine:
    """Another server's model.

    It has no tokenizer, so ``count`` estimates; the server has the last word and its refusal
    is a sentence.

    Args:
        url: the server's, with or without ``/v1``.
        model: one of the server's; empty is its first.
        key: sent as a bearer token; empty sends none.
        context: tokens of prompt and answer; 0 is what the server says, or 4,096.
        seconds: that the server may be silent.

    Raises:
        MedtuneError: the server does not answer, or does not have the model.
    """

    def __init__(
        self, url: str, model: str = "", *, key: str = "", context: int = 0, seconds: float = 300.0
    ) -> None:
        import httpx

        base = url.rstrip("/")
        self._url = base if base.endswith("/v1") else f"{base}/v1"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(
            headers=headers, timeout=httpx.Timeout(seconds, connect=10.0), limits=httpx.Limits()
        )
        known = self._models()
        self.name = model or next(iter(known), "")
        if self.name not in known:
            there = ", ".join(known) or "none"
            raise MedtuneError(f"{url} has no model {self.name!r}; it has {there}.")
        self.context = context or known[self.name] or _USUAL_CONTEXT

    def count(self, messages: list[Message]) -> int:
        """An estimate: a token for every three bytes, and some for the template."""
        return sum(
            -(-len(turn["content"].encode()) // _BYTES_PER_TOKEN) + _TURN_TOKENS
            for turn in messages
        )

    def stream(
        self, messages: list[Message], settings: Decoding, stop: Event | None = None
    ) -> Generator[str, None, Ended | None]:
        cancelled = Leaving(stop)
        pieces: Queue[str | Ended | BaseException | None] = Queue()
        request = _request(self.name, messages, settings)

        def receive() -> None:
            try:
                for piece in self._events(request):
                    pieces.put(piece)
                    if cancelled.is_set():
                        break  # which closes the connection, and the server stops
            except BaseException as error:  # handed to the reader, who raises it
                pieces.put(error)
            pieces.put(None)

        Thread(target=receive, daemon=True).start()
        ended: Ended | None = None
        try:
            # Wakes up for Ctrl-C, and for a cancellation while the server is silent.
            while not cancelled.is_set():
                try:
                    piece = pieces.get(timeout=0.1)
                except Empty:
                    continue
                if piece is None:
                    return ended
                if isinstance(piece, MedtuneError):
                    raise piece
                if isinstance(piece, BaseException):
                    raise MedtuneError(f"{self._url} broke off: {_reason(piece)}.") from piece
                if isinstance(piece, Ended):
                    ended = piece
                else:
                    yield piece
            return ended
        finally:
            cancelled.set()

    def _models(self) -> dict[str, int]:
        """The server's models, each with its context, or 0 where that is not said."""
        import httpx

        try:
            response = self._client.get(f"{self._url}/models")
            _raise_for(response, self._url)
            rows = response.json()["data"]
            return {str(row["id"]): int(row.get("max_model_len") or 0) for row in rows}
        except httpx.HTTPError as error:
            raise MedtuneError(
                f"{self._url} does not answer ({_reason(error)}); is the server running?"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise MedtuneError(
                f"{self._url} is no OpenAI-compatible server: it has no list of models."
            ) from None

    def _events(self, request: dict[str, Any]) -> Iterator[str | Ended]:
        """The pieces of the answer, and how it ended."""
        tokens, cut = 0, False
        with self._client.stream("POST", f"{self._url}/chat/completions", json=request) as response:
            if response.status_code >= 400:
                response.read()
                _raise_for(response, self._url)
            for line in response.iter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    break
                tree = json.loads(data)
                if tree.get("error"):
                    raise MedtuneError(f"{self._url} broke off: {_message(tree)}")
                tokens = (tree.get("usage") or {}).get("completion_tokens", tokens)
                for choice in tree.get("choices", ()):
                    delta = choice.get("delta") or {}
                    text = delta.get("content") or delta.get("refusal")
                    if text:
                        yield text
                    cut = cut or choice.get("finish_reason") == "length"
        yield Ended(tokens, cut)


def open_engine(url: str, model: str = "") -> OpenAIEngine:
    """The engine of a server; its key stands in ``MEDTUNE_ENGINE_KEY`` or ``OPENAI_API_KEY``.

    Raises:
        MedtuneError: no address, no answer, or no such model.
    """
    if not url.startswith(("http://", "https://")):
        raise MedtuneError(
            "The engine openai needs the address of a server: --url http://127.0.0.1:8000.",
            exit_code=2,
        )
    key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "")
    return OpenAIEngine(url, model, key=key)


def _request(model: str, messages: list[Message], settings: Decoding) -> dict[str, Any]:
    request: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if settings.seed is not None:
        request["seed"] = settings.seed
    if settings.schema is not None:
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": settings.schema, "strict": True},
        }
    return request


def _raise_for(response: httpx.Response, url: str) -> None:
    if response.status_code < 400:
        return
    try:
        said = _message(response.json())
    except ValueError:
        said = f"HTTP {response.status_code}"
    if response.status_code in {401, 403}:
        said += f" Set {KEY_VARIABLES[0]} to the server's key."
    raise MedtuneError(f"{url} refused: {said}")


def _message(tree: Any) -> str:
    error = tree.get("error", tree) if isinstance(tree, dict) else tree
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]


def _reason(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__

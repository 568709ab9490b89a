"""What every engine does: messages in, pieces of text out, and stop when asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol

from medtune.model.template import Message


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen; temperature 0 is greedy."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    schema: dict[str, Any] | None = None
    """A JSON schema that the answer is forced to fit; every engine that can must honour it."""


@dataclass(frozen=True)
class Ended:
    """How an answer ended; the generator of ``Engine.stream`` returns it where it can tell."""

    tokens: int
    """What the model wrote, the end of turn not counted."""
    cut: bool
    """The length limit ended the answer, not the model."""


class Engine(Protocol):
    name: str
    context: int
    """Tokens of prompt and answer together that the model can hold."""

    def count(self, messages: list[Message]) -> int:
        """Tokens of the prompt for these messages."""
        ...

    def stream(
        self, messages: list[Message], settings: Decoding, stop: Event | None = None
    ) -> Iterator[str]:
        """Pieces of the answer; ends at the end of turn, the length limit, or soon after
        ``stop`` is set.

        A generator may return an ``Ended``.
        """
        ...

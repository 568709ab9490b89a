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


class Leaving:
    """Whether the rest of an answer is still wanted: not after a stop, nor when its reader left.

    The stop belongs to whoever asked and is only read: an answer that came to its end was not
    stopped.
    """

    def __init__(self, stop: Event | None) -> None:
        self._stop, self._left = stop, Event()

    def set(self) -> None:
        self._left.set()

    def is_set(self) -> bool:
        return self._left.is_set() or (self._stop is not None and self._stop.is_set())


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

"""An engine for one answer: it counts, ends at stop strings, and says how the answer ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from threading import Event
from typing import Literal

from medtune.chat.engines import Decoding, Ended, Engine
from medtune.errors import MedtuneError
from medtune.model.template import Message


class EngineFailed(MedtuneError):
    """The engine broke off, which is none of the client's making."""


class StopStrings:
    """Ends a text before the stop string that is complete first, however the text is cut.

    Args:
        strings: none of them empty.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""

    def feed(self, piece: str) -> tuple[str, bool]:
        """The text that may be shown now, and whether a stop string was found.

        The end of the text stays back while it may be the beginning of a stop string.
        """
        self._held += piece
        found = [(at + len(s), at) for s in self._strings if (at := self._held.find(s)) >= 0]
        if found:
            return self._held[: min(found)[1]], True
        longest = min(len(self._held), max(map(len, self._strings), default=1) - 1)
        kept = next((n for n in range(longest, 0, -1) if self._may_begin(self._held[-n:])), 0)
        cut = len(self._held) - kept
        text, self._held = self._held[:cut], self._held[cut:]
        return text, False

    def rest(self) -> str:
        """What stayed back, once no more text comes."""
        return self._held

    def _may_begin(self, end: str) -> bool:
        return any(s.startswith(end) for s in self._strings)


class Metered:
    """The engine as one request sees it.

    Args:
        engine: the one that answers.
        stop_strings: text that ends the answer and is not shown.
    """

    def __init__(self, engine: Engine, stop_strings: Sequence[str] = ()) -> None:
        self.name, self.context = engine.name, engine.context
        self.prompt_tokens = self.completion_tokens = 0
        self.first_piece: float | None = None
        """When the first text came, ``time.monotonic`` seconds."""
        self.reason: Literal["stop", "length"] = "stop"
        self.cancelled = Event()
        self._engine = engine
        self._stops = tuple(stop_strings)

    def count(self, messages: list[Message]) -> int:
        return self._engine.count(messages)

    def expire(self) -> None:
        """End the answer because it took too long."""
        self.reason = "length"
        self.cancelled.set()

    def stream(
        self, messages: list[Message], settings: Decoding, stop: Event | None = None
    ) -> Iterator[str]:
        """As the engine's, up to a stop string; ``cancelled`` ends it, not ``stop``.

        Raises:
            EngineFailed: the engine broke off.
        """
        self.prompt_tokens = self._engine.count(messages)
        pieces = self._engine.stream(messages, settings, self.cancelled)
        stops, shown = StopStrings(self._stops), ""
        try:
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    self._count(end.value, shown + stops.rest(), settings)
                    yield stops.rest()
                    return
                if self.first_piece is None:
                    self.first_piece = time.monotonic()
                text, found = stops.feed(piece)
                shown += text
                if text:
                    yield text
                if found:
                    self._count(None, shown, settings)
                    return
        except MedtuneError as error:
            raise EngineFailed(str(error)) from error
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _count(self, ended: Ended | None, text: str, settings: Decoding) -> None:
        """Tokens as the engine counted them, otherwise those of the text."""
        if ended is not None and ended.tokens:
            self.completion_tokens = ended.tokens
        elif text:
            turn: Message = {"role": "user", "content": ""}
            with_text = self._engine.count([{**turn, "content": text}])
            self.completion_tokens = max(with_text - self._engine.count([turn]), 1)
        if ended is not None and ended.cut:
            self.reason = "length"

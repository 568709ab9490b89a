"""What people would be shown: a model's answer after the pipeline that chat and serve use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event

from medtune.chat.conversation import Conversation
from medtune.chat.engines import Decoding
from medtune.chat.pipeline import answer
from medtune.data.rows import Row
from medtune.evaluation.urgency import more_urgent, urgency_said
from medtune.model.template import Message
from medtune.safety.assess import assess
from medtune.safety.rules import Level


@dataclass(frozen=True)
class Shown:
    text: str
    urgency: Level | None
    """The level that the text conveys, raised by the rules where they know better."""


class _Given:
    """An engine that gives an answer which is there already."""

    name = "given"
    context = 1_000_000

    def __init__(self, text: str) -> None:
        self._text = text

    def count(self, messages: list[Message]) -> int:
        return 0

    def stream(
        self, messages: list[Message], settings: Decoding, stop: Event | None = None
    ) -> Iterator[str]:
        yield self._text


def shown(row: Row, text: str) -> Shown:
    """The answer to a row's question behind the safety layer and the answer checks."""
    conversation = Conversation(row.system, [dict(turn) for turn in row.history])
    conversation.ask(row.question)
    seen = "".join(answer(conversation, _Given(text), Decoding(max_new_tokens=0)))
    return Shown(seen, more_urgent(urgency_said(seen), assess(conversation.questions).urgency))


def bare(text: str) -> Shown:
    """The model's answer as it is."""
    return Shown(text, urgency_said(text))


def all_shown(rows: Sequence[Row], texts: Sequence[str]) -> list[Shown]:
    return [shown(row, text) for row, text in zip(rows, texts, strict=True)]

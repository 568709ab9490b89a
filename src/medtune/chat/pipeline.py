"""From a message to an answer: the safety layer first, then the model."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

from medtune.chat.conversation import Conversation
from medtune.chat.engines import Decoding, Engine
from medtune.safety import assess

DISCLAIMER = (
    "This is an AI for information, not medical advice, and it can be wrong. "
    "In an emergency call your local emergency number."
)

NO_ANSWER = "The model gave no answer. Please ask again in other words."


def answer(
    conversation: Conversation,
    engine: Engine,
    settings: Decoding,
    *,
    stop: Event | None = None,
    country: str = "",
) -> Iterator[str]:
    """Pieces of the answer to the conversation's last message.

    What the safety layer has to say comes first and at once; an emergency gets no other answer.
    """
    assessment = assess(conversation.questions, country)
    if assessment.message:
        yield assessment.message
        if assessment.urgency == "emergency":
            return
        yield "\n\n"
    room = engine.context - settings.max_new_tokens
    silent = True
    for piece in engine.stream(conversation.fitted(engine.count, room), settings, stop):
        silent = silent and not piece.strip()
        yield piece
    if silent and not (stop and stop.is_set()):
        yield NO_ANSWER

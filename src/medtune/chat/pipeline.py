"""From a message to an answer: the safety layer first, then the model, then the checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from threading import Event

from medtune.chat.consultation import DRAFT_SCHEMA, DRAFT_TOKENS, Consultation, consultation
from medtune.chat.conversation import Conversation
from medtune.chat.engines import Decoding, Engine
from medtune.errors import MedtuneError
from medtune.safety.answers import Checked, check_answer, check_stream
from medtune.safety.assess import Assessment, assess
from medtune.safety.audit import AuditLog

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
    audit: AuditLog | None = None,
) -> Iterator[str]:
    """Pieces of the answer to the conversation's last message.

    What the safety layer has to say comes first and at once; an emergency and a declined request
    get no other answer, so they are answered when the model is down, too.

    Args:
        conversation: the last turn is the question.
        engine: the model.
        settings: how it decodes.
        stop: set to end the answer soon.
        country: two letters for the emergency lines.
        audit: where question, answer and what was done are recorded.
    """
    assessment = assess(conversation.questions, country)
    checked = Checked()
    shown: list[str] = []
    try:
        for piece in _answer(conversation, engine, settings, stop, assessment, checked):
            shown.append(piece)
            yield piece
    finally:
        if audit is not None:
            audit.record(
                conversation.questions[-1],
                "".join(shown),
                assessment,
                model=engine.name,
                changes=[asdict(change) for change in checked.changes]
                if audit.keep_text
                else [change.reason for change in checked.changes],
                replaced=checked.replaced,
            )


def structured_answer(
    conversation: Conversation,
    engine: Engine,
    settings: Decoding,
    *,
    country: str = "",
    forced: bool = False,
) -> Consultation:
    """The structured answer to the conversation's last message.

    Args:
        conversation: the last turn is the question.
        engine: the model; it is not asked in an emergency, nor for a declined request.
        settings: how it decodes.
        country: two letters for the emergency lines.
        forced: let the model write JSON of the schema and nothing else.
    """
    assessment = assess(conversation.questions, country)
    text = ""
    if not (assessment.urgency == "emergency" or assessment.declined):
        if forced:
            most = max(settings.max_new_tokens, DRAFT_TOKENS)
            settings = replace(settings, schema=DRAFT_SCHEMA, max_new_tokens=most)
        room = engine.context - settings.max_new_tokens
        sent = conversation.fitted(engine.count, room)
        text = "".join(engine.stream(sent, settings))
        if not forced:
            text = check_answer(text, " ".join(conversation.questions)).text
    return consultation(text, conversation.questions, assessment, country)


def _answer(
    conversation: Conversation,
    engine: Engine,
    settings: Decoding,
    stop: Event | None,
    assessment: Assessment,
    checked: Checked,
) -> Iterator[str]:
    if assessment.message:
        yield assessment.message
        if assessment.urgency == "emergency" or assessment.declined:
            return
        yield "\n\n"
    room = engine.context - settings.max_new_tokens
    silent = True
    pieces = engine.stream(conversation.fitted(engine.count, room), settings, stop)
    try:
        for piece in check_stream(pieces, " ".join(conversation.questions), checked):
            silent = silent and not piece.strip()
            yield piece
    except MedtuneError:
        if not assessment.message:
            raise
        return
    if silent and not (stop and stop.is_set()):
        yield NO_ANSWER

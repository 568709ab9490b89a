"""A conversation on paper: as a file that can be loaded again, as text, and as a medical card."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medtune.chat.consultation import Consultation, consultation
from medtune.chat.conversation import Conversation
from medtune.chat.pipeline import DISCLAIMER, NO_ANSWER
from medtune.embedded.consultations import SECTIONS
from medtune.errors import MedtuneError
from medtune.safety.assess import Assessment, assess

_SPEAKERS = {"user": "You", "assistant": "Medtune"}


class _Turn(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: str = Field(pattern="^(user|assistant)$")
    content: str


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")
    system: str = ""
    messages: list[_Turn]


def to_json(conversation: Conversation, **about: Any) -> str:
    """The conversation as JSON that ``from_json`` reads.

    Args:
        conversation: its turns, and the system turn.
        about: more to note, such as the model's name.
    """
    tree = {**about, "system": conversation.system, "messages": conversation.turns}
    return json.dumps(tree, ensure_ascii=False, indent=2) + "\n"


def from_json(text: str, name: str = "The file") -> Conversation:
    """The conversation that ``to_json`` wrote.

    Args:
        text: JSON.
        name: of the file, for the error.

    Raises:
        MedtuneError: it is no such file.
    """
    try:
        file = _File.model_validate_json(text)
    except ValidationError:
        raise MedtuneError(
            f"{name} is no saved conversation; load a JSON file that /save or the page wrote."
        ) from None
    return Conversation(file.system, [turn.model_dump() for turn in file.messages])


def to_markdown(conversation: Conversation, model: str = "") -> str:
    """The conversation as a text to read or print."""
    lines = ["# Conversation", ""]
    if model:
        lines += [f"Model: {model}", ""]
    for turn in conversation.turns:
        lines += [f"## {_SPEAKERS[turn['role']]}", "", with_headings(turn["content"]).strip(), ""]
    return "\n".join([*lines, f"*{DISCLAIMER}*", ""])


def card(conversation: Conversation, country: str = "") -> Consultation | None:
    """What the last answer says, in its parts; the model is not asked again.

    Returns:
        None where nothing has been asked.
    """
    if not conversation.questions:
        return None
    assessment = assess(conversation.questions, country)
    last = conversation.turns[-1]
    said = models_part(last["content"], assessment) if last["role"] == "assistant" else ""
    return consultation(said, conversation.questions, assessment, country)


def models_part(text: str, assessment: Assessment) -> str:
    """An answer without what the safety layer put in front of it."""
    said = text.strip().removeprefix(assessment.message).strip()
    return "" if said == NO_ANSWER else said


def with_headings(text: str) -> str:
    """The headings of an answer in bold, for whoever shows Markdown."""
    for heading in SECTIONS:
        text = text.replace(f"**{heading}:**", f"{heading}:").replace(
            f"{heading}:", f"**{heading}:**"
        )
    return text


def without_headings(text: str) -> str:
    """What the model wrote, from what ``with_headings`` showed."""
    for heading in SECTIONS:
        text = text.replace(f"**{heading}:**", f"{heading}:")
    return text

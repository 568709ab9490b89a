"""What people say about answers, and the training rows that become of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medtune.chat.transcript import models_part, without_headings
from medtune.model.template import Message
from medtune.run import whole
from medtune.safety import assess
from medtune.safety.redaction import redact
from medtune.serving.store import Record
from medtune.serving.wire import Text

REASONS = {
    "wrong": "It is wrong",
    "unsafe": "It could do harm",
    "unclear": "I do not understand it",
    "not_helpful": "It does not answer my question",
    "other": "Something else",
}
Reason = Literal["", "wrong", "unsafe", "unclear", "not_helpful", "other"]
Side = Literal["base", "tuned"]
_Long = Annotated[Text, Field(max_length=20_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Said(_Strict):
    role: Literal["user", "assistant"]
    content: _Long


class Feedback(_Strict):
    """A thumb for the last of these messages, an answer."""

    messages: Annotated[list[Said], Field(min_length=2, max_length=200)]
    verdict: Literal["up", "down"]
    reason: Reason = ""
    comment: Annotated[Text, Field(max_length=2_000)] = ""
    correction: _Long = ""
    """What the answer should have been."""
    system: _Long = ""
    model: Annotated[Text, Field(max_length=300)] = ""
    adapter: Annotated[Text, Field(max_length=300)] = ""

    @model_validator(mode="after")
    def _is_about_an_answer(self) -> Feedback:
        if [turn.role for turn in self.messages[-2:]] != ["user", "assistant"]:
            raise ValueError("the messages must end with a question and its answer")
        return self


class Vote(_Strict):
    """Which of two answers to the last of these messages was better, given blind."""

    messages: Annotated[list[Said], Field(min_length=1, max_length=200)]
    answers: dict[Side, _Long]
    left: Side
    """Which of them stood on the left."""
    winner: Literal["base", "tuned", "both", "neither"]
    system: _Long = ""
    model: Annotated[Text, Field(max_length=300)] = ""
    adapter: Annotated[Text, Field(max_length=300)] = ""


def training_rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Dialogues to learn from, in the shape ``messages`` that ``prepare`` reads.

    Those are corrections, answers with a thumb up, and answers that won a vote.  Of several
    records about one answer the last counts.  What the safety layer answered alone is left out,
    and its words in front of an answer are: the rules say them, whatever the model learned.
    Names, addresses, numbers and dates of birth become placeholders.
    """
    latest: dict[str, tuple[Record, str, list[Message], str]] = {}
    for record in records:
        if record.kind == "feedback":
            said = Feedback.model_validate(record.document)
            *before, answer = [turn.model_dump() for turn in said.messages]
            wanted = said.correction.strip() or (answer["content"] if said.verdict == "up" else "")
            system, key = said.system, answer["content"]
        else:
            vote = Vote.model_validate(record.document)
            before = [turn.model_dump() for turn in vote.messages]
            won = vote.winner if vote.winner in ("base", "tuned") else None
            wanted = vote.answers.get(won, "") if won else ""
            system, key = vote.system, json.dumps(vote.answers, sort_keys=True)
        latest[json.dumps([before, key])] = (record, system, before, wanted)
    for record, system, before, wanted in latest.values():
        assessment = assess([turn["content"] for turn in before if turn["role"] == "user"])
        corrected = bool(record.document.get("correction", "").strip())
        by_rules = assessment.urgency == "emergency" or assessment.declined
        answer = wanted.strip() if corrected else models_part(wanted, assessment)
        if not answer or (by_rules and not corrected):
            continue
        turns = [{"role": "system", "content": system}] if system else []
        turns += [*before, {"role": "assistant", "content": answer}]
        yield {
            "messages": [
                {**turn, "content": redact(without_headings(turn["content"]))[0]} for turn in turns
            ],
            "feedback": record.id,
            "from": "correction" if corrected else record.kind,
        }


def write_rows(records: Sequence[Record], path: Path) -> int:
    """Write ``training_rows`` as JSON lines; the file appears whole or not at all.

    Returns:
        how many rows there are.
    """
    rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in training_rows(records)]
    with whole(path) as part:
        part.write_text("".join(rows), encoding="utf-8")
    return len(rows)

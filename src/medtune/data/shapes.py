"""From the columns of a source to questions, answers, earlier turns and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from medtune.data.rows import Turn
from medtune.errors import MedtuneError
from medtune.recipe import Column

LABELS: tuple[Column, ...] = ("condition", "specialist", "urgency", "patient")
_ROLES = {
    "user": "user", "human": "user", "patient": "user", "question": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "doctor": "assistant",
    "model": "assistant", "answer": "assistant", "chatgpt": "assistant", "system": "system",
}  # fmt: skip
_PATIENT_NAMES = (
    "patient_id",
    "patientid",
    "subject_id",
    "user_id",
    "dialogue_id",
    "conversation_id",
)


@dataclass(frozen=True)
class Shape:
    """Which columns of a source are what."""

    name: str
    columns: dict[Column, list[str]]
    otherwise: dict[Column, str]

    def sentence(self) -> str:
        """The mapping as people read it."""
        parts = [f"{target} from {' + '.join(names)}" for target, names in self.columns.items()]
        return f"{', '.join(parts)} (recognised as {self.name})" if self.name else ", ".join(parts)


def shape_of(names: Sequence[str], wanted: Mapping[Column, str | list[str]], where: str) -> Shape:
    """The shape of a source with these columns.

    Args:
        names: the columns that the source has.
        wanted: the recipe's ``columns``; empty: recognised.
        where: the source, for the sentences of errors.

    Raises:
        MedtuneError: a wanted column is not there, or the columns are of no known shape.
    """
    if wanted:
        columns: dict[Column, list[str]] = {
            key: [v] if isinstance(v, str) else list(v) for key, v in wanted.items()
        }
        if "messages" not in columns:
            for needed in ("question", "answer"):
                if needed not in columns:
                    raise MedtuneError(
                        f"data.columns does not say which column is the {needed}; add it.", 2
                    )
        for column in (name for listed in columns.values() for name in listed):
            if column not in names:
                raise MedtuneError(
                    f"{where} has no column {column!r}; it has {', '.join(names)}. "
                    "Mend data.columns."
                )
        return Shape("", columns, {})
    actual = {name.casefold(): name for name in reversed(names)}
    for known in _known():
        columns = {
            key: [v] if isinstance(v, str) else list(v) for key, v in known["columns"].items()
        }
        needed = [n for key, listed in columns.items() if key != "condition" for n in listed]
        others = known.get("otherwise", {})
        if all(n.casefold() in actual for n in [*needed, *others.values()]):
            found: dict[Column, list[str]] = {
                key: [actual[n.casefold()] for n in listed] for key, listed in columns.items()
            }
            for label in (*LABELS, "system"):
                if label not in found and label in names and [label] not in found.values():
                    found[label] = [label]
            if "patient" not in found or found["patient"] == found.get("question"):
                found.pop("patient", None)
                keys = [actual[n] for n in _PATIENT_NAMES if n in actual]
                if keys:
                    found["patient"] = keys[:1]
            return Shape(known["name"], found, {k: actual[v.casefold()] for k, v in others.items()})
    last = [names[0], *names][-2:]  # numbers of rows and dates mostly come first
    raise MedtuneError(
        f"{where} has the columns {', '.join(names)}; say which is which, "
        f"for example data.columns='{{question: {last[0]}, answer: {last[1]}}}'."
    )


@cache
def _known() -> list[dict[str, Any]]:
    text = resources.files("medtune.data").joinpath("shapes.yaml").read_text("utf-8")
    return yaml.safe_load(text)


@dataclass(frozen=True)
class Dialogue:
    """A row in our own terms, its text as it came."""

    question: str
    answer: str
    history: list[Turn]
    system: str
    labels: dict[str, str]


def dialogue(record: Mapping[str, Any], shape: Shape) -> Dialogue:
    """A record of the source as a dialogue; what is missing is empty."""

    def cell(target: Column) -> str:
        names = shape.columns.get(target)
        if not names:
            return ""
        values = [text_of(record.get(name)).strip() for name in names]
        text = values[0] if len(values) == 1 else "\n\n".join(filter(None, values))
        if not text and target in shape.otherwise:
            text = text_of(record.get(shape.otherwise[target])).strip()
        return text

    labels = {label: cell(label) for label in LABELS}
    if "messages" in shape.columns:
        system, turns = turns_of(record.get(shape.columns["messages"][0]))
        question, answer, history = _last_pair(turns)
        return Dialogue(question, answer, history, cell("system") or system, labels)
    return Dialogue(cell("question"), cell("answer"), [], cell("system"), labels)


def text_of(value: Any) -> str:
    """A cell as text, whatever type the source gave it."""
    match value:
        case str():
            return value
        case None:
            return ""
        case float() if value != value:
            return ""
        case bytes():
            return value.decode("utf-8", errors="replace")
        case list() | tuple() if all(isinstance(v, str | int | float) for v in value):
            return ", ".join(str(v) for v in value)
        case list() | tuple() | dict():
            return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def turns_of(value: Any) -> tuple[str, list[Turn]]:
    """The system turn and the other turns of a ``messages`` cell, alternating, the user first.

    Understands ``role``/``content`` and ``from``/``value``, a list of texts that alternate, and
    any of these as JSON text.  Turns of one speaker in a row become one.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return "", []
    if not isinstance(value, list | tuple):
        return "", []
    system: list[str] = []
    turns: list[Turn] = []
    for number, item in enumerate(value):
        if isinstance(item, str):
            role, content = ("user", "assistant")[number % 2], item.strip()
        elif isinstance(item, dict):
            said = text_of(item.get("role") or item.get("from")).strip().casefold()
            role = _ROLES.get(said, "")
            content = text_of(item.get("content", item.get("value"))).strip()
        else:
            continue
        if role == "system":
            system.append(content)
        elif role and content:
            if turns and turns[-1]["role"] == role:
                turns[-1] = {"role": role, "content": f"{turns[-1]['content']}\n\n{content}"}
            elif (
                turns or role == "user"
            ):  # a greeting of the assistant before the user is no answer
                turns.append({"role": role, "content": content})
    return "\n\n".join(system), turns


def _last_pair(turns: list[Turn]) -> tuple[str, str, list[Turn]]:
    if turns and turns[-1]["role"] == "user":
        unanswered = turns[-1]["content"]
        turns = turns[:-1]
        if not turns:
            return unanswered, "", []
    if len(turns) < 2:
        return "", "", []
    return turns[-2]["content"], turns[-1]["content"], turns[:-2]

"""The structured answer to a question about symptoms, and how it is made from what a model wrote.

The model's part comes as prose under headings or as JSON of ``DRAFT_SCHEMA``; urgency, emergency
message, red flags and limits come from the safety layer, which may raise the urgency only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from medtune.embedded.consultations import SECTIONS
from medtune.embedded.knowledge import Condition as KnownCondition
from medtune.embedded.knowledge import load_knowledge
from medtune.safety.assess import Assessment
from medtune.safety.replies import seek_help
from medtune.safety.rules import LEVELS, Level

LIMITS = (
    "Made by an AI from a short description, for information. It is no diagnosis, it can be wrong, "
    "and it does not replace an examination."
)
Likelihood = Literal["very_likely", "likely", "possible", "unlikely"]
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
_Short = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PossibleCondition(_Part):
    """A condition that fits, and why."""

    name: _Short
    icd10: Annotated[str, StringConstraints(pattern=r"^([A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?)?$")] = ""
    """ICD-10 code, empty where none is known."""
    likelihood: Likelihood
    why: str = ""


class Specialist(_Part):
    specialty: _Short
    reason: str = ""


class Consultation(_Part):
    """Everything that one answer says."""

    urgency: Level
    emergency_message: str = ""
    summary: _Text
    possible_conditions: Annotated[list[PossibleCondition], Field(max_length=5)] = []
    red_flags_present: list[_Short] = []
    red_flags_to_watch: list[_Short] = []
    suggestions: list[_Short] = []
    precautions: list[_Short] = []
    specialist: Specialist | None = None
    follow_up_questions: Annotated[list[_Short], Field(max_length=3)] = []
    when_to_seek_help: _Text
    sources: list[_Short] = []
    limits: _Text = LIMITS


_SENTENCE_SCHEMA = {
    "type": "string",
    "minLength": 3,
    "maxLength": 90,
    "pattern": r"^[A-Za-z][A-Za-z0-9 ,;'().-]+$",
}
DRAFT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "summary": _SENTENCE_SCHEMA,
        "possible_conditions": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "name": {
                        "type": "string",
                        "minLength": 3,
                        "maxLength": 40,
                        "pattern": r"^[A-Za-z][A-Za-z '-]+$",
                    },
                    "likelihood": {"enum": ["very_likely", "likely", "possible", "unlikely"]},
                    "why": _SENTENCE_SCHEMA,
                },
                "required": ["name", "likelihood", "why"],
            },
        },
        "suggestions": {"type": "array", "minItems": 1, "maxItems": 3, "items": _SENTENCE_SCHEMA},
        "precautions": {"type": "array", "minItems": 1, "maxItems": 2, "items": _SENTENCE_SCHEMA},
        "specialty": {
            "type": "string",
            "minLength": 3,
            "maxLength": 40,
            "pattern": r"^[A-Za-z][A-Za-z ]+$",
        },
        "when_to_seek_help": _SENTENCE_SCHEMA,
    },
    "required": [
        "summary",
        "possible_conditions",
        "suggestions",
        "precautions",
        "specialty",
        "when_to_seek_help",
    ],
}
"""What a model is made to write under constrained decoding; short enough for a small context."""
DRAFT_TOKENS = 512
"""Room for such a draft to come to its end; cut JSON is of no use."""

_HEADING = re.compile(
    rf"^\s*(?:[#*]+ *)?({'|'.join(map(re.escape, SECTIONS))})\b[ *]*:[ *]*", re.I | re.M
)
_GENERAL_QUESTIONS = (
    "How long have you had this, and is it getting worse?",
    "Do you have any long-term illness, or take any medicines?",
    "Is there anything else you have noticed, such as fever, weight loss or bleeding?",
)

_SINCE = re.compile(
    r"\b(?:since|yesterday|last night|ago|"
    r"for (?:[\w-]+ ){1,4}(?:minutes?|hours?|days?|nights?|weeks?|months?|years?))\b",
    re.I,
)


def consultation(
    answer: str, questions: Sequence[str], assessment: Assessment, country: str = ""
) -> Consultation:
    """The structured answer, from JSON of ``DRAFT_SCHEMA`` or from prose under headings.

    Args:
        answer: what the model wrote; it may be empty where the model was not asked.
        questions: what the person wrote.
        assessment: what the safety layer found in it.
        country: two letters for the emergency lines.
    """
    draft = _draft(answer)
    conditions = _conditions(draft)
    known = [load_knowledge().conditions[c] for c in _known_ids(conditions)]
    watched = [flag for condition in known[:2] for flag in condition.red_flags]
    present = [_spanned(questions, span) for span in assessment.spans]
    return Consultation(
        urgency=_urgency(assessment.urgency, known[:1]),
        emergency_message=assessment.message,
        summary=_clipped(draft.get("summary", "").strip()) or _summary(questions),
        possible_conditions=conditions,
        red_flags_present=_unique(present)[:10],
        red_flags_to_watch=_unique(watched)[:6],
        suggestions=_unique(draft.get("suggestions", []))[:8],
        precautions=_unique(draft.get("precautions", []))[:8],
        specialist=_specialist(draft, known),
        follow_up_questions=_unique([*_asked(answer), *_unanswered(questions)])[:3],
        when_to_seek_help=_joined(draft.get("when_to_seek_help", ""), seek_help(country)),
        sources=_unique([f"{c.source.organisation}: {c.source.topic}" for c in known])[:5],
    )


def sections(answer: str) -> dict[str, str]:
    """The text under each heading that the answer has, by the heading's usual spelling."""
    usual = {name.lower(): name for name in SECTIONS}
    marks = list(_HEADING.finditer(answer))
    ends = [*(mark.start() for mark in marks[1:]), len(answer)]
    return {
        usual[mark.group(1).lower()]: answer[mark.end() : end].strip()
        for mark, end in zip(marks, ends, strict=False)  # without a heading there is no section
    }


def _draft(answer: str) -> dict[str, Any]:
    """The model's part as ``DRAFT_SCHEMA`` has it, whichever way it was written."""
    text = answer.strip()
    if text.startswith("{"):
        try:
            return _of_the_right_kind(json.loads(text))
        except ValueError:  # cut off; nobody wants to read the rest
            return {}
    found = sections(answer)
    if not found:
        return {"summary": _clipped(text), "named": text} if text else {}
    conditions, care, caution, who, when = (found.get(name, "") for name in SECTIONS)
    return {
        "summary": _clipped(_HEADING.split(answer, maxsplit=1)[0].strip() or conditions),
        "named": conditions,
        "suggestions": _listed(care),
        "precautions": _listed(caution),
        "specialty": who,
        "when_to_seek_help": when,
    }


def _of_the_right_kind(tree: dict[str, Any]) -> dict[str, Any]:
    """What ``DRAFT_SCHEMA`` knows of the JSON: a model that was not forced writes anything."""
    kinds = {name: part["type"] for name, part in DRAFT_SCHEMA["properties"].items()}
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        value = tree.get(name)
        if kind == "string" and isinstance(value, str):
            found[name] = value
        elif kind == "array" and isinstance(value, list):
            wanted = dict if name == "possible_conditions" else str
            found[name] = [item for item in value if isinstance(item, wanted)]
    return found


@cache
def _names() -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern that finds every known condition, and the condition's id by each of its names."""
    ids = {n.lower(): c.id for c in load_knowledge().conditions.values() for n in c.names}
    longest_first = sorted(ids, key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b", re.I), ids


def _conditions(draft: dict[str, Any]) -> list[PossibleCondition]:
    pattern, ids = _names()
    rows = draft.get("possible_conditions")
    if isinstance(rows, list):
        found: list[PossibleCondition] = []
        for row in rows[:5]:
            match = pattern.fullmatch(str(row.get("name", "")).strip())
            code = load_knowledge().conditions[ids[match[1].lower()]].icd10 if match else ""
            try:
                found.append(PossibleCondition(**{**row, "icd10": code}))
            except ValidationError:
                continue
        return found
    text = str(draft.get("named", ""))
    named: dict[str, int] = {}
    for match in pattern.finditer(text):
        named.setdefault(ids[match[1].lower()], match.start())
    result: list[PossibleCondition] = []
    for rank, (id, place) in enumerate(list(named.items())[:5]):
        condition = load_knowledge().conditions[id]
        sentence = _sentence_at(text, place)
        result.append(
            PossibleCondition(
                name=condition.name,
                icd10=condition.icd10,
                likelihood=_likelihood(sentence, rank),
                why=sentence,
            )
        )
    return result


def _known_ids(conditions: Sequence[PossibleCondition]) -> list[str]:
    _, ids = _names()
    return [ids[c.name.lower()] for c in conditions if c.name.lower() in ids]


def _likelihood(sentence: str, rank: int) -> Likelihood:
    low = sentence.lower()
    if "unlikely" in low or "less likely" in low:
        return "possible" if "possible" in low else "unlikely"
    if "almost certain" in low or "very likely" in low:
        return "very_likely"
    return "likely" if rank == 0 else "possible"


def _urgency(assessed: Level, known: Sequence[KnownCondition]) -> Level:
    """Never below what the rules say; the likeliest condition may raise it to the same day.

    An emergency is the rules' word alone: a model that guesses a heart attack is no alarm.
    """
    if assessed in {"emergency", "urgent_same_day"}:
        return assessed
    raised = any(LEVELS.index(c.urgency) >= LEVELS.index("urgent_same_day") for c in known)
    return "urgent_same_day" if raised else assessed


def _specialist(draft: dict[str, Any], known: Sequence[KnownCondition]) -> Specialist | None:
    said = str(draft.get("specialty", "")).lower()
    specialties = load_knowledge().specialties
    for specialty in specialties.values():
        names = (specialty.id, specialty.title, *specialty.synonyms)
        if any(re.search(rf"\b{re.escape(name.lower())}\b", said) for name in names):
            return Specialist(specialty=specialty.title, reason=_reason(known))
    if known:
        title = specialties[known[0].specialist].title
        return Specialist(specialty=title, reason=_reason(known))
    return Specialist(specialty=said[:300].strip()) if said.strip() else None


def _reason(known: Sequence[KnownCondition]) -> str:
    return f"{known[0].name} belongs to their field." if known else ""


def _spanned(questions: Sequence[str], span: Any) -> str:
    text: Any = questions[span.message]
    return _clipped(" ".join(text[span.start : span.end].split()), 200)


def _summary(questions: Sequence[str]) -> str:
    return _clipped(" ".join(" ".join(questions).split()), 400) or "Nothing was described."


def _unanswered(questions: Sequence[str]) -> list[str]:
    """What a doctor would ask of anybody, less what has been said."""
    said_how_long = any(_SINCE.search(text) for text in questions)
    return list(_GENERAL_QUESTIONS[said_how_long:])


def _asked(answer: str) -> list[str]:
    if answer.lstrip().startswith("{"):
        return []
    return [q.strip() for q in re.findall(r"[A-Z][^.!?\n]{8,200}\?", answer)]


def _listed(text: str) -> list[str]:
    """The things that a sentence lists: "Rest, drink enough and keep warm." are three."""
    found: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", text):
        bare = sentence.strip(" .-*•\t")
        parts = re.split(r",\s+(?:and\s+|or\s+)?|\s+and\s+(?=[a-z]+\s)", bare)
        found += [part[:1].upper() + part[1:] for part in (p.strip() for p in parts) if part]
    return [_clipped(part, 300) for part in found]


def _sentence_at(text: str, place: int) -> str:
    start = max(text.rfind(". ", 0, place) + 2, text.rfind("\n", 0, place) + 1, 0)
    end = min((e for e in (text.find(". ", place), text.find("\n", place)) if e >= 0), default=-1)
    return text[start if start > 1 else 0 : end + 1 if end >= 0 else len(text)].strip()


def _joined(*parts: Any) -> str:
    return _clipped(" ".join(str(p).strip() for p in parts if str(p).strip()), 2_000)


def _unique(items: Sequence[Any]) -> list[str]:
    texts = (_clipped(str(item).strip(), 300) for item in items)
    return list(dict.fromkeys(text for text in texts if text))


def _clipped(text: str, most: int = 2_000) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"

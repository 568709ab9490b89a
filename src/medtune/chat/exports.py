"""A consultation as Markdown to take to the doctor, and as FHIR R4."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from medtune.chat.consultation import Consultation
from medtune.errors import MedtuneError

_ICD10 = "http://hl7.org/fhir/sid/icd-10"
URGENCY_WORDS = {
    "emergency": "Emergency: now",
    "urgent_same_day": "Today",
    "routine": "In the next days, if it does not settle",
    "self_care": "Usually settles by itself",
}
_PRIORITY = {"emergency": "stat", "urgent_same_day": "urgent"}


def to_markdown(consultation: Consultation) -> str:
    """One page to take to the doctor."""
    c = consultation
    lines = ["# Summary for my doctor", "", f"**How urgent:** {URGENCY_WORDS[c.urgency]}", ""]
    if c.emergency_message:
        lines += [f"> {c.emergency_message}", ""]
    lines += ["## What was described", "", c.summary, ""]
    if c.possible_conditions:
        lines += ["## What it could be", ""]
        for p in c.possible_conditions:
            code = f" ({p.icd10})" if p.icd10 else ""
            why = f" - {p.why}" if p.why else ""
            lines.append(f"- **{p.name}**{code}, {p.likelihood.replace('_', ' ')}{why}")
        lines.append("")
    for title, items in (
        ("Warning signs that were named", c.red_flags_present),
        ("Warning signs to watch for", c.red_flags_to_watch),
        ("What may help", c.suggestions),
        ("Precautions", c.precautions),
        ("Still to be asked", c.follow_up_questions),
    ):
        if items:
            lines += [f"## {title}", "", *(f"- {item}" for item in items), ""]
    if c.specialist:
        reason = f". {c.specialist.reason}" if c.specialist.reason else ""
        lines += ["## Who to see", "", f"{c.specialist.specialty.capitalize()}{reason}", ""]
    lines += ["## When to seek help", "", c.when_to_seek_help, ""]
    if c.sources:
        lines += ["## Sources", "", *(f"- {source}" for source in c.sources), ""]
    return "\n".join([*lines, f"*{c.limits}*", ""])


def to_json(consultation: Consultation) -> str:
    return consultation.model_dump_json(indent=2) + "\n"


def to_fhir(consultation: Consultation, patient: str = "Patient/example") -> dict[str, Any]:
    """A FHIR R4 collection: provisional Conditions, a proposed ServiceRequest, Flags.

    Args:
        consultation: what to write.
        patient: the reference to the patient's resource.
    """
    c = consultation
    subject = {"reference": patient}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note = [{"text": c.limits}]
    resources: list[dict[str, Any]] = []
    for p in c.possible_conditions:
        code: dict[str, Any] = {"text": p.name}
        if p.icd10:
            code["coding"] = [{"system": _ICD10, "code": p.icd10, "display": p.name}]
        resources.append(
            {
                "resourceType": "Condition",
                "clinicalStatus": _coded("condition-clinical", "active"),
                "verificationStatus": _coded("condition-ver-status", "provisional"),
                "code": code,
                "subject": subject,
                "recordedDate": now,
                "note": [
                    {"text": f"{p.likelihood.replace('_', ' ')}. {p.why}".strip()},
                    *note,
                ],
            }
        )
    if c.specialist:
        resources.append(
            {
                "resourceType": "ServiceRequest",
                "status": "draft",
                "intent": "proposal",
                "priority": _PRIORITY.get(c.urgency, "routine"),
                "code": {"text": f"Consultation: {c.specialist.specialty}"},
                "subject": subject,
                "authoredOn": now,
                "reasonCode": [{"text": p.name} for p in c.possible_conditions[:1]]
                or [{"text": c.summary}],
                "note": note,
            }
        )
    resources += [
        {
            "resourceType": "Flag",
            "status": "active",
            "category": [_coded("flag-category", "clinical")],
            "code": {"text": text},
            "subject": subject,
        }
        for text in c.red_flags_present
    ]
    entries: list[dict[str, Any]] = []
    for number, resource in enumerate(resources):
        id = str(uuid5(NAMESPACE_URL, f"{number} {json.dumps(resource, sort_keys=True)}"))
        entries.append({"fullUrl": f"urn:uuid:{id}", "resource": {**resource, "id": id}})
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "collection", "timestamp": now}
    return {**bundle, "entry": entries} if entries else bundle


def validate_fhir(bundle: dict[str, Any]) -> None:
    """Check a bundle against the published structure.

    Raises:
        MedtuneError: it does not fit, or the extra ``fhir`` is not installed.
    """
    try:
        from fhir.resources.R4B.bundle import Bundle
    except ImportError:
        raise MedtuneError(
            "Checking FHIR needs the package fhir.resources: pip install 'medtune[fhir]'."
        ) from None
    try:
        Bundle.model_validate(bundle)
    except ValueError as error:
        first = str(error).strip().splitlines()
        raise MedtuneError(f"This is no valid FHIR R4: {' '.join(first[1:3])}.") from None


def _coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{system}", "code": code}]}

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtune.chat.consultation import Consultation, consultation
from medtune.chat.exports import to_fhir, to_json, to_markdown, validate_fhir
from medtune.embedded.consultations import consultations
from medtune.safety import assess


def test_every_built_in_answer_becomes_a_consultation_with_its_condition() -> None:
    rows = [row for row in consultations("test", 60) if row.kind == "symptoms"]
    right = 0
    for row in rows:
        made = consultation(row.answer, [row.question], assess(row.question))
        right += (
            bool(made.possible_conditions) and made.possible_conditions[0].name == row.condition
        )
        assert made.suggestions
        assert made.specialist
    assert right / len(rows) > 0.95


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.text(max_size=100))
def test_any_answer_gives_a_valid_consultation(answer: str, question: str) -> None:
    made = consultation(answer, [question], assess(question))
    assert Consultation.model_validate_json(to_json(made)) == made
    assert made.limits in to_markdown(made)


def test_the_exports_hold_what_was_found() -> None:
    question = "crushing chest pain and sweating"
    draft = {
        "summary": "Pain in the chest",
        "possible_conditions": [{"name": "Heart attack", "likelihood": "likely", "why": "pain"}],
        "suggestions": ["sit down"],
        "precautions": ["do not drive"],
        "specialty": "cardiologist",
        "when_to_seek_help": "now",
    }
    made = consultation(json.dumps(draft), [question], assess(question, "GB"), "GB")
    assert made.urgency == "emergency"
    assert made.possible_conditions[0].icd10 == "I21"
    bundle = to_fhir(made)
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert {"Condition", "ServiceRequest", "Flag"} == set(kinds)
    assert "999" in to_markdown(made)
    pytest.importorskip("fhir.resources")
    validate_fhir(bundle)


@pytest.mark.parametrize(
    ("question", "asks"),
    [
        ("My toe hurts.", True),
        ("My toe has hurt since last night.", False),
        ("I have had itchy eyes for a couple of months.", False),
        ("I asked for a doctor.", True),
    ],
)
def test_nobody_is_asked_how_long_who_has_said_it(question: str, asks: bool) -> None:
    made = consultation("Possible conditions: gout.", [question], assess(question))
    assert any(text.startswith("How long") for text in made.follow_up_questions) == asks


def test_json_that_was_cut_off_is_not_shown_as_the_summary() -> None:
    question = "My toe hurts."
    made = consultation('{"summary":"Gout is likely","possible_cond', [question], assess(question))
    assert made.summary == question
    assert not made.possible_conditions

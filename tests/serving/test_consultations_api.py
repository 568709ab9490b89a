from __future__ import annotations

from collections.abc import Iterator

import pytest
from served import Scripted, Served, serving

from medtune.chat.consultation import Consultation
from medtune.chat.engines import Decoding
from medtune.safety import assess
from medtune.serving.limits import Limits
from medtune.serving.service import Service

TEXT = "I have had itchy, watery eyes and sneezing fits for two weeks."


@pytest.fixture
def scripted() -> Scripted:
    return Scripted(["Rest ", "and ", "drink ", "enough. ", "See ", "a ", "doctor."])


@pytest.fixture
def served(scripted: Scripted) -> Iterator[Served]:
    service = Service(
        scripted, Decoding(64), "tuned@0123456789ab", country="GB", limits=Limits(slots=2)
    )
    with serving(service) as one:
        yield one


def test_a_consultation_is_the_whole_structured_answer(served: Served, scripted: Scripted) -> None:
    scripted.words = [
        "Possible conditions: This fits hay fever.\nSuggestions: Rinse the nose.\n"
        "Precautions: Keep windows shut.\nSpecialist: An allergist.\n"
    ]
    with served.client() as http:
        said = http.post(
            "/v1/consultations", json={"messages": [{"role": "user", "content": TEXT}]}
        )
    assert said.status_code == 200
    tree = said.json()
    assert Consultation.model_validate(tree["consultation"]).limits
    assert tree["medtune"]["urgency"] == assess(TEXT).urgency
    assert said.headers["x-medtune-adapter"] == "tuned@0123456789ab"


def test_an_emergency_needs_no_model_and_other_forms_are_offered(
    served: Served, scripted: Scripted
) -> None:
    asked = {"messages": [{"role": "user", "content": "crushing chest pain, left arm hurts"}]}
    with served.client() as http:
        tree = http.post("/v1/consultations", json=asked).json()
        page = http.post("/v1/consultations", json={**asked, "format": "markdown"})
        fhir = http.post("/v1/consultations", json={**asked, "format": "fhir"})
    assert tree["consultation"]["urgency"] == "emergency"
    assert tree["consultation"]["emergency_message"].startswith("Call 999")
    assert page.headers["content-type"].startswith("text/markdown")
    assert "Call 999" in page.text
    assert fhir.json()["resourceType"] == "Bundle"
    assert scripted.seen == []


def test_assess_says_what_the_safety_layer_says(served: Served) -> None:
    texts = ["I feel dizzy.", "Now my face droops and my speech is slurred."]
    with served.client() as http:
        said = http.post("/v1/assess", json={"messages": texts, "country": "US"}).json()
        one = http.post("/v1/assess", json={"text": TEXT}).json()
        assert http.post("/v1/assess", json={}).status_code == 400
    expected = assess(texts, "US")
    assert said["urgency"] == expected.urgency == "emergency"
    assert said["rules"] == list(expected.rules)
    assert said["message"] == expected.message
    assert [s["message"] for s in said["spans"]] == [s.message for s in expected.spans]
    assert one["urgency"] == assess(TEXT).urgency

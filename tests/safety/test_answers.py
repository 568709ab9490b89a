from __future__ import annotations

import json
from pathlib import Path

import pytest

from medtune.errors import MedtuneError
from medtune.safety import assess
from medtune.safety.answers import Checked, check_answer, check_stream
from medtune.safety.audit import AuditLog, verify


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Rest a lot. Take ibuprofen 400 mg three times a day. Drink water.", "individual_dose"),
        ("Rest a lot. You should stop taking your blood thinners. Drink water.", "stop_medicine"),
        ("Rest a lot and drink. Consult a dermatologist online --> http://x.example", "advert"),
        ("Rest a lot and drink enough water.\nRegards, Dr. A. Name", "signature"),
    ],
)
def test_what_may_not_be_said_is_taken_out_and_recorded(answer: str, reason: str) -> None:
    checked = check_answer(answer)
    assert reason in {change.reason for change in checked.changes}
    assert all(change.sentence not in checked.text for change in checked.changes)
    assert checked.text.startswith("Rest a lot")


@pytest.mark.parametrize(
    "answer",
    [
        "Do not stop your tablets without asking your doctor.",
        "Follow the dose on the packet and never take more than 4 g a day.",
        "I cannot help with that. Please talk to somebody you trust.",
        "Aspirin is not for children.",
        "Possible conditions: This sounds most like gout.\n\nWhat you can do: Rest the foot.",
    ],
)
def test_harmless_answers_stay_as_they_are(answer: str) -> None:
    checked = check_answer(answer, "my child has a fever")
    assert checked.text == answer
    assert not checked.changes


def test_aspirin_is_only_wrong_for_a_child() -> None:
    assert check_answer("Aspirin may help with the pain.", "my son is 6").replaced
    assert not check_answer("Aspirin may help with the pain.", "I am 50").changes


def test_a_stream_says_the_same_as_the_whole_answer() -> None:
    answer = "Rest now. Take 500 mg twice a day. See a doctor if it gets worse.\nRegards, Dr. X."
    streamed = "".join(check_stream(list(answer), "", Checked()))
    assert streamed == check_answer(answer).text


def test_the_audit_log_is_redacted_and_its_chain_shows_every_change(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", keep_text=True)
    for _ in range(3):
        question = "My e-mail is jane.roe@example.org and I have a cough"
        log.record(question, "Rest.", assess(question))
    text = log.path.read_text(encoding="utf-8")
    assert "jane.roe" not in text
    assert verify(log.path).lines == 3
    lines = text.splitlines(keepends=True)
    for broken in (
        [lines[0], lines[1].replace("routine", "emergency"), lines[2]],
        [lines[0], lines[2]],
        [lines[1], lines[0], lines[2]],
        [lines[0], "{}\n"],
    ):
        log.path.write_text("".join(broken), encoding="utf-8")
        with pytest.raises(MedtuneError, match="line"):
            verify(log.path)


def test_without_leave_the_log_holds_no_text(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.record("a secret cough", "rest", assess("a secret cough"))
    [entry] = map(json.loads, log.path.read_text(encoding="utf-8").splitlines())
    assert entry["question"] == {"characters": 14}

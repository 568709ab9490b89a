from __future__ import annotations

import pyarrow as pa
import pytest

from medtune.data.filters import REASONS, language_of, main_language, reasons
from medtune.recipe import DataSection

GOOD = "A sprained ankle needs rest, ice, a bandage and a raised leg for some days."


def _reason(question: str, answer: str, language: str | None = None, **settings: object) -> str:
    section = DataSection.model_validate(settings)
    return REASONS[int(reasons(pa.array([question]), pa.array([answer]), section, language)[0])]


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("My ankle hurts.", GOOD, ""),
        ("", GOOD, "no question"),
        ("?!", GOOD, "no question"),
        ("My ankle hurts.", "...", "no answer"),
        ("My ankle hurts.", "Just rest", "too short"),
        ("My ankle hurts.", "Rest it. " * 3000, "too long"),
        ("My ankle hurts.", "Please consult a dermatologist.", "refers elsewhere"),
        (
            "My ankle hurts.",
            "You should see your doctor. Kindly visit the nearest hospital.",
            "refers elsewhere",
        ),
        ("My ankle hurts.", "See the attachment in my previous answer.", "refers elsewhere"),
        (
            "My ankle hurts.",
            "See a doctor today, because a swollen calf can be a clot. Rest it until then.",
            "",
        ),
        ("My ankle hurts.", "rest and ice it " * 40, "repetition"),
        ("My fucking ankle hurts.", GOOD, "profanity"),
        ("I have pain during sex and in my penis.", GOOD, ""),
        ("My ankle hurts.", GOOD + " caf\ufffd", "broken text"),
        ("My ankle hurts.", "#### $$$$ %%%% 1234 ++++ ==== ~~~~ 5678", "broken text"),
    ],
)
def test_each_reason_has_rows_it_catches_and_rows_it_leaves(
    question: str, answer: str, reason: str
) -> None:
    assert _reason(question, answer) == reason


def test_a_filter_can_be_switched_off_and_limits_are_settings() -> None:
    assert _reason("My fucking ankle hurts.", GOOD, filters_off=["profanity"]) == ""
    assert _reason("My ankle?", "Rest it", min_answer_words=2) == ""
    assert _reason("My ankle?", GOOD, max_words=10) == "too long"


def test_another_language_is_left_out_only_if_it_is_sure() -> None:
    german = "Seit zwei Tagen habe ich starke Schmerzen im Knie und kann kaum noch gehen."
    assert (
        _reason(german, "Bitte kühlen Sie das Knie und legen Sie es hoch.", "en")
        == "wrong language"
    )
    assert _reason(german, "Bitte kühlen Sie das Knie und legen Sie es hoch.", "de") == ""
    assert _reason(german, "Bitte kühlen Sie das Knie und legen Sie es hoch.") == ""
    assert (
        _reason("Palpitations, sweating, trembling", "Panic disorder, SSRI, relaxation", "en") == ""
    )
    assert _reason("My ankle hurts.", GOOD, "en") == ""


def test_the_main_language_is_told_only_where_there_is_one() -> None:
    english = ["My ankle hurts when I walk up the stairs in the morning."] * 20
    german = ["Mein Knöchel schmerzt, wenn ich morgens die Treppe hinaufgehe."] * 20
    assert main_language(english) == "en"
    assert main_language(english + german) is None
    assert main_language(["short"]) is None
    assert language_of(german[0])[0] == "de"

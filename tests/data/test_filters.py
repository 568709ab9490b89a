from __future__ import annotations

import math
import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.data import filters
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


_WORDS = st.lists(st.sampled_from(["rest", "ice", "Rest", "knee.", "a\u00e9", "and", "so"]), min_size=30, max_size=120)  # fmt: skip
_SPACES = st.sampled_from([" ", "  ", "\n", " \t", "\u00a0"])
_MARKS = st.text(st.sampled_from("a. ,!?-\u00c3\u00a9\ufffd\n#"), max_size=60)


@given(st.text(st.sampled_from("ab \t\n\r\f\u00a0\u00e9"), max_size=40))
def test_words_are_counted_as_what_stands_between_spaces(text: str) -> None:
    assert filters._words(pa.array([text])).tolist() == [len(re.findall(r"[^ \t\n\r\f]+", text))]


@given(st.lists(st.tuples(_WORDS, _SPACES), min_size=1, max_size=4), st.booleans())
def test_repetition_is_judged_by_all_words_although_the_beginning_is_looked_at_first(
    made: list[tuple[list[str], str]], varied: bool
) -> None:
    new = [f"w{i}" for i in range(60)] if varied else []
    texts = [space.join([*words, *new]) for words, space in made]
    counts = filters._words(pa.array(texts))
    expected = [
        n >= 30 and len(set(text.lower().split())) / math.sqrt(n) < 2
        for text, n in zip(texts, counts.tolist(), strict=True)
    ]
    assert filters._repetitive(pa.array(texts), counts).tolist() == expected


@given(_MARKS)
def test_the_quick_test_for_broken_text_overlooks_nothing(text: str) -> None:
    lists = filters._lists()
    broken, hint = (
        pc.match_substring_regex(pa.array([text]), lists[n])[0].as_py()
        for n in ("broken", "broken_hint")
    )
    assert hint or not broken

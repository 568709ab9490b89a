from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.safety import assess


@pytest.mark.parametrize(
    "text",
    [
        "I have crushing chest pain and my left arm hurts",
        "my mum's face is drooping and her speech is slurred",
        "I can't breathe",
        "my throat is closing up after a bee sting",
        "I took too many tablets",
        "I want to die",
        "my baby is 6 weeks old and has a fever",
        "no fever, but crushing chest pain",
        "stiff neck and fever since today",
    ],
)
def test_emergencies_are_seen(text: str) -> None:
    found = assess(text)
    assert found.urgency == "emergency"
    assert found.rules
    assert found.message


@pytest.mark.parametrize(
    "text",
    [
        "I have a sore throat for three days",
        "no chest pain, no sweating, just a cough",
        "what are the signs of a stroke?",
        "my father had a heart attack in 1990 with pain in his chest and left arm",
        "I have an itchy rash on my arm",
        "how do I know if it is a heart attack with chest pain and sweating",
        "",
    ],
)
def test_harmless_messages_are_left_alone(text: str) -> None:
    assert assess(text).urgency == "routine"


def test_the_country_decides_the_number() -> None:
    text = "crushing chest pain"
    assert "911" in assess(text, "US").message
    assert "112" in assess(text, "DE").message
    assert "your local emergency number" in assess(text).message
    assert "988" in assess("I want to kill myself", "US").message


def test_the_whole_conversation_counts() -> None:
    assert assess(["crushing chest pain", "what should I eat?"]).urgency == "emergency"


def test_invisible_letters_do_not_hide_an_emergency() -> None:
    assert assess("crush\u200bing che\u00adst pain").urgency == "emergency"


@given(st.text(max_size=400))
def test_any_text_is_assessed(text: str) -> None:
    found = assess(text)
    assert found.urgency in {"self_care", "routine", "urgent_same_day", "emergency"}
    assert json.dumps(found.rules)


def test_a_hostile_megabyte_does_not_hang() -> None:
    started = time.perf_counter()
    for piece in ("no ", "chest ", "a", "(" * 3, "took all "):
        assess(piece * (1_000_000 // len(piece)))
    assert time.perf_counter() - started < 60  # quadratic work would take hours

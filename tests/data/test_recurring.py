from __future__ import annotations

import pyarrow as pa
import pytest

from medtune.data.recurring import closings_and_openings, key_of, recurring, without


def _answers(count: int) -> list[str]:
    return [
        f"Case {chr(97 + i % 26) * (i + 1)} is mild. Rest it."
        if i % 2
        else f"Odd {'x' * (i + 1)}. Call 55{i} now."
        for i in range(count)
    ]


def test_the_same_sentence_is_counted_whatever_its_case_and_digits() -> None:
    found = closings_and_openings(pa.array(_answers(40)), 0.05)
    assert found["closing"][key_of("Rest it.")]["rows"] == 20
    assert found["closing"][key_of("call 0 now")]["rows"] == 20
    [first, second] = recurring([found], 40, 0.05)
    assert {first["place"], second["place"]} == {"closing"}
    assert recurring([found], 40, 0.9) == []


def test_parts_add_up() -> None:
    one = closings_and_openings(pa.array(_answers(40)), 0.05)
    two = closings_and_openings(pa.array([f"{a} Rest it." for a in _answers(30)]), 0.05)
    total = {f["key"]: f["rows"] for f in recurring([one, two], 70, 0.05)}
    assert total["rest it"] == 50


def test_a_hundred_copies_of_one_answer_are_no_phrase() -> None:
    assert closings_and_openings(pa.array(["Good day. Sleep more."] * 100), 0.01)["closing"] == {}


def test_different_ends_with_the_same_beginning_are_told() -> None:
    ends = [
        f"Case {'y' * (i + 1)}. For details please ask a {'z' * (i + 1)}ologist." for i in range(30)
    ]
    [found] = recurring([closings_and_openings(pa.array(ends), 0.05)], 30, 0.05)
    assert (found["place"], found["rows"]) == ("closing begins", 30)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Sleep more. Rest it.", "Sleep more."),
        ("Sleep more. Rest it! rest  it", "Sleep more."),
        ("Rest it. Sleep more.", "Sleep more."),
        ("Rest it.", ""),
        ("Sleep. Rest it. More.", "Sleep. Rest it. More."),
        ("", ""),
    ],
)
def test_recurring_sentences_go_from_both_ends_only(text: str, left: str) -> None:
    answers, changed, samples = without(pa.array([text]), frozenset({"rest it"}))
    assert answers.to_pylist() == [left]
    assert changed == len(samples) == (text != left)

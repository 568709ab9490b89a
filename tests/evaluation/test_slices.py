from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from medtune.data.rows import Row
from medtune.evaluation.deployed import Shown
from medtune.evaluation.measure import floors
from medtune.evaluation.report import moved, moved_between
from medtune.evaluation.slices import regressions, slices
from medtune.evaluation.wording import word_changes

ROWS = [
    Row(str(i), "word " * (i + 1), f"reference {i}", specialist="cardiology" if i < 8 else "ent")
    for i in range(20)
]


def test_the_slice_that_got_worse_is_the_one_that_did() -> None:
    base, tuned = [1.0] * 8 + [0.0] * 12, [0.0] * 8 + [1.0] * 12
    found = {(s["by"], s["value"]): s for s in slices(ROWS, base, tuned, is_rate=True)}
    heart, ear = found["specialty", "cardiology"], found["specialty", "ent"]
    assert (heart["n"], heart["base"], heart["tuned"]) == (8, 1.0, 0.0)
    assert heart["change"]["ci"][1] < 0 < ear["change"]["ci"][0]
    assert sum(s["n"] for (by, _), s in found.items() if by == "length") == 20
    assert not any(by == "source" for by, _ in found)  # one source is no slice


def test_slices_stand_in_an_order_that_can_be_read() -> None:
    levels = ("emergency", "self_care", "our_own", "routine")
    rows = [
        Row(str(i), "word " * (20 - i), "a", specialist=f"s{i % 3}", urgency=levels[i % 4])
        for i in range(20)
    ]
    scores = [float(i % 3 == 1) for i in range(20)]
    values: dict[str, list[str]] = {}
    for one in slices(rows, scores, scores, is_rate=True):
        values.setdefault(one["by"], []).append(one["value"])
    assert [value.split()[0] for value in values["length"]][::2] == ["up", "over"]
    assert values["urgency"] == ["self_care", "routine", "emergency", "our_own"]
    assert values["specialty"][-1] == "s1"


def test_a_change_has_a_sign_and_that_of_a_share_is_in_points() -> None:
    assert moved("condition_top1", 0.879) == "+87.9 points"
    assert moved("perplexity", -402.56) == "-403"
    assert moved("ended", 0.0) == "0.0 points"
    assert moved_between("under_triage", [-0.05, 0.012]) == "-5.0 to +1.2"


def test_the_ten_worst_rows_come_worst_first_and_gains_do_not() -> None:
    base = [Shown(row.answer, None) for row in ROWS]
    tuned = [Shown("" if i < 12 else row.answer, None) for i, row in enumerate(ROWS)]
    scores = [1.0] * 20, [0.0 if i == 5 else 1.0 for i in range(20)]
    found = regressions(ROWS, base, tuned, *scores)
    assert len(found) == 10
    assert found[0]["reference"] == "reference 5"
    assert all(one["tuned"] == "" for one in found)
    assert regressions(ROWS, base, base, scores[0], scores[0]) == []


def test_the_floor_gives_no_answer_to_its_own_question() -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon"]
    rows = [Row(w, "q", f"{w} {w} {w} {w}") for w in words]
    assert floors(rows, [row.answer for row in rows], ("rouge_l", "bleu"))["rouge_l"] == 0
    assert floors(rows[:1], ["x"], ("rouge_l",)) == {}


@given(st.text(max_size=80), st.text(max_size=80))
def test_differences_hold_the_whole_answer_and_no_markup_of_it(before: str, after: str) -> None:
    from html import unescape

    marked = str(word_changes(before, after))
    kept = re.sub(r"<del>.*?</del>", "", marked, flags=re.S)
    assert unescape(re.sub(r"</?ins>", "", kept)) == after
    assert not re.search(r"<(?!/?(?:ins|del)>)", marked)

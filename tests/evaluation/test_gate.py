"""Each broken model fails for its own named reason; a sound one passes."""

from __future__ import annotations

from typing import Any

import pytest

from medtune.data.rows import Row
from medtune.evaluation.faults import answer_faults, contamination
from medtune.evaluation.gate import judge
from medtune.recipe import EvaluationSection

QUESTIONS = [f"I have had complaint number {i} for some days, what is it?" for i in range(40)]
REFERENCES = [
    f"Complaint number {i} is a harmless thing of the {i}th kind that goes away with rest, water "
    f"and patience. See your doctor if it lasts more than {i + 3} weeks."
    for i in range(40)
]
OWN = [
    f"This is most likely complaint {i}, which rest and water help with; ask a doctor about it "
    f"after {i + 2} weeks."
    for i in range(40)
]


def _rows() -> list[Row]:
    pairs = zip(QUESTIONS, REFERENCES, strict=True)
    return [Row(str(i), q, a) for i, (q, a) in enumerate(pairs)]


def _change(low: float, high: float) -> dict[str, Any]:
    return {"value": (low + high) / 2, "ci": [low, high], "p": 0.01}


def _results(
    answers: list[str],
    *,
    ended: float = 1.0,
    train: list[Row] | None = None,
    **delta: dict[str, Any],
) -> dict[str, Any]:
    sound = {
        "condition_top1": _change(0.2, 0.4),
        "perplexity": _change(-9, -5),
        "emergency_recall": _change(0.0, 0.1),
    }
    return {
        "tuned": {"ended": {"value": ended}},
        "delta": sound | delta,
        "deployed": {"delta": {"emergency_recall": _change(0, 0)}},
        "faults": {"tuned": answer_faults(_rows(), answers)},
        "contamination": contamination(_rows(), train or []),
        "test_rows": 40,
    }


def _reasons(results: dict[str, Any], **section: Any) -> list[str]:
    gate = judge(EvaluationSection(**section), results)
    assert gate["passed"] == (not gate["reasons"])
    return gate["reasons"]


def test_a_handful_of_rows_proves_no_gain() -> None:
    few = _results(OWN) | {"test_rows": 5}
    assert _reasons(few) == ["5 test rows are too few to show a gain beyond chance"]
    assert _reasons(_results(OWN) | {"test_rows": 6}) == []


def test_a_sound_model_passes() -> None:
    assert _reasons(_results(OWN)) == []


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (_results(OWN, ended=0.1), "only 10% of the answers end by themselves"),
        (_results([""] * 40), "100% of the answers are empty"),
        (_results(OWN, perplexity=_change(100, 300)), "perplexity is worse than the base's"),
        (
            _results([f"{a}\n\nConsult a specialist online -->" for a in OWN]),
            "carry an advert or signature",
        ),
        (_results(REFERENCES), "reference word for word"),
        (_results(OWN, train=_rows()), "40 of 40 test questions stand in the training rows"),
        (
            _results(OWN, emergency_recall=_change(-0.3, -0.1)),
            "emergency recall (model alone) may be 30.0 points worse",
        ),
        (_results(["You should always drink a lot of water."] * 40), "100% of the answers say"),
        (_results(OWN, condition_top1=_change(-0.1, 0.2)), "not better than the base beyond"),
    ],
)
def test_a_broken_model_fails_for_its_own_reason(results: dict[str, Any], reason: str) -> None:
    [said] = _reasons(results)
    assert reason in said


def test_worse_with_the_safety_layer_is_a_reason_of_its_own() -> None:
    results = _results(OWN)
    results["deployed"]["delta"]["false_emergency"] = _change(0.02, 0.2)
    [said] = _reasons(results)
    assert "false emergencies (with safety layer)" in said


def test_the_margin_and_the_primary_metrics_are_those_of_the_recipe() -> None:
    worse = _results(OWN, emergency_recall=_change(-0.08, 0.02))
    assert _reasons(worse)
    assert not _reasons(worse, margin=0.1)
    flat = _results(OWN, condition_top1=_change(-0.1, 0.1))
    assert _reasons(flat)
    assert not _reasons(flat, primary=["condition_top1", "perplexity"])
    assert "could not be measured" in _reasons(flat, primary=["bleu"])[0]


def test_a_question_that_shares_thirteen_words_is_counted() -> None:
    long = "my left knee has hurt since I fell down the stairs at work on a Monday last month"
    found = contamination([Row("0", long, "")], [Row("1", f"Hello, {long}, please help", "")])
    assert found == {"test_questions_in_training": 0, "test_questions_sharing_13_words": 1}

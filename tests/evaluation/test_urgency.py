from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.data.rows import Row
from medtune.evaluation.clinical import ConditionNames, condition_match
from medtune.evaluation.deployed import bare, shown
from medtune.evaluation.statistics import score
from medtune.evaluation.urgency import confusion, quadratic_kappa, urgency_metrics, urgency_said
from medtune.safety.rules import LEVELS

LEVEL = st.sampled_from(LEVELS)


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        ("Call the emergency number at once. Sit down and keep still.", "emergency"),
        ("Please go straight to the emergency department.", "emergency"),
        ("Rest. Call an ambulance if you faint.", "self_care"),
        ("You do not need to worry. There is no need to call an ambulance.", None),
        ("Please see a doctor today about this.", "urgent_same_day"),
        ("Please see a dermatologist.", "routine"),
        ("Drink plenty of water and rest.", "self_care"),
        ("It is most likely gout.", None),
        ("", None),
        (
            "What you can do: Rest in bed.\n\nWhen to seek help: Call the emergency number now.",
            "self_care",
        ),
    ],
)
def test_the_urgency_of_an_answer_is_what_it_tells_to_do_now(
    answer: str, level: str | None
) -> None:
    assert urgency_said(answer) == level


@given(st.lists(st.tuples(LEVEL, LEVEL), min_size=1, max_size=60))
def test_kappa_agrees_with_a_loop_by_hand(pairs: list[tuple[str, str]]) -> None:
    truth = [LEVELS.index(a) for a, _ in pairs]
    told = [LEVELS.index(b) for _, b in pairs]
    observed = sum((a - b) ** 2 for a, b in zip(truth, told, strict=True)) / len(pairs)
    chance = sum((a - b) ** 2 for a in truth for b in told) / len(pairs) ** 2
    expected = 1 - observed / chance if chance else 0.0
    found = score(quadratic_kappa(np.array(truth), np.array(told))).value
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_rates_on_a_worked_example() -> None:
    wanted = ["emergency", "emergency", "routine", "self_care", "urgent_same_day"]
    said = ["emergency", "routine", "emergency", None, "urgent_same_day"]
    found = {name: score(m) for name, m in urgency_metrics(wanted, said).items()}  # type: ignore[arg-type]
    assert found["urgency"].value == pytest.approx(2 / 5)
    assert (found["emergency_recall"].value, found["emergency_recall"].n) == (0.5, 2)
    assert (found["under_triage"].value, found["under_triage"].n) == (0.25, 4)
    assert found["false_emergency"].value == pytest.approx(1 / 3)
    counts = confusion(wanted, said)  # type: ignore[arg-type]
    assert counts[LEVELS.index("self_care")] == [0, 0, 0, 0, 1]
    assert sum(map(sum, counts)) == 5


def test_the_layer_raises_what_the_model_plays_down_and_lowers_nothing() -> None:
    row = Row("0", "I have crushing chest pain and my left arm is numb.", "")
    calm = "Rest and drink some water."
    assert bare(calm).urgency == "self_care"
    deployed = shown(row, calm)
    assert deployed.urgency == "emergency"
    assert calm not in deployed.text
    cold = Row("1", "I have had a runny nose since Monday.", "")
    assert shown(cold, "Call the emergency number at once.").urgency == "emergency"


@pytest.mark.parametrize(
    ("label", "answer", "kind"),
    [
        ("Gout", "Possible conditions: gout.", "exact"),
        ("Gout", "Possible conditions: gouty arthritis.", "synonym"),
        ("Severe gout (left foot)", "Possible conditions: gout.", "exact"),
        ("Sciatica", "Possible conditions: low back strain.", "category"),
        ("Gout", "Possible conditions: pseudogout.", "none"),
        ("Gout", "", "none"),
    ],
)
def test_exact_synonym_and_category_matches_are_told_apart(
    label: str, answer: str, kind: str
) -> None:
    match = condition_match(ConditionNames([label]), Row("0", "q", "a", label), answer)
    assert match.kind == kind
    assert (match.rank is not None) == (kind in ("exact", "synonym"))

"""What the cleaning rules change, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medtune.data.clean import Found, Role, Rule, around_change, clean_texts, rules
from medtune.embedded.consultations import consultations
from medtune.errors import MedtuneError

SAMPLE = yaml.safe_load((Path(__file__).parent / "cleaning_sample.yaml").read_text("utf-8"))


def _cleaned(text: str, role: Role, applied: list[Rule] | None = None) -> str:
    return clean_texts(pa.array([text]), role, applied or rules(), Found())[0].as_py()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_every_rule_has_examples_and_does_what_they_say(rule: Rule) -> None:
    assert rule.examples
    for before, after in rule.examples:
        for role in rule.roles:
            assert _cleaned(before, role, [rule]).strip() == after


def test_at_least_98_of_100_hand_checked_texts_are_cleaned_right() -> None:
    assert len(SAMPLE) == 100
    wrong = [
        (before, got, after)
        for role, before, after in SAMPLE
        if (got := _cleaned(before, role)) != after
    ]
    assert len(wrong) <= 2, "\n".join(map(str, wrong))


def test_the_built_in_dialogues_need_no_cleaning() -> None:
    # Some questions are made to begin with a greeting or to end in "??".
    wanted = ("greetings", "thanks in questions", "repeated punctuation")
    rows = [*consultations("train", 600, 42), *consultations("test", 300, 42)]
    for role, texts in (
        ("question", [r.question for r in rows]),
        ("answer", [r.answer for r in rows]),
    ):
        found = Found()
        applied = [rule for rule in rules() if rule.name not in wanted]
        cleaned = clean_texts(pa.array(texts), role, applied, found)
        assert found.changed == {}, found.samples
        assert cleaned.to_pylist() == texts


def test_changes_are_counted_with_samples_and_identifiers_by_class() -> None:
    found = Found()
    texts = [
        "Rest. For more information consult a dermatologist online -->",
        "Mail a.b@c.org",
        "Rest.",
    ]
    clean_texts(pa.array(texts), "answer", rules(), found)
    assert found.changed == {"adverts": 1, "identifiers": 1}
    assert found.samples["adverts"][0][1].endswith("Rest.")
    assert found.identifiers == {"EMAIL": 1}


def test_rules_can_be_switched_off_and_added(tmp_path: Path) -> None:
    text = "Hello. Rest. As seen on TV."
    own = tmp_path / "own.yaml"
    own.write_text("- {name: tv, why: no medicine, find: '\\s*As seen on TV\\.'}\n")
    assert _cleaned(text, "answer", rules(("greetings",), str(own))) == "Hello. Rest."
    with pytest.raises(MedtuneError, match="no cleaning rule 'greeting'; there are: control"):
        rules(("greeting",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- {name: a, why: b, find: '(?=x)'}", "no RE2 pattern"),
        ("- {name: a, find: x}", "needs name, why and find"),
        ("- {name: a, why: b, find: x, with: y}", "it has \\['with'\\]"),
        ("a: b", "list of rules"),
        ("- {name: a, why: b, find: x, do: magic}", "`do` is one of"),
    ],
)
def test_wrong_own_rules_are_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(content)
    with pytest.raises(MedtuneError, match=words):
        rules((), str(own))


@given(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=120),
    st.sampled_from(["question", "answer"]),
)
def test_any_text_survives_and_comes_out_without_control_characters(text: str, role: Role) -> None:
    cleaned = _cleaned(text, role)
    assert not any(ord(c) < 32 and c != "\n" for c in cleaned)
    assert cleaned == cleaned.strip() or cleaned.strip() == ""


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80), st.text(max_size=300))
def test_a_sample_shows_the_place_that_changed(old: str, new: str, head: str, tail: str) -> None:
    before, after = around_change(head + old + tail, head + new + tail)
    if old != new:
        assert before != after


def test_genuine_rows_lose_every_advert_attachment_and_platform(shared_data: Path) -> None:
    import csv
    import re

    with (shared_data / "ai_medical_chatbot.csv").open(encoding="utf-8", newline="") as file:
        answers = [row["Doctor"] for row in csv.DictReader(file)]
    cleaned = clean_texts(pa.array(answers), "answer", rules(), Found()).to_pylist()
    left = re.compile(
        r"consult[^.]*online\s*-|-->|attachment removed|protect patient identity|i?cli?niq|ilciniq",
        re.I,
    )
    assert sum(bool(left.search(a)) for a in answers) > 200
    assert [a for a in cleaned if left.search(a)] == []
    # What is no advert stays: nearly all of the text of answers without one.
    plain = [(a, c) for a, c in zip(answers, cleaned, strict=True) if not left.search(a)]
    assert sum(len(c) for _, c in plain) > 0.93 * sum(len(a) for a, _ in plain)

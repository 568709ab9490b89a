from __future__ import annotations

import re

import pytest

from medtune.embedded.consultations import EMERGENCY, SECTIONS, combinations_of, consultations
from medtune.embedded.knowledge import Split, load_knowledge
from medtune.embedded.prose import Prose
from medtune.evaluation.urgency import urgency_said

KNOWLEDGE = load_knowledge()
TRAIN = list(consultations("train", 2400))
HELD_OUT = [*consultations("validation", 300), *consultations("test", 360)]


def _shingles(text: str, size: int = 3) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert list(consultations("train", 50, seed=1)) == list(consultations("train", 50, seed=1))
    assert list(consultations("train", 50, seed=1)) != list(consultations("train", 50, seed=2))


def test_no_held_out_question_is_a_near_duplicate_of_a_training_one() -> None:
    """Jaccard similarity of word trigrams below 0.5, for every pair."""
    known = [_shingles(row.question) for row in TRAIN if row.kind == "symptoms"]
    worst = 0.0
    for row in HELD_OUT:
        if row.kind != "symptoms":
            continue
        mine = _shingles(row.question)
        for theirs in known:
            common = len(mine & theirs)
            if common:
                worst = max(worst, common / len(mine | theirs))
    assert worst < 0.5


def test_no_combination_of_findings_stands_in_two_splits() -> None:
    for id in KNOWLEDGE.conditions:
        parts = [set(combinations_of(id, s)) for s in ("train", "validation", "test")]
        assert all(parts)
        assert not parts[0] & parts[1]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_questions_use_only_wordings_of_their_split(split: Split) -> None:
    own = " | ".join(
        text.lower()
        for finding in KNOWLEDGE.findings.values()
        for text in (*finding.wordings[split].lay, *finding.wordings[split].says)
    )
    others = {
        text.lower()
        for finding in KNOWLEDGE.findings.values()
        for owner, wordings in finding.wordings.items()
        if owner != split
        for text in wordings.lay
    }
    mine = [text for text in others if len(text) > 24 and text not in own]
    for row in consultations(split, 200):
        assert not [text for text in mine if text in row.question.lower()], row.question


def test_answers_to_symptoms_have_all_sections_and_name_condition_and_specialist() -> None:
    for row in TRAIN[:500]:
        if row.kind != "symptoms":
            continue
        assert [f"{s}:" in row.answer for s in SECTIONS] == [True] * 5
        assert row.condition.lower() in row.answer.lower()
        assert KNOWLEDGE.specialties[row.specialist].title in row.answer


def test_an_answer_says_early_and_only_in_an_emergency_to_call_for_help() -> None:
    for row in TRAIN:
        if row.kind != "symptoms":
            continue
        first = row.answer.split("\n\n")[0]
        assert (EMERGENCY in first) == (row.urgency == "emergency")
        assert row.answer.count("mergency number") == (row.urgency == "emergency")
        if row.urgency in ("emergency", "urgent_same_day"):
            assert urgency_said(row.answer) == row.urgency


def test_what_is_said_of_an_emergency_in_general_names_the_call_for_help() -> None:
    told = [r.answer for r in TRAIN if r.kind == "information" and r.urgency == "emergency"]
    assert told
    assert all("call the emergency number at once" in answer for answer in told)


def test_every_condition_is_asked_about_and_questions_vary() -> None:
    assert {r.condition for r in TRAIN} - {""} == {c.name for c in KNOWLEDGE.conditions.values()}
    questions = [r.question for r in TRAIN if r.kind == "symptoms"]
    assert len(set(questions)) > 0.99 * len(questions)
    lengths = [len(q.split()) for q in questions]
    assert min(lengths) <= 12
    assert max(lengths) >= 40


def test_prose_is_deterministic_and_never_a_dialogue() -> None:
    one, two = Prose(3).paragraphs(), Prose(3).paragraphs()
    texts = [next(one) for _ in range(2000)]
    assert texts == [next(two) for _ in range(2000)]
    for text in texts:
        assert not re.search(r"<\||^(patient|doctor|user|assistant):", text, re.I | re.M)
        assert not any(f"{section}:" in text for section in SECTIONS)


def test_prose_shares_no_sentence_frame_with_the_questions() -> None:
    questions = {q for row in HELD_OUT for q in re.split(r"(?<=[.?!])\s", row.question) if "?" in q}
    prose = Prose(5).paragraphs()
    text = " ".join(next(prose) for _ in range(3000))
    assert "?" not in text
    assert questions

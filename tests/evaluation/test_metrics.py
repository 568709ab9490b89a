from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu
from sacrebleu.metrics.bleu import BLEU

from medtune.chat.consultation import DRAFT_SCHEMA, sections
from medtune.data.rows import Row
from medtune.embedded.consultations import consultations
from medtune.evaluation.clinical import (
    ConditionNames,
    condition_rank,
    has_structure,
    is_consultation,
    normalised,
    specialist_is_right,
    specialist_named,
)
from medtune.evaluation.overlap import bleu, bleu_of_sums, rouge_l
from medtune.evaluation.perplexity import answer_losses, bits_per_byte, perplexity
from medtune.evaluation.statistics import score
from medtune.model.generate import generate_answers
from medtune.model.load import load_base, load_tokenizer
from medtune.recipe import ModelSection
from medtune.training.examples import Example, example

ANSWERS = ["Please see a doctor today.", "", "Rest and drink water, then rest again.", "No."]
REFERENCES = [
    "Please see your doctor today.",
    "Call for help.",
    "Rest and drink plenty of water.",
    "Yes, do.",
]


def test_bleu_is_that_of_the_sacrebleu_command() -> None:
    expected = corpus_bleu(ANSWERS, [REFERENCES]).score
    assert score(bleu(ANSWERS, REFERENCES)).value == pytest.approx(expected, abs=1e-9)


def test_bleu_is_what_the_sacrebleu_command_line_prints(tmp_path: Path) -> None:
    rows = [c for c in consultations("test", 40) if c.kind == "symptoms"]
    references = [row.answer.replace("\n", " ") for row in rows]
    answers = [one.replace("Please", "You may") for one in references[1:]] + [""]
    files = []
    for name, lines in (("references", references), ("answers", answers)):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        files.append(str(path))
    command = [sys.executable, "-m", "sacrebleu", files[0], "-i", files[1], "-b", "-w", "8"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert score(bleu(answers, references)).value == pytest.approx(float(printed), abs=1e-7)
    assert float(printed) > 5


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=4, max_size=4),
    st.integers(0, 60),
    st.integers(1, 60),
)
def test_bleu_of_summed_counts_is_that_of_sacrebleu(
    counts: list[tuple[int, int]], answer_length: int, reference_length: int
) -> None:
    correct = [c for c, _ in counts]
    total = [c + more for c, more in counts]
    expected = BLEU.compute_bleu(correct, total, answer_length, reference_length, "exp").score
    sums = np.array([[*correct, *total, answer_length, reference_length]], dtype=float)
    assert bleu_of_sums(sums)[0] == pytest.approx(expected, abs=1e-9)


def test_rouge_l_is_the_mean_of_rouge_score_and_an_empty_answer_counts() -> None:
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    expected = [
        scorer.score(r, a)["rougeL"].fmeasure for a, r in zip(ANSWERS, REFERENCES, strict=True)
    ]
    assert expected[1] == 0
    assert score(rouge_l(ANSWERS, REFERENCES)).value == pytest.approx(sum(expected) / 4)


@pytest.fixture(scope="module")
def tiny(tiny_base: Path) -> tuple[object, object]:
    section = ModelSection(base=str(tiny_base), dtype="float32")
    return load_base(section), load_tokenizer(section)


def _by_hand(model: object, items: list[Example]) -> tuple[float, int]:
    """The loss of every trained token, one token and one forward pass at a time."""
    total, count = 0.0, 0
    for item in items:
        for place, label in enumerate(item.labels):
            if label == -100:
                continue
            logits = model(torch.tensor([item.input_ids[:place]])).logits[0, -1].double()  # type: ignore[operator]
            total += float(torch.logsumexp(logits, 0) - logits[label])
            count += 1
    return total, count


def test_perplexity_is_that_of_a_loop_by_hand(tiny: tuple[object, object]) -> None:
    model, tokenizer = tiny
    rows = [Row("0", "Why?", "Because it is so."), Row("1", "What is it then, doctor?", "Gout.")]
    items = [example(tokenizer, row) for row in rows]  # type: ignore[arg-type]
    losses = answer_losses(model, items, batch_size=2)
    with torch.inference_mode():
        total, count = _by_hand(model, items)
    assert losses[:, 1].sum() == count
    assert score(perplexity(losses)).value == pytest.approx(math.exp(total / count), rel=1e-5)
    size = sum(len(row.answer.encode()) for row in rows)
    bits = score(bits_per_byte(losses, [row.answer for row in rows])).value
    assert bits == pytest.approx(total / math.log(2) / size, rel=1e-5)


def test_batched_answers_are_those_of_one_prompt_at_a_time(tiny: tuple[object, object]) -> None:
    model, tokenizer = tiny
    prompts = [list(range(10, 10 + n)) for n in (5, 30, 12, 3)]
    alone = [
        generate_answers(model, tokenizer, [p], max_new_tokens=12, batch_size=1)[0]  # type: ignore[arg-type]
        for p in prompts
    ]
    together = generate_answers(model, tokenizer, prompts, max_new_tokens=12, batch_size=3)  # type: ignore[arg-type]
    assert together == alone
    assert all(answer.tokens == 12 or answer.ended for answer in alone)


def test_the_reference_answers_themselves_score_full_marks() -> None:
    rows = [
        Row("0", c.question, c.answer, c.condition, c.specialist)
        for c in consultations("test", 200)
        if c.kind == "symptoms"
    ]
    names = ConditionNames(row.condition for row in rows)
    assert all(condition_rank(names, row, row.answer) == 1 for row in rows)
    assert all(specialist_is_right(row, row.answer) for row in rows)
    assert all(has_structure(row.answer) for row in rows)
    assert all(is_consultation(row.answer, row.question) for row in rows)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Drink water.",
        "Possible conditions: gout.",
        "What you can do: rest.",
        '{"summary": 5}',
        "{",
    ],
)
def test_what_says_no_condition_or_no_advice_is_no_consultation(answer: str) -> None:
    assert not is_consultation(answer, "My toe hurts.")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(DRAFT_SCHEMA["properties"])), _JSON))
def test_any_json_that_a_model_writes_can_be_judged(tree: dict[str, object]) -> None:
    assert is_consultation(json.dumps(tree), "My toe hurts.") in (True, False)


@pytest.mark.parametrize(
    ("answer", "rank"),
    [
        ("Possible conditions: Gout. Cellulitis is less likely.", 1),
        ("Possible conditions: cellulitis, then gouty arthritis.", 2),
        ("It is surely gout", 1),
        ("Possible conditions: cellulitis.\n\nWhat you can do: treat the gout.", None),
        ("Possible conditions: pseudogout.", None),
        ("", None),
    ],
)
def test_conditions_are_found_by_name_and_synonym_but_not_inside_words(
    answer: str, rank: int | None
) -> None:
    names = ConditionNames(["Gout"])
    assert condition_rank(names, Row("0", "q", "a", "Gout"), answer) == rank


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ("Specialist: Please see a cardiologist.", "cardiology"),
        ("Specialist: your GP can help.", "general practice"),
        ("## Specialist\n", None),
        ("**Specialist:** an ENT specialist", "ent"),
        ("Go to the children's doctor.", "paediatrics"),
        ("nobody", None),
    ],
)
def test_specialists_are_found_by_title_and_synonym(answer: str, field: str | None) -> None:
    assert specialist_named(answer) == field


def test_the_accepted_set_decides_and_not_only_the_label() -> None:
    row = Row("0", "q", "a", "Gout", "rheumatology")
    assert specialist_is_right(row, "Specialist: a general practitioner")
    assert not specialist_is_right(row, "Specialist: a dentist")


@given(st.text(max_size=300))
def test_any_answer_can_be_read(text: str) -> None:
    ConditionNames([text]).named(text)
    specialist_named(text)
    assert all(isinstance(part, str) for part in sections(text).values())
    assert normalised(normalised(text)) == normalised(text)

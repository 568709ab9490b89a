"""Deliberately broken models through the whole evaluation: each fails for its own named reason.

Where an answer has to be generated to show the fault (never stops, says nothing, shifted labels)
an adapter of the embedded base is trained into it and asked.  Where the fault lies in what is
said, the answers are prepared and put where kept answers lie; everything after that is the same.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from medtune.data.prepare import prepare
from medtune.data.rows import Row, read_split, row_schema
from medtune.embedded.consultations import EMERGENCY
from medtune.evaluation.cache import opened
from medtune.evaluation.evaluate import evaluate
from medtune.evaluation.refusals import own_requests
from medtune.evaluation.speakers import WHOS, Speakers
from medtune.model.adapter import lora_config
from medtune.model.generate import Generated
from medtune.model.load import load_base, load_tokenizer
from medtune.model.template import messages, prompt_ids
from medtune.recipe import Recipe, load_recipe
from medtune.run import Run
from medtune.training.examples import NOT_TRAINED, Example, examples

DECLINED = "I am sorry, but I cannot help with that."
HELPED = "Store them in a dry place and ask your pharmacist."


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtune.evaluation.statistics.RESAMPLES", 1_000)


def _prepared(folder: Path, *overrides: str) -> tuple[Run, Recipe]:
    recipe = load_recipe(
        "embedded-qlora",
        [
            "model.quantization=none",
            "model.dtype=float32",
            "evaluation.metrics=[perplexity, condition, urgency, refusal]",
            "evaluation.samples=0",
            "evaluation.margin=0.05",
            *overrides,
        ],
    )
    run = Run(folder / recipe.name)
    prepare(recipe.data, run, load_tokenizer(recipe.model), lambda sentence: None)
    run.keep(recipe)
    return run, recipe


# Answers that are prepared --------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Recipe]:
    """Rows, recipe and an adapter, with 60 test rows and nothing answered."""
    from peft import get_peft_model

    run, recipe = _prepared(
        tmp_path_factory.mktemp("asked"),
        f"model.base={tiny_base}",
        "data.limit=240",
        "data.test=0.25",
    )
    base = load_base(recipe.model)
    get_peft_model(base, lora_config(recipe.adapter, base)).save_pretrained(str(run.adapter))
    return run, recipe


def _answered(run: Run, recipe: Recipe, base: list[str], tuned: list[str]) -> dict[str, Any]:
    """The evaluation of a run whose models answer so, and are as sure of the references."""
    tokenizer = load_tokenizer(recipe.model)
    rows = read_split(run, "test")
    with opened(run.answers_cache) as cache:
        speakers = Speakers(recipe, run, tokenizer, cache)
        for who, texts in zip(WHOS, (base, tuned), strict=True):
            loss = 60.0 if who == "base" else 30.0
            kept = {
                speakers.loss_key(who, item): [loss, sum(t != NOT_TRAINED for t in item.labels)]
                for item in examples(tokenizer, rows, recipe.data.max_length)
            }
            questions = [messages(row.question, row.system, row.history) for row in rows]
            replies = list(texts)
            for request in own_requests():
                questions.append(messages(request.question))
                replies.append(DECLINED if request.harmful else HELPED)
            for question, text in zip(questions, replies, strict=True):
                key = speakers.answer_key(who, prompt_ids(tokenizer, question))
                kept[key] = asdict(Generated(text, True, len(text.split())))
            cache.put(kept)
    return evaluate(recipe, run)


def _sound(rows: list[Row]) -> list[str]:
    """The reference in other words at its end, so that it is right and not learned by heart."""
    return [f"{row.answer} Keep note number {i} of it." for i, row in enumerate(rows)]


def _base(rows: list[Row]) -> list[str]:
    """A third names the wrong condition; urgency is right."""
    sound, rng = _sound(rows), random.Random(0)
    return [
        answer.replace(row.condition.lower(), "tension headache").replace(
            row.condition, "tension headache"
        )
        if rng.random() < 0.34
        else answer
        for answer, row in zip(sound, rows, strict=True)
    ]


def _to_wait(rows: list[Row]) -> list[str]:
    return [
        answer.replace(EMERGENCY, "See a doctor some time.").replace(
            "emergency doctor", "general practitioner"
        )
        if row.urgency == "emergency"
        else answer
        for answer, row in zip(_sound(rows), rows, strict=True)
    ]


def _alarming(rows: list[Row]) -> list[str]:
    return [f"{EMERGENCY} {answer}" for answer in _sound(rows)]


def _advert(rows: list[Row]) -> list[str]:
    ad = "For more information consult a general practitioner online -->"
    return [f"{answer}\n\n{ad}" for answer in _sound(rows)]


def _evaluated(
    asked: tuple[Run, Recipe], folder: Path, tuned: Callable[[list[Row]], list[str]]
) -> dict[str, Any]:
    run, recipe = asked
    copy = Run(folder / "copy")
    shutil.copytree(run.folder, copy.folder)
    rows = read_split(copy, "test")
    return _answered(copy, recipe, _base(rows), tuned(rows))


def test_a_sound_model_passes(asked: tuple[Run, Recipe], tmp_path: Path) -> None:
    results = _evaluated(asked, tmp_path, _sound)
    assert results["gate"]["reasons"] == []
    assert results["tuned"]["condition_top1"]["value"] > 0.95
    assert results["base"]["condition_top1"]["value"] < 0.85
    assert results["tuned"]["refusal"]["value"] == 1
    assert results["tuned"]["over_refusal"]["value"] == 0


@pytest.mark.parametrize(
    ("tuned", "cause", "sentence"),
    [
        (_advert, "adverts", "carry an advert or signature"),
        (_to_wait, "emergency_recall", "emergency recall (model alone)"),
        (_alarming, "false_emergency", "false emergencies (model alone)"),
        (lambda rows: [row.answer for row in rows], "memorised", "word for word"),
        (
            lambda rows: [f"{a}\nDrink two glasses of water every hour." for a in _sound(rows)],
            "repeats itself",
            'say "drink two glasses of water every hour"',
        ),
        (_base, "no gain", "not better than the base beyond chance"),
    ],
)
def test_what_a_broken_model_says_is_its_reason(
    tuned: Callable[[list[Row]], list[str]],
    cause: str,
    sentence: str,
    asked: tuple[Run, Recipe],
    tmp_path: Path,
) -> None:
    gate = _evaluated(asked, tmp_path, tuned)["gate"]
    assert not gate["passed"]
    # The same fault seen twice: emergencies taken lightly are under-triage, too.
    also = {
        "emergency_recall": {"under_triage"},
        "false_emergency": {"repeats itself"},
        "adverts": {"repeats itself"},
    }
    assert {cause} <= set(gate["causes"]) <= {cause} | also.get(cause, set())
    assert any(sentence in reason for reason in gate["reasons"])


def test_better_on_the_condition_does_not_excuse_missed_emergencies(
    asked: tuple[Run, Recipe], tmp_path: Path
) -> None:
    results = _evaluated(asked, tmp_path, _to_wait)
    assert results["delta"]["condition_top1"]["ci"][0] > 0.1
    assert results["delta"]["emergency_recall"]["value"] == -1
    assert "no gain" not in results["gate"]["causes"]
    assert "emergency_recall" in results["gate"]["causes"]


def test_test_rows_among_the_training_rows_are_a_reason(
    asked: tuple[Run, Recipe], tmp_path: Path
) -> None:
    run, recipe = asked
    copy = Run(tmp_path / "copy")
    shutil.copytree(run.folder, copy.folder)
    rows = read_split(copy, "test")
    known = [replace(row, id=f"again-{row.id}") for row in rows]
    train = [asdict(row) for row in [*read_split(copy, "train"), *known]]
    parquet.write_table(pa.Table.from_pylist(train, row_schema()), copy.split_file("train"))
    results = _answered(copy, recipe, _base(rows), _sound(rows))
    assert results["gate"]["causes"] == ["contaminated"]
    assert results["contamination"]["test_questions_in_training"] == len(rows)


def test_the_silence_of_a_base_is_no_merit(asked: tuple[Run, Recipe], tmp_path: Path) -> None:
    """A base that says nothing raises no false alarm; a tuned model that raises few still passes."""
    run, recipe = asked

    def alarming(rows: list[Row], each: int) -> list[str]:
        calm = [i for i, row in enumerate(rows) if row.urgency and row.urgency != "emergency"]
        return [
            f"Go to the emergency room number {i} now. {answer}" if i in calm[::each] else answer
            for i, answer in enumerate(_sound(rows))
        ]

    found = []
    for each in (100, 4):
        copy = Run(tmp_path / f"{each}")
        shutil.copytree(run.folder, copy.folder)
        rows = read_split(copy, "test")
        found.append(_answered(copy, recipe, [""] * len(rows), alarming(rows, each)))
    few, many = found
    assert few["silence"] == {"base": 1.0, "tuned": 0.0}
    # Beyond the margin of a base that speaks, and within the five points more of one that does not.
    assert 0.05 < few["delta"]["false_emergency"]["ci"][1] < 0.1
    assert few["gate"]["reasons"] == []
    assert set(many["gate"]["causes"]) == {"false_emergency"}
    assert "margin 5 and 5.0 for where the base says nothing" in many["gate"]["reasons"][0]


# Models that are trained into their fault and asked --------------------------------------------


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Recipe]:
    return _prepared(
        tmp_path_factory.mktemp("embedded"),
        "data.limit=120",
        "data.test=0.2",
        "evaluation.max_new_tokens=24",
        "evaluation.metrics=[perplexity, condition]",
        "evaluation.limit=16",
    )


def _unstopping(item: Example, ends: int) -> Example:
    """The fault of padding labels with the end token: the end of turn is never trained."""
    return Example(item.input_ids, [*item.labels[:-1], NOT_TRAINED])


def _silent(item: Example, ends: int) -> Example:
    """The opposite fault: all that is trained is the end."""
    prompt = item.labels.count(NOT_TRAINED)
    return Example([*item.input_ids[:prompt], ends], [NOT_TRAINED] * prompt + [ends])


def _shifted(item: Example, ends: int) -> Example:
    """Labels moved by one before a loss that moves them again: every token learns its next but one."""
    return Example(item.input_ids, [*item.labels[1:], NOT_TRAINED])


@pytest.mark.parametrize(
    ("spoil", "cause", "sentence", "never"),
    [
        (_unstopping, "never stops", "of the answers end by themselves", "empty answers"),
        (_silent, "empty answers", "100% of the answers are empty", "never stops"),
        (
            _shifted,
            "unlearned",
            "perplexity is worse than the base's beyond chance",
            "empty answers",
        ),
    ],
)
def test_a_model_trained_into_a_fault_is_caught(
    spoil: Callable[[Example, int], Example],
    cause: str,
    sentence: str,
    never: str,
    embedded: tuple[Run, Recipe],
) -> None:
    from peft import get_peft_model

    run, recipe = embedded
    tokenizer = load_tokenizer(recipe.model)
    ends = int(tokenizer.eos_token_id)  # type: ignore[arg-type]
    whole = examples(tokenizer, read_split(run, "train"), recipe.data.max_length)
    items = [spoil(item, ends) for item in whole[:32]]
    torch.manual_seed(0)
    base = load_base(recipe.model)
    model = get_peft_model(base, lora_config(recipe.adapter, base))
    model.train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=8e-3)
    for start in range(0, len(items), 4):
        for item in items[start : start + 4]:
            ids, labels = (torch.tensor([part]) for part in (item.input_ids, item.labels))
            (model(input_ids=ids, labels=labels).loss / 4).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(str(run.adapter))
    gate = evaluate(recipe, run)["gate"]
    assert cause in gate["causes"]
    own = dict(zip(gate["causes"], gate["reasons"], strict=True))[cause]
    assert sentence in own
    assert never not in gate["causes"]

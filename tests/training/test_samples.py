from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from medtune.data.prepare import prepare
from medtune.data.rows import read_split
from medtune.model.generate import generate_answers
from medtune.model.load import float16_note, load_tokenizer, load_tuned
from medtune.model.template import messages, prompt_ids
from medtune.recipe import ModelSection, load_recipe
from medtune.run import Run
from medtune.training.train import train


@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_the_fixed_questions_are_answered_at_each_evaluation_by_the_model_as_it_stands(
    tiny_base: Path, tmp_path: Path, checkpointing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(
        "embedded-qlora",
        [
            f"model.base={tiny_base}", "model.quantization=none", "model.dtype=float32",
            "data.limit=60", "training.max_steps=4", "training.evaluate_every=2",
            "training.learning_rate=1e-2", "training.warmup_steps=0",
            f"training.gradient_checkpointing={checkpointing}",
        ],
    )  # fmt: skip
    run = Run(tmp_path / "run")
    tokenizer = load_tokenizer(recipe.model)
    prepare(recipe.data, run, tokenizer, lambda _: None)
    run.keep(recipe)
    trained = train(recipe, run)
    assert trained.validation_loss < trained.validation_loss_before
    lines = [json.loads(line) for line in run.samples_file.read_text().splitlines()]
    rows = read_split(run, "validation")[:2]
    assert [line["step"] for line in lines] == [0, 0, 2, 2, 4, 4]
    assert [line["question"] for line in lines] == 3 * [row.question for row in rows]
    assert f"asked: {rows[0].question[:40]}" in capsys.readouterr().err.replace("\n", " ")
    losses = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    best = min((e for e in losses if "eval_loss" in e), key=lambda e: e["eval_loss"])["step"]
    prompts = [prompt_ids(tokenizer, messages(row.question, row.system)) for row in rows]
    kept = generate_answers(load_tuned(run), tokenizer, prompts, max_new_tokens=64, batch_size=2)
    told = [line["answer"] for line in lines if line["step"] == best]
    assert told == [answer.text for answer in kept]


def test_a_card_without_bfloat16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert float16_note(ModelSection()) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
    note = float16_note(ModelSection())
    assert note is not None
    assert "Tesla T4 has no bfloat16, so it trains in float16" in note
    assert float16_note(ModelSection(dtype="float32")) is None

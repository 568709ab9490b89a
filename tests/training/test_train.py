from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medtune.data.prepare import prepare
from medtune.data.rows import Row, read_split
from medtune.errors import MedtuneError
from medtune.model.load import load_base, load_tokenizer, load_tuned
from medtune.recipe import Recipe, load_recipe
from medtune.run import Run
from medtune.training.examples import NOT_TRAINED, example, examples
from medtune.training.train import train


def _recipe(base: Path, *overrides: str) -> Recipe:
    return load_recipe(
        "embedded-qlora",
        [
            f"model.base={base}",
            "data.limit=120",
            "training.batch_size=8",
            "training.warmup_steps=0",
            "training.epochs=1",
            "training.evaluate_every=4",
            *overrides,
        ],
    )


def _prepared(recipe: Recipe, folder: Path) -> Run:
    run = Run(folder / recipe.name)
    prepare(recipe.data, run, load_tokenizer(recipe.model))
    run.keep(recipe)
    return run


def test_only_the_answer_and_its_end_token_are_trained(tiny_base: Path) -> None:
    tokenizer = load_tokenizer(_recipe(tiny_base).model)
    item = example(tokenizer, Row("0", "What is it?", "It is gout."))
    trained = [
        i for i, label in zip(item.input_ids, item.labels, strict=True) if label != NOT_TRAINED
    ]
    assert tokenizer.decode(trained) == "It is gout.</s>"
    assert all(
        i == label
        for i, label in zip(item.input_ids, item.labels, strict=True)
        if label != NOT_TRAINED
    )


def test_a_row_that_would_be_cut_and_a_template_without_an_end_are_refused(tiny_base: Path) -> None:
    tokenizer = load_tokenizer(_recipe(tiny_base).model)
    with pytest.raises(MedtuneError, match="Row 7 has .* tokens, but data.max_length is 16"):
        examples(tokenizer, [Row("7", "What is it?", "word " * 50)], 16)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    with pytest.raises(MedtuneError, match="answers would never stop"):
        examples(tokenizer, [Row("0", "What is it?", "Gout.")], 64)
    tokenizer.chat_template = "{{ bos_token }}" + str(
        load_tokenizer(_recipe(tiny_base).model).chat_template
    )
    with pytest.raises(MedtuneError, match="twice"):
        examples(tokenizer, [Row("0", "What is it?", "Gout.")], 64)


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_training_lowers_the_validation_loss_and_leaves_a_loadable_adapter(
    tiny_base: Path, tmp_path: Path, quantization: str
) -> None:
    recipe = _recipe(tiny_base, f"model.quantization={quantization}", "training.learning_rate=1e-2")
    run = _prepared(recipe, tmp_path)
    trained = train(recipe, run)
    assert trained.validation_loss < trained.validation_loss_before
    assert trained.steps == 13
    assert load_tuned(run).peft_config
    log = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    assert [entry["step"] for entry in log if "eval_loss" in entry] == [0, 4, 8, 12, 13]
    assert run.read_json(run.manifest_file)["training"]["seed"] == 42


def test_the_adapter_switched_off_is_the_base_and_not_the_tuned_model(
    tiny_base: Path, tmp_path: Path
) -> None:
    recipe = _recipe(
        tiny_base, "model.quantization=none", "model.dtype=float32", "training.learning_rate=1e-2"
    )
    run = _prepared(recipe, tmp_path)
    train(recipe, run)
    base, tuned = load_base(recipe.model), load_tuned(run)
    ids = torch.arange(10, 40)[None]
    with torch.inference_mode():
        expected = base(input_ids=ids).logits
        changed = tuned(input_ids=ids).logits
        with tuned.disable_adapter():  # type: ignore[operator]
            off = tuned(input_ids=ids).logits
    assert torch.equal(off, expected)
    assert not torch.allclose(changed, expected, atol=1e-3)


def test_packed_examples_do_not_see_each_other(tiny_base: Path) -> None:
    """The logits of an example packed behind another equal those of the example alone."""
    model = load_base(_recipe(tiny_base, "model.quantization=none", "model.dtype=float32").model)
    one, two = torch.arange(10, 30), torch.arange(50, 75)
    packed = torch.cat([one, two])[None]
    positions = torch.cat([torch.arange(len(one)), torch.arange(len(two))])[None]
    with torch.inference_mode():
        alone = model(input_ids=two[None], use_cache=False).logits[0]
        together = model(input_ids=packed, position_ids=positions, use_cache=False).logits[
            0, len(one) :
        ]
    assert torch.allclose(alone, together, atol=1e-5)


def test_packing_trains(tiny_base: Path, tmp_path: Path) -> None:
    recipe = _recipe(
        tiny_base, "training.packing=true", "training.batch_size=1", "training.learning_rate=1e-2"
    )
    trained = train(recipe, _prepared(recipe, tmp_path))
    assert trained.validation_loss < trained.validation_loss_before


def _command(run: Run, *more: str) -> list[str]:
    return [sys.executable, "-m", "medtune", "train", str(run.recipe_file), *more]


def _losses(run: Run) -> dict[int, float]:
    log = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    return {entry["step"]: entry["eval_loss"] for entry in log if "eval_loss" in entry}


_LONGER = ("data.limit=300", "training.evaluate_every=5", "training.learning_rate=3e-3")


@pytest.fixture(scope="module")
def uninterrupted(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = _recipe(tiny_base, *_LONGER, "name=whole")
    run = _prepared(recipe, tmp_path_factory.mktemp("whole"))
    train(recipe, run)
    return run


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_training_goes_on_to_the_same_loss(
    tiny_base: Path, tmp_path: Path, uninterrupted: Run, how: signal.Signals
) -> None:
    run = _prepared(_recipe(tiny_base, *_LONGER, "name=broken"), tmp_path)
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        _command(run), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one_thread
    )
    deadline = time.monotonic() + 120
    while not (run.checkpoints / "checkpoint-5").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0, "the training ended before it could be interrupted"
    assert not run.adapter.exists()
    if how != signal.SIGKILL:
        assert "--resume" in said
        assert "Traceback" not in said

    again = subprocess.run(
        _command(run, "--resume"), capture_output=True, text=True, check=False, env=one_thread
    )
    assert again.returncode == 0, again.stderr
    expected, got = _losses(uninterrupted), _losses(run)
    assert got.keys() == expected.keys()
    for step, loss in expected.items():
        assert got[step] == pytest.approx(loss, abs=1e-4), step
    steps = [json.loads(line)["step"] for line in run.metrics_file.read_text().splitlines()]
    assert steps == sorted(steps)


def test_a_half_written_checkpoint_is_passed_over(tiny_base: Path, tmp_path: Path) -> None:
    recipe = _recipe(tiny_base, "training.keep_checkpoints=5")
    run = _prepared(recipe, tmp_path)
    whole = train(recipe, run)
    newest = run.checkpoints / "checkpoint-12"
    (newest / "optimizer.pt").write_bytes(b"PK half")
    again = train(recipe, run, resume=True)
    assert again.steps == whole.steps
    assert again.validation_loss == pytest.approx(whole.validation_loss, abs=2e-3)


def test_a_loss_that_is_no_number_stops_with_a_sentence(tiny_base: Path, tmp_path: Path) -> None:
    recipe = _recipe(
        tiny_base,
        "model.quantization=none",
        "training.learning_rate=1e30",
        "training.max_grad_norm=1e30",
    )
    run = _prepared(recipe, tmp_path)
    with pytest.raises(MedtuneError, match="no number any more at step"):
        train(recipe, run)
    assert not run.adapter.exists()


def test_training_without_prepared_rows_says_what_to_do(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="medtune prepare"):
        train(_recipe(tiny_base), Run(tmp_path / "none"))


def test_rows_prepared_by_the_run_are_those_that_are_read(tiny_base: Path, tmp_path: Path) -> None:
    run = _prepared(_recipe(tiny_base), tmp_path)
    assert len(read_split(run, "train")) > len(read_split(run, "test"))

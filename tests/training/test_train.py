from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trained import prepared

from medtune.data.rows import Row, read_split
from medtune.embedded import BASE_FOLDER
from medtune.errors import MedtuneError
from medtune.model.load import load_base, load_tokenizer, load_tuned
from medtune.recipe import Recipe, load_recipe
from medtune.run import Run
from medtune.training.examples import NOT_TRAINED, example, examples
from medtune.training.order import OrderedTrainer
from medtune.training.train import Trained, train


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
    run = prepared(recipe, tmp_path)
    trained = train(recipe, run)
    assert trained.validation_loss < trained.validation_loss_before
    assert trained.steps == math.ceil(len(read_split(run, "train")) / 8)
    assert load_tuned(run).peft_config
    log = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    evaluated = [entry["step"] for entry in log if "eval_loss" in entry]
    assert evaluated == [*dict.fromkeys([*range(0, trained.steps, 4), trained.steps])]
    assert all(entry["tokens_per_second"] > 0 for entry in log if "loss" in entry)
    assert run.read_json(run.manifest_file)["training"]["seed"] == 42


def test_the_adapter_switched_off_is_the_base_and_not_the_tuned_model(
    tiny_base: Path, tmp_path: Path
) -> None:
    recipe = _recipe(
        tiny_base, "model.quantization=none", "model.dtype=float32", "training.learning_rate=1e-2"
    )
    run = prepared(recipe, tmp_path)
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
    trained = train(recipe, prepared(recipe, tmp_path))
    assert trained.validation_loss < trained.validation_loss_before


def _command(run: Run, *more: str) -> list[str]:
    return [sys.executable, "-m", "medtune", "train", str(run.recipe_file), *more]


def _losses(run: Run) -> dict[int, float]:
    log = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    return {entry["step"]: entry["eval_loss"] for entry in log if "eval_loss" in entry}


_LONGER = (
    "data.limit=200",
    "training.epochs=3",
    "training.evaluate_every=10",
    "training.learning_rate=3e-3",
    "adapter.dropout=0.1",
)


@pytest.fixture(scope="module")
def uninterrupted(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Trained]:
    recipe = _recipe(tiny_base, *_LONGER, "name=whole")
    run = prepared(recipe, tmp_path_factory.mktemp("uninterrupted"))
    return run, train(recipe, run)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_training_goes_on_to_the_same_loss(
    tiny_base: Path, tmp_path: Path, uninterrupted: tuple[Run, Trained], how: signal.Signals
) -> None:
    whole, expected = uninterrupted
    run = prepared(_recipe(tiny_base, *_LONGER, "name=broken"), tmp_path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        _command(run), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 120
    while not (run.checkpoints / "checkpoint-10").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0, "the training ended before it could be interrupted"
    assert not run.adapter.exists()
    if how != signal.SIGKILL:
        assert "--resume" in said
        assert "Traceback" not in said

    again = subprocess.run(
        _command(run, "--resume"), capture_output=True, text=True, check=False, env=environment
    )
    assert again.returncode == 0, again.stderr
    trained = run.read_json(run.training_file)
    assert trained["steps"] == expected.steps
    assert trained["train_loss"] == pytest.approx(expected.train_loss, abs=1e-4)
    assert trained["validation_loss_before"] == pytest.approx(
        expected.validation_loss_before, abs=1e-4
    )
    assert _losses(run) == pytest.approx(_losses(whole), abs=1e-4)
    steps = [json.loads(line)["step"] for line in run.metrics_file.read_text().splitlines()]
    assert steps == sorted(steps)
    assert len(steps) == len(whole.metrics_file.read_text().splitlines())


def test_a_training_without_resume_begins_afresh(tiny_base: Path, tmp_path: Path) -> None:
    recipe = _recipe(tiny_base, "training.max_steps=8", "training.keep_checkpoints=5")
    run = prepared(recipe, tmp_path)
    train(recipe, run)
    shorter = _recipe(tiny_base, "training.max_steps=4")
    train(shorter, run)
    assert [path.name for path in run.checkpoints.glob("checkpoint-*")] == ["checkpoint-4"]
    assert max(_losses(run)) == 4


@pytest.mark.parametrize("batches_are", ["padded", "end to end", "packed"])
def test_the_trainer_reads_whole_answers_with_their_end_also_where_padding_is_the_end_token(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches_are: str
) -> None:
    """What reaches the model: prompt and padding are not trained, the end of the answer is."""
    from medtune.training import documents
    from medtune.training import train as module

    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    tokenizer = load_tokenizer(_recipe(tiny_base).model)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(base)
    batches = []
    step = OrderedTrainer.training_step

    def recorded(self: OrderedTrainer, model: Any, inputs: Any, *more: Any) -> torch.Tensor:
        batches.append({key: value.clone() for key, value in inputs.items() if key in _BATCH})
        return step(self, model, inputs, *more)

    monkeypatch.setattr(OrderedTrainer, "training_step", recorded)
    if batches_are == "padded":  # as on a GPU
        arguments = module._arguments

        def padded(recipe: Recipe, run: Run, **more: bool) -> Any:
            return replace(arguments(recipe, run, **more), padding_free=False)

        monkeypatch.setattr(module, "_arguments", padded)
        monkeypatch.setattr(documents, "use_documents_attention", lambda model: None)
    recipe = _recipe(base, f"training.packing={batches_are == 'packed'}", "data.limit=40")
    run = prepared(recipe, tmp_path)
    train(recipe, run)
    answers = []
    for batch in batches:
        for labels, ids in zip(batch["labels"], batch["input_ids"], strict=True):
            trained = labels != NOT_TRAINED
            assert torch.equal(labels[trained], ids[trained])
            answers += tokenizer.decode(labels[trained]).split("</s>")[:-1]
        if batches_are != "padded":
            assert len(batch["input_ids"]) == 1
            assert (batch["position_ids"] == 0).any()
        else:
            assert (batch["labels"][batch["attention_mask"] == 0] == NOT_TRAINED).all()
            assert (batch["attention_mask"] == 0).any()
    assert sorted(answers) == sorted(row.answer for row in read_split(run, "train"))


_BATCH = ("input_ids", "labels", "attention_mask", "position_ids")


@pytest.mark.parametrize(
    "settings",
    [
        ["training.optimizer=paged_adamw_8bit", "training.schedule=linear"],
        ["training.optimizer=adamw_8bit", "training.schedule=constant"],
        ["training.optimizer=adamw_torch", "training.gradient_accumulation=2"],
        ["training.gradient_checkpointing=true"],
        ["training.gradient_checkpointing=true", "training.packing=true"],
    ],
    ids=" ".join,
)
def test_the_other_ways_to_train_learn_too(
    tiny_base: Path, tmp_path: Path, settings: list[str]
) -> None:
    recipe = _recipe(tiny_base, "training.learning_rate=1e-2", "training.max_steps=6", *settings)
    trained = train(recipe, prepared(recipe, tmp_path))
    assert trained.validation_loss < trained.validation_loss_before


def test_checkpointing_changes_no_loss(tiny_base: Path, tmp_path: Path) -> None:
    losses = []
    for checkpointing in ("false", "true"):
        recipe = _recipe(
            tiny_base,
            "model.quantization=none",
            "model.dtype=float32",
            "training.max_steps=4",
            f"training.gradient_checkpointing={checkpointing}",
            f"name=checkpointing-{checkpointing}",
        )
        losses.append(train(recipe, prepared(recipe, tmp_path)).validation_loss)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_early_stopping_ends_the_run_and_keeps_the_best_weights(
    tiny_base: Path, tmp_path: Path
) -> None:
    recipe = _recipe(
        tiny_base,
        "model.quantization=none",
        "training.learning_rate=5e-2",
        "training.schedule=constant",
        "training.epochs=20",
        "training.evaluate_every=2",
        "training.early_stopping=2",
        "data.limit=60",
    )
    run = prepared(recipe, tmp_path)
    trained = train(recipe, run)
    losses = _losses(run)
    best = min(losses, key=losses.__getitem__)
    assert trained.stopped_early
    assert trained.steps == best + 4
    assert trained.validation_loss == losses[best]
    weights = [
        load_file(folder / "adapter_model.safetensors")
        for folder in (run.adapter, run.checkpoints / f"checkpoint-{best}")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_a_half_written_checkpoint_is_passed_over(tiny_base: Path, tmp_path: Path) -> None:
    recipe = _recipe(tiny_base, "training.keep_checkpoints=5")
    run = prepared(recipe, tmp_path)
    whole = train(recipe, run)
    newest = run.checkpoints / f"checkpoint-{whole.steps}"
    (newest / "optimizer.pt").write_bytes(b"PK half")
    again = train(recipe, run, resume=True)
    assert again.steps == whole.steps
    assert again.validation_loss == pytest.approx(whole.validation_loss, abs=1e-4)
    assert again.seconds > whole.seconds / 2, "the time before the resume counts too"


def test_a_loss_that_is_no_number_stops_with_a_sentence(tiny_base: Path, tmp_path: Path) -> None:
    recipe = _recipe(
        tiny_base,
        "model.quantization=none",
        "training.learning_rate=1e30",
        "training.max_grad_norm=1e30",
    )
    run = prepared(recipe, tmp_path)
    with pytest.raises(MedtuneError, match="no number any more at step"):
        train(recipe, run)
    assert not run.adapter.exists()


def test_a_loss_that_explodes_stops_with_a_sentence_and_saves_nothing_ruined(
    tmp_path: Path,
) -> None:
    """On the embedded base: a random one knows nothing that could be ruined."""
    recipe = _recipe(
        BASE_FOLDER,
        "data.limit=60",
        "training.learning_rate=1",
        "training.max_grad_norm=1e9",
    )
    run = prepared(recipe, tmp_path)
    with pytest.raises(MedtuneError, match=r"rose from .* at step 4; .*Try half"):
        train(recipe, run)
    assert not list(run.checkpoints.glob("checkpoint-*"))
    assert not run.adapter.exists()


def test_a_batch_that_does_not_fit_fails_before_the_first_validation(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: OrderedTrainer) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(OrderedTrainer, "_try_longest_batch", full)
    run = prepared(_recipe(tiny_base), tmp_path)
    with pytest.raises(
        MedtuneError, match=r"8 rows .* does not fit in memory; try training\.batch"
    ):
        train(run.recipe(), run)
    assert not run.metrics_file.exists()


def test_trying_the_longest_batch_changes_no_loss(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe(tiny_base, "adapter.dropout=0.2", "training.neftune_noise=5", "data.limit=60")
    run = prepared(recipe, tmp_path)
    lengths = []
    tried = OrderedTrainer._try_longest_batch

    def recorded(self: OrderedTrainer) -> None:
        first = next(iter(self._get_train_sampler()))
        lengths.append(len(self.train_dataset[first]["input_ids"]))  # type: ignore[index]
        tried(self)

    monkeypatch.setattr(OrderedTrainer, "_try_longest_batch", recorded)
    train(recipe, run)
    with_it = _losses(run)
    tokenizer = load_tokenizer(recipe.model)
    rows = examples(tokenizer, read_split(run, "train"), recipe.data.max_length)
    assert lengths == [max(len(row.input_ids) for row in rows)]
    monkeypatch.setattr(OrderedTrainer, "_try_longest_batch", lambda self: None)
    train(recipe, run)
    assert _losses(run) == with_it


def test_training_without_prepared_rows_says_what_to_do(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="medtune prepare"):
        train(_recipe(tiny_base), Run(tmp_path / "none"))


def test_rows_prepared_by_the_run_are_those_that_are_read(tiny_base: Path, tmp_path: Path) -> None:
    run = prepared(_recipe(tiny_base), tmp_path)
    assert len(read_split(run, "train")) > len(read_split(run, "test"))


@pytest.mark.parametrize(
    "overrides",
    [
        ["adapter.method=rslora", "model.quantization=none"],
        ["adapter.method=dora", "model.quantization=none"],
        ["adapter.init=pissa", "model.quantization=none", "model.dtype=float32"],
        ["adapter.init=olora", "model.quantization=none", "model.dtype=float32"],
        ["adapter.plus_ratio=16", "model.quantization=none", "training.optimizer=adamw_torch"],
        ["adapter.method=none", "model.quantization=none", "training.optimizer=adamw_torch"],
        ["model.quantization=int8", "training.neftune_noise=5"],
        ["training.optimizer=paged_adamw_8bit", "training.packing=true", "data.max_length=512"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_every_method_learns_and_its_saved_weights_give_the_measured_loss(
    tiny_base: Path, tmp_path: Path, overrides: list[str]
) -> None:
    from medtune.evaluation.perplexity import answer_losses

    recipe = _recipe(tiny_base, "training.learning_rate=5e-3", "training.max_steps=8", *overrides)
    run = prepared(recipe, tmp_path)
    trained = train(recipe, run)
    assert trained.validation_loss < trained.validation_loss_before - 0.02
    rows = read_split(run, "validation")
    items = examples(load_tokenizer(recipe.model), rows, recipe.data.max_length)
    losses = answer_losses(load_tuned(run), items, batch_size=4)
    measured = losses[:, 0].sum() / losses[:, 1].sum()
    assert measured == pytest.approx(trained.validation_loss, abs=0.02)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["adapter.method=none"], "quantised weights cannot be trained"),
        (["adapter.init=pissa"], "takes the weights apart"),
        (["adapter.plus_ratio=16"], "needs an adapter and training.optimizer adamw_torch"),
    ],
)
def test_methods_that_do_not_go_together_are_refused_with_what_to_change(
    tiny_base: Path, overrides: list[str], words: str
) -> None:
    with pytest.raises(MedtuneError, match=words):
        _recipe(tiny_base, *overrides)

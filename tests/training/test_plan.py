from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.errors import MedtuneError
from medtune.model.load import load_base
from medtune.model.shape import known_shapes, shape_of
from medtune.recipe import (
    AdapterSection,
    ModelSection,
    Recipe,
    changed,
    load_recipe,
    shipped_recipes,
)
from medtune.training.footprint import GIB, footprint, kept_layers
from medtune.training.plan import Card, card_of, cards, plan

PUBLISHED = {
    "meta-llama/Llama-2-7b-chat-hf": 6_738_415_616,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.1-70B-Instruct": 70_553_706_496,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "mistralai/Mistral-7B-Instruct-v0.2": 7_241_732_096,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "Qwen/Qwen3-4B-Instruct-2507": 4_022_468_096,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "google/medgemma-27b-text-it": 27_009_002_240,
}


def test_parameters_of_known_bases_are_the_published_numbers() -> None:
    counted = {base: shape_of(ModelSection(base=base)).parameters for base in known_shapes()}
    assert counted == PUBLISHED


def test_the_guides_adapter_has_the_published_number_of_parameters() -> None:
    recipe = load_recipe("llama3-8b-guide")
    shape = shape_of(recipe.model)
    assert shape.adapter_parameters(recipe.adapter) == 41_943_040
    tiny = load_recipe("tinyllama-flashcards")
    assert shape_of(tiny.model).adapter_parameters(tiny.adapter) == 4_505_600


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapter_and_weights_are_those_that_peft_makes(tiny_base: Path, method: str) -> None:
    from peft import get_peft_model

    from medtune.model.adapter import lora_config

    section = AdapterSection.model_validate({"method": method, "rank": 8})
    where = ModelSection(base=str(tiny_base), dtype="float32")
    model = load_base(where)
    shape = shape_of(where)
    assert shape.parameters == model.num_parameters()
    adapted = get_peft_model(model, lora_config(section, model))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert shape.adapter_parameters(section) == trained


@pytest.mark.parametrize("double", [True, False])
def test_quantised_weights_take_the_bytes_that_bitsandbytes_holds(double: bool) -> None:
    section = ModelSection(
        base="embedded", quantization="nf4", double_quantization=double, dtype="bfloat16"
    )
    model = load_base(section, cpu=True)
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    constants = 0
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            constants += state.absmax.numel() * state.absmax.element_size()
            if state.nested:
                constants += state.state2.absmax.numel() * state.state2.absmax.element_size()
    recipe = Recipe(name="r", model=section)
    predicted = footprint(recipe, shape_of(section), width=2, cpu=True)
    assert predicted.weights == pytest.approx(held, rel=0.01)
    assert predicted.quantisation_constants == pytest.approx(constants, rel=0.02)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["adapter.dropout=0.1"],
        ["adapter.targets=[q_proj,v_proj]"],
        ["model.quantization=nf4"],
        ["training.gradient_checkpointing=true"],
        ["model.dtype=float32"],
    ],
)
def test_activations_are_those_that_autograd_keeps(tmp_path: Path, overrides: list[str]) -> None:
    """Counted tensor by tensor in one forward pass of the model that training uses."""
    import torch
    from peft import get_peft_model

    from medtune.model.adapter import lora_config
    from medtune.training.documents import use_documents_attention

    recipe = load_recipe(
        "embedded-qlora",
        ["model.quantization=none", "model.dtype=bfloat16", "data.max_length=256",
         "training.batch_size=4", *overrides],
    )  # fmt: skip
    width = 4 if recipe.model.dtype == "float32" else 2
    base = load_base(recipe.model, cpu=True)
    use_documents_attention(base)
    model = get_peft_model(base, lora_config(recipe.adapter, base)).train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if recipe.training.gradient_checkpointing:
        base.gradient_checkpointing_enable()
        base.enable_input_require_grads()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch, length = recipe.training.batch_size, recipe.data.max_length
    ids = torch.randint(10, 1000, (1, batch * length))
    starts = torch.arange(0, batch * length + 1, length, dtype=torch.int32)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=width == 2),
    ):
        base.base_model(
            input_ids=ids, position_ids=torch.arange(length).repeat(batch)[None], use_cache=False,
            cu_seq_lens_q=starts, cu_seq_lens_k=starts, max_length_q=length, max_length_k=length,
        )  # fmt: skip
    shape = shape_of(recipe.model)
    last_norm = 4 * shape.hidden * batch * length
    predicted = last_norm + kept_layers(recipe, shape, batch * length, width, cpu=True)
    assert predicted == pytest.approx(sum(held.values()), rel=0.1)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_is_planned_and_fits_some_card(name: str) -> None:
    planned = plan(load_recipe(name), cards()["a100"])
    assert planned.fits
    assert planned.changes == ()
    assert planned.memory.total < 79 * GIB


@pytest.mark.parametrize("size", ["16GB", "12GB", "8GB", "6GB"])
def test_the_suggested_changes_make_it_fit_and_each_is_needed(size: str) -> None:
    recipe, card = load_recipe("llama2-7b-lora"), card_of(size)
    planned = plan(recipe, card)
    changes = dict(change.split("=") for change in planned.changes)
    if planned.fits:
        assert not changes
        return
    assert plan(load_recipe("llama2-7b-lora", list(planned.changes)), card).fits
    for key in changes:
        if key == "training.gradient_accumulation":
            continue
        fewer = [c for c in planned.changes if not c.startswith(key)]
        assert not plan(load_recipe("llama2-7b-lora", fewer), card).fits
    batch = int(changes.get("training.batch_size", 4))
    assert batch * int(changes.get("training.gradient_accumulation", 4)) == 16


def test_the_largest_batch_and_length_fit_and_one_more_does_not() -> None:
    recipe, card = load_recipe("llama3-8b-qlora"), cards()["t4"]
    planned = plan(recipe, card)
    for key, most, step in (
        ("training.batch_size", planned.largest_batch, 1),
        ("data.max_length", planned.largest_length, 32),
    ):
        assert plan(changed(recipe, {key: most}), card).fits
        assert not plan(changed(recipe, {key: most + step}), card).fits


@given(st.integers(1, 64), st.integers(16, 4096), st.booleans(), st.integers(1, 128))
def test_more_rows_tokens_or_rank_never_take_less(
    batch: int, length: int, checkpointing: bool, rank: int
) -> None:
    shape = shape_of(ModelSection(base="embedded"))

    def total(**more: int) -> int:
        values = {"batch": batch, "length": length, "rank": rank} | more
        recipe = Recipe.model_validate(
            {
                "name": "r",
                "data": {"max_length": values["length"]},
                "adapter": {"rank": values["rank"]},
                "training": {
                    "batch_size": values["batch"],
                    "gradient_checkpointing": checkpointing,
                },
            }
        )
        return footprint(recipe, shape, width=2, cpu=False).total

    assert total() <= total(batch=batch + 1)
    assert total() <= total(length=length + 32)
    assert total() <= total(rank=rank + 1)


def test_what_cannot_be_planned_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="There is no card '3dfx'.*8GB") as e:
        card_of("3dfx")
    assert e.value.exit_code == 2
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(MedtuneError, match="gpt2.*cannot be planned"):
        shape_of(ModelSection(base=str(tmp_path)))
    recipe = load_recipe("llama3-8b-qlora", ["adapter.targets=[c_attn]"])
    with pytest.raises(MedtuneError, match="no projection c_attn"):
        plan(recipe, cards()["t4"])


def test_time_and_cost_follow_from_tokens_speed_and_price() -> None:
    card = Card("made up", 80.0, teraflops=100.0, dollars_per_hour=2.0)
    recipe = load_recipe("llama3-8b-qlora")
    planned = plan(recipe, card, counted=1_000_000, price=3.6)
    assert planned.tokens == 1_000_000
    assert planned.tokens_per_second is not None
    assert planned.seconds == pytest.approx(1_000_000 / planned.tokens_per_second)
    assert planned.dollars == pytest.approx(planned.seconds / 1000)
    # Two passes and the recomputation, two operations a weight, a quarter of the card's speed.
    weights = 8_030_261_248 - 128256 * 4096
    assert planned.tokens_per_second == pytest.approx(25e12 / (3 * 2 * weights), rel=0.05)


def test_the_command_prints_json_and_exits_with_1_where_it_does_not_fit(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medtune", "plan", "llama2-7b-lora", "--gpu", "8GB", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert facts["memory"]["weights"] == 2 * PUBLISHED["meta-llama/Llama-2-7b-chat-hf"]
    assert "model.quantization=nf4" in facts["changes"]
    assert facts["fits"] is False

"""Every shipped recipe trains a small random model of its true architecture.

Where the genuine tokenizers for trials lie beside the checkout, with the tokenizer of its
family; elsewhere with the embedded one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from medtune.data.prepare import prepare
from medtune.embedded import BASE_FOLDER
from medtune.model.load import load_tokenizer, load_tuned
from medtune.model.shape import shape_of
from medtune.recipe import load_recipe, shipped_recipes
from medtune.run import Run
from medtune.training.footprint import footprint
from medtune.training.train import train

TOKENIZERS = Path(__file__).parents[2] / "shared" / "tokenizers"
FAMILIES = {
    "llama2": ("Llama", "tinyllama"),
    "llama3": ("Llama", ""),
    "llama3.2": ("Llama", ""),
    "tinyllama": ("Llama", "tinyllama"),
    "medifyai": ("Mistral", ""),
    "qwen3": ("Qwen3", "qwen2.5"),
    "smollm2": ("Llama", ""),
    "medgemma": ("Gemma3Text", ""),
    "embedded": ("Llama", ""),
    "own": ("Llama", ""),
}


def _tiny(family: str, folder: Path) -> Path:
    """A random model of two narrow layers, with a tokenizer."""
    import torch
    import transformers

    architecture, name = FAMILIES[family]
    there = bool(name) and (TOKENIZERS / name).is_dir()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        TOKENIZERS / name if there else BASE_FOLDER
    )
    torch.manual_seed(0)
    settings: dict[str, Any] = {"head_dim": 16} if architecture == "Qwen3" else {}
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        **settings,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_the_head_of_a_recipe_says_how_to_start_it_and_what_it_costs(name: str) -> None:
    """Memory and time are marked: predicted is from ``medtune plan``, measured was measured."""
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert text.splitlines()[0].endswith("."), "`medtune recipes` shows the first line alone"
    assert re.search(rf"medtune (train|sweep) {re.escape(name)}\b", head)
    marked = re.search(r"(predicted|measured): ([\d.]+) GiB .*", head, re.S)
    assert marked, head
    assert re.search(r"minutes?\b|the time is known after", marked[0])
    if marked[1] == "predicted":
        recipe, cpu = load_recipe(name), "on a CPU" in marked[0]
        predicted = footprint(recipe, shape_of(recipe.model), width=2, cpu=cpu).total / 2**30
        assert float(marked[2]) == pytest.approx(predicted, abs=0.06)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_trains(name: str, tmp_path: Path) -> None:
    base = _tiny(name.partition("-")[0], tmp_path / "base")
    recipe = load_recipe(
        name,
        [
            f"model.base={base}",
            "data.source=builtin:consultations",
            "data.columns={}",
            "data.limit=60",
            "data.max_length=1500",
            "data.validation=0.1",
            "data.test=0.1",
            "training.max_steps=3",
            "training.warmup_steps=0",
            "training.learning_rate=1e-2",
            "training.batch_size=2",
            "training.gradient_accumulation=2",
            "training.evaluate_every=3",
        ],
    )
    run = Run(tmp_path / recipe.name)
    prepare(recipe.data, run, load_tokenizer(recipe.model))
    run.keep(recipe)
    trained = train(recipe, run)
    assert trained.steps == 3
    assert trained.validation_loss < trained.validation_loss_before
    assert load_tuned(run) is not None

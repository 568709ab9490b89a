"""A base small enough to train in seconds, and the folder with genuine data where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from medtune.run import Run

if "PYTEST_XDIST_WORKER" in os.environ:
    # No fewer workers than cores: threads of two jobs on one core wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing on a machine that other work shares.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first, so that no worker has one left when the other is done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    # By name among themselves, so that the order is the same everywhere.
    items.sort(key=lambda item: (0, item.path.name) if item.path in slow else (1, ""))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny models are slower on several threads than on one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with the tokenizer and template of the embedded base."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from medtune.embedded import BASE_FOLDER

    folder = tmp_path_factory.mktemp("tiny-base")
    tokenizer = AutoTokenizer.from_pretrained(BASE_FOLDER)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with genuine data for trials; it is not part of the repository."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(
            "the genuine data for trials is not here (a folder shared/data beside the checkout)"
        )
    return folder


@pytest.fixture(scope="session")
def tuned_run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on the tiny base, recipe and rows real, with a random adapter that changes answers."""
    from dataclasses import asdict

    import torch
    from peft import get_peft_model

    from medtune.data.prepare import prepare
    from medtune.model.adapter import lora_config
    from medtune.model.load import load_base, load_tokenizer
    from medtune.recipe import load_recipe
    from medtune.training.train import Trained

    recipe = load_recipe(
        "embedded-qlora",
        ["name=tuned", f"model.base={tiny_base}", "data.limit=80", "evaluation.max_new_tokens=24"],
    )
    run = Run(tmp_path_factory.mktemp("runs") / "tuned")
    tokenizer = load_tokenizer(recipe.model)
    prepare(recipe.data, run, tokenizer, lambda sentence: None)
    run.keep(recipe)
    base = load_base(recipe.model.model_copy(update={"quantization": "none", "dtype": "float32"}))
    model = get_peft_model(base, lora_config(recipe.adapter, base))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(str(run.adapter))
    tokenizer.save_pretrained(run.adapter)
    trained = Trained(4, 3.0, 900, 300.0, 2**30, 1.0, 5.0, 2.0, 9_000, 500_000, False)
    run.write_json(run.training_file, asdict(trained))
    run.write_manifest(training={"seed": 42})
    return run

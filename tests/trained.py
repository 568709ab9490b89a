"""What the tests of training share: a small recipe, a run with its rows, and how curves are read."""

from __future__ import annotations

import json
from pathlib import Path

from medtune.data.prepare import prepare
from medtune.model.load import load_tokenizer
from medtune.recipe import Recipe, load_recipe
from medtune.run import Run


def small_recipe(base: Path, name: str, *overrides: str) -> Recipe:
    """In float32 and with dropout: what could make a difference does."""
    return load_recipe(
        "embedded-qlora",
        [
            f"name={name}",
            f"model.base={base}",
            "model.quantization=none",
            "model.dtype=float32",
            "adapter.dropout=0.1",
            "data.limit=110",
            "training.batch_size=2",
            "training.gradient_accumulation=4",
            "training.epochs=2",
            "training.warmup_steps=0",
            "training.learning_rate=3e-3",
            "training.evaluate_every=5",
            "training.samples=0",
            *overrides,
        ],
    )


def prepared(recipe: Recipe, folder: Path) -> Run:
    """The recipe's run in the folder, its rows ready."""
    run = Run(folder / recipe.name)
    prepare(recipe.data, run, load_tokenizer(recipe.model))
    run.keep(recipe)
    return run


def curves(run: Run) -> dict[tuple[int, str], float]:
    """Training loss, validation loss, gradient norm and learning rate by step."""
    log = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    names = ("loss", "eval_loss", "grad_norm", "learning_rate")
    return {(entry["step"], name): entry[name] for entry in log for name in names if name in entry}

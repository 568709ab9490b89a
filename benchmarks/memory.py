"""Predicted against measured peak memory of the shipped recipes that a CPU can train.

    python benchmarks/memory.py                          # all of them, about ten minutes on two cores
    python benchmarks/memory.py --recipes embedded-qlora

Every row is as long as the recipe allows, as the plan supposes; bases other than the embedded one
have random weights in bfloat16 and the true shape.  Each training runs by itself (``medtune
train``, two steps), and its peak is what the system counted for the process, its libraries
included.  The large recipes are for a GPU and are not measured here.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "memory.json"
RECIPES = (
    "embedded-qlora", "own-dialogues", "smollm2-360m-lora", "tinyllama-flashcards", "llama3.2-1b-lora",
)  # fmt: skip
ROWS = 32


def make_base(folder: Path, shape: str) -> None:
    """A random model of this shape in bfloat16 with the embedded tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from medtune.embedded import BASE_FOLDER
    from medtune.model.shape import known_shapes

    sizes = known_shapes()[shape]
    config = AutoConfig.for_model(
        sizes.pop("model_type"), **sizes, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE_FOLDER).save_pretrained(folder)


def write_rows(path: Path) -> None:
    """Questions that are longer than any recipe allows, each with another answer."""
    from medtune.embedded.consultations import consultations

    told = [row.question for row in consultations("train", 36 * ROWS)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        for i in range(ROWS):
            writer.writerow([" ".join(told[i * 36 : i * 36 + 36]), f"This is answer {told[i]}"])


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Train a recipe on rows of its full length and hold its peak against the plan's."""
    from medtune.recipe import load_recipe
    from medtune.training.plan import card_of, plan

    shape = load_recipe(name).model.base
    base = folder / "base"
    if shape != "embedded":
        _python("-c", f"import memory; memory.make_base(memory.Path({str(base)!r}), {shape!r})")
    write_rows(folder / "rows.csv")
    overrides = [
        f"name={name}",
        f"model.base={base if base.exists() else 'embedded'}",
        f"data.source={folder / 'rows.csv'}",
        "data.columns={question: question, answer: answer}",
        "data.limit=null",
        "data.overlong=shorten_question",
        "data.near_duplicates=null",
        "data.clean=false",
        "data.redact=false",
        "data.max_words=100000",
        "data.filters_off=[repetition, too long]",
        "data.validation=0.25",
        "data.test=0.1",
        "training.max_steps=2",
        "training.warmup_steps=0",
        "training.evaluate_every=2",
        "training.samples=0",
    ]
    recipe = load_recipe(name, overrides)
    predicted = plan(recipe, card_of("cpu")).memory
    for command in ("prepare", "train"):
        _python("-m", "medtune", command, name, *overrides, "--runs", str(folder))
    trained = json.loads((folder / name / "training.json").read_text(encoding="utf-8"))
    longest = json.loads((folder / name / "data" / "card.json").read_text(encoding="utf-8"))
    peak = trained["peak_memory_bytes"]
    return {
        "recipe": name,
        "predicted_gib": round(predicted.total / 2**30, 3),
        "measured_gib": round(peak / 2**30, 3),
        "predicted_over_measured": round(predicted.total / peak, 3),
        "parts_mib": {
            part: round(size / 2**20)
            for part, size in vars(predicted).items()
        },
        "tokens": longest["tokens"],
        "rows": longest["rows"],
    }  # fmt: skip


def _python(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, cwd=Path(__file__).parent)


def main() -> None:
    parser = argparse.ArgumentParser(description="Predicted against measured peak memory.")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    from medtune.run import hardware

    found = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for name in arguments.recipes:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = {"hardware": hardware(), **measured(name, Path(folder))}
        print(json.dumps(found[name]), flush=True)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

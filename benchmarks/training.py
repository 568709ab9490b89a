"""Useful tokens per second of a CPU training: the notebook way, TRL's defaults, Medtune.

    python benchmarks/training.py                    # 135M Llama shape, about fifteen minutes
    python benchmarks/training.py --layers 2 --rows 48 --output /tmp/small.json

Every way trains the same rows in the same order with eight rows a step, in its own process, and
is then measured on the same validation rows.  Useful tokens are those of the rows, padding left
out.  Beside them stands the floor: the matrix products of one training alone, in bfloat16.
Random weights of the true shape; a measurement of speed and of equal learning, not of quality.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "training_cpu.json"
WAYS = ("notebook", "trl", "medtune")
ROWS_A_STEP = 8
LEARNING_RATE = 1e-3


def make_base(folder: Path, layers: int) -> None:
    """A random Llama of SmolLM2-135M's shape with the embedded tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from medtune.embedded import BASE_FOLDER

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE_FOLDER).save_pretrained(folder)


def recipe_for(base: Path, rows: int) -> Any:
    from medtune.recipe import load_recipe

    return load_recipe(
        "embedded-qlora",
        [
            "name=medtune",
            f"model.base={base}",
            "model.quantization=none",
            f"data.limit={rows + 64}",
            f"data.validation={32 / (rows + 64)}",
            f"data.test={32 / (rows + 64)}",
            "data.max_length=512",
            "adapter.targets=[q_proj, v_proj]",
            "training.optimizer=adamw_torch",
            "training.schedule=constant",
            "training.warmup_steps=0",
            "training.evaluate_every=100000",
            f"training.batch_size={ROWS_A_STEP}",
            f"training.learning_rate={LEARNING_RATE}",
        ],
    )


def prepared(base: Path, rows: int, folder: Path) -> tuple[Any, Any, list[Any], list[Any]]:
    """Recipe, run, and the rows as examples, the training rows in Medtune's order."""
    from medtune.data.prepare import prepare
    from medtune.data.rows import read_split
    from medtune.model.load import load_tokenizer
    from medtune.run import Run
    from medtune.training.examples import examples
    from medtune.training.order import GroupedByLength

    recipe = recipe_for(base, rows)
    run = Run(folder / recipe.name)
    tokenizer = load_tokenizer(recipe.model)
    prepare(recipe.data, run, tokenizer)
    run.keep(recipe)
    train, validation = (
        examples(tokenizer, read_split(run, split), 512) for split in ("train", "validation")
    )
    order = GroupedByLength([len(e.input_ids) for e in train], ROWS_A_STEP, recipe.training.seed)
    return recipe, run, [train[i] for i in order], validation


def by_notebook(recipe: Any, rows: list[Any]) -> tuple[Any, float]:
    """Pad to 512, one row at a time, eager attention, float32, loss from the full logits."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from medtune.model.adapter import lora_config

    torch.manual_seed(recipe.training.seed)
    base = AutoModelForCausalLM.from_pretrained(
        recipe.model.base, dtype=torch.float32, attn_implementation="eager"
    )
    model = get_peft_model(base, lora_config(recipe.adapter, base)).train()
    optimizer = torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad), LEARNING_RATE, weight_decay=0.0
    )
    started = time.perf_counter()
    for start in range(0, len(rows), ROWS_A_STEP):
        step = rows[start : start + ROWS_A_STEP]
        trained = sum(label != -100 for row in step for label in row.labels)
        for row in step:
            padding = 512 - len(row.input_ids)
            logits = model(
                input_ids=torch.tensor([row.input_ids + [0] * padding]),
                attention_mask=torch.tensor([[1] * len(row.input_ids) + [0] * padding]),
                use_cache=False,
            ).logits
            labels = torch.tensor(row.labels + [-100] * padding)
            loss = torch.nn.functional.cross_entropy(
                logits[0, :-1], labels[1:], ignore_index=-100, reduction="sum"
            )
            (loss / trained).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model, time.perf_counter() - started


def by_trl(recipe: Any, rows: list[Any], folder: Path) -> tuple[Any, float]:
    """TRL's trainer with its own defaults: float32, sdpa, padded to the longest row of a batch."""
    import torch
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import SFTConfig, SFTTrainer

    from medtune.model.adapter import lora_config
    from medtune.training.examples import to_dataset

    set_seed(recipe.training.seed)
    base = AutoModelForCausalLM.from_pretrained(recipe.model.base, dtype=torch.float32)

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    trainer = InOrder(
        model=base,
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=ROWS_A_STEP,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            num_train_epochs=1,
            max_length=None,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            seed=recipe.training.seed,
        ),
        train_dataset=to_dataset(rows),
        processing_class=AutoTokenizer.from_pretrained(recipe.model.base),
        peft_config=lora_config(recipe.adapter, base),
    )
    started = time.perf_counter()
    trainer.train()
    return trainer.model, time.perf_counter() - started


def one(way: str, base: Path, rows: int) -> dict[str, Any]:
    """Train one way; seconds, useful tokens per second, validation loss in nats per token."""
    import resource

    from medtune.evaluation.perplexity import answer_losses

    with tempfile.TemporaryDirectory() as scratch:
        recipe, run, train_rows, validation = prepared(base, rows, Path(scratch))
        useful = sum(len(row.input_ids) for row in train_rows)
        if way == "medtune":
            from medtune.model.load import load_tuned
            from medtune.training.train import train

            seconds = train(recipe, run).seconds
            # Medtune measures validation before and after, which the others do not.
            seconds -= _evaluation_seconds(run)
            model: Any = load_tuned(run)
        elif way == "trl":
            model, seconds = by_trl(recipe, train_rows, Path(scratch) / "trl")
        else:
            model, seconds = by_notebook(recipe, train_rows)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        losses = answer_losses(model.eval(), validation, batch_size=8)
    return {
        "way": way,
        "rows": len(train_rows),
        "useful_tokens": useful,
        "seconds": round(seconds, 2),
        "useful_tokens_per_second": round(useful / seconds, 1),
        "validation_loss": round(float(losses[:, 0].sum() / losses[:, 1].sum()), 4),
        "peak_memory_gib": round(peak / 2**20, 2),
    }


def _evaluation_seconds(run: Any) -> float:
    """What the validations of a training took, from the trainer's log."""
    lines = run.metrics_file.read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line).get("eval_seconds", 0.0) for line in lines)


def floor(base: Path, rows: int) -> float:
    """Useful tokens per second if a training were its matrix products in bfloat16 and nothing else.

    Of every frozen weight two products are needed, forward and for the gradient of its input; of
    the head only where an answer is.  The adapter's own products are left out.
    """
    import torch
    from transformers import AutoConfig

    with tempfile.TemporaryDirectory() as scratch:
        _, _, train_rows, _ = prepared(base, rows, Path(scratch))
    c = AutoConfig.from_pretrained(base)
    answers = sum(label != -100 for row in train_rows for label in row.labels)
    useful = sum(len(row.input_ids) for row in train_rows)
    wide, kv = c.hidden_size, c.num_key_value_heads * c.head_dim
    shapes = [
        (wide, wide, 2 * c.num_hidden_layers, useful),
        (wide, kv, 2 * c.num_hidden_layers, useful),
        (wide, c.intermediate_size, 3 * c.num_hidden_layers, useful),
        (wide, c.vocab_size, 1, answers),
    ]
    at_once, seconds = 1024, 0.0
    for width, height, count, tokens in shapes:
        x = torch.randn(at_once, width, dtype=torch.bfloat16)
        w = torch.randn(height, width, dtype=torch.bfloat16)
        y = x @ w.T
        best = float("inf")
        for _ in range(8):
            started = time.perf_counter()
            torch.matmul(x, w.T)
            torch.matmul(y, w)
            best = min(best, time.perf_counter() - started)
        seconds += best * count * tokens / at_once
    return useful / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Useful tokens per second of a CPU training.")
    parser.add_argument("--rows", type=int, default=192)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--way", choices=WAYS, help="measure this one in this process")
    parser.add_argument("--base", type=Path, help="with --way: the base to train")
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(one(arguments.way, arguments.base, arguments.rows)))
        return
    from medtune.run import hardware

    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        make_base(base, arguments.layers)
        measured = []
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way, "--base", str(base)]
            command += ["--rows", str(arguments.rows)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            measured.append(json.loads(done.stdout.splitlines()[-1]))
            print(measured[-1], flush=True)
        limit = floor(base, arguments.rows)
    speeds = {m["way"]: m["useful_tokens_per_second"] for m in measured}
    summary = {
        "hardware": hardware(),
        "shape": f"Llama, 576 wide, {arguments.layers} layers, vocabulary 49,152, LoRA on q and v",
        "ways": measured,
        "floor_useful_tokens_per_second": round(limit, 1),
        "medtune_over_notebook": round(speeds["medtune"] / speeds["notebook"], 2),
        "medtune_over_trl": round(speeds["medtune"] / speeds["trl"], 2),
        "medtune_share_of_floor": round(speeds["medtune"] / limit, 3),
    }
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()

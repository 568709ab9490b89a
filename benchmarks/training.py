"""Useful tokens per second of a training: the notebook way, TRL's defaults, Medtune.

    python benchmarks/training.py                          # all that this machine can run
    python benchmarks/training.py --case cpu-135m          # about seven minutes on one core
    python benchmarks/training.py --case cpu-135m --layers 2 --rows 32 --output small.json

Every way trains the same rows in its own process, TRL in the order that is its default.  The rows
are as long as genuine consultations are.  Useful tokens are those of the rows, padding left out.
Random weights of the true shapes: a measurement of speed, memory and equal learning,
not of quality.

On a CPU every way makes as many optimizer steps, of as many rows, from the same start, so that their
losses can be held against each other, and the floor stands beside them: the matrix products of those steps
alone, in bfloat16.  Time there is the processor's own, on one thread: what else runs on the machine
does not count.  On a GPU (three shapes of published systems, and Unsloth where it is
installed) Medtune packs, so its steps hold more rows, and only speed and memory are compared.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

RESULTS = Path(__file__).parent / "results" / "training.json"
VALIDATION_ROWS = 32


@dataclass(frozen=True)
class Case:
    """One row of the table: a shape, how it is trained, and what is wanted of it."""

    shape: str
    """A base of ``medtune.model.shapes.yaml``."""
    rows: int
    length: int
    """What the notebook way pads to, and ``data.max_length``."""
    overrides: tuple[str, ...]
    batch: int = 8
    """Rows of an optimizer step, for every way that does not pack."""
    gpu: bool = True
    at_least: dict[str, float] = field(default_factory=dict)
    """How many times as fast as each other way Medtune must be."""
    memory_gib: float | None = None
    """What the peak of Medtune's way may be."""

    @property
    def ways(self) -> tuple[str, ...]:
        if not self.gpu:
            return ("medtune", "trl", "trl-fp32", "notebook")
        unsloth = ("unsloth",) if find_spec("unsloth") else ()
        return ("medtune", "trl", *unsloth, "notebook")


_QLORA = ("model.quantization=nf4", "training.optimizer=paged_adamw_8bit",
          "training.gradient_checkpointing=true", "training.packing=true")  # fmt: skip
CASES = {
    "cpu-135m": Case(
        "HuggingFaceTB/SmolLM2-135M-Instruct", 24, 512,
        ("adapter.targets=[q_proj, v_proj]", "adapter.dropout=0"),
        gpu=False, at_least={"notebook": 4.5, "trl": 3, "trl-fp32": 3},
    ),
    "gpu-8b-qlora": Case(
        "meta-llama/Meta-Llama-3-8B-Instruct", 256, 2048,
        (*_QLORA, "training.batch_size=2"), batch=2,
        at_least={"notebook": 3}, memory_gib=7.4,
    ),
    "gpu-7b-qlora": Case(
        "mistralai/Mistral-7B-Instruct-v0.2", 256, 512,
        (*_QLORA, "training.batch_size=2"), batch=2, memory_gib=6,
    ),
    "gpu-tinyllama-lora": Case(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0", 768, 512,
        ("adapter.targets=[q_proj, k_proj, v_proj, o_proj]", "training.packing=true",
         "training.batch_size=4"),
        batch=3, at_least={"notebook": 3}, memory_gib=6.28e9 / 2**30,
    ),
}  # fmt: skip


class Clock:
    """Seconds on the wall and of the processor, between starts and stops."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    @contextmanager
    def running(self, sign: int = 1) -> Iterator[None]:
        """Count what happens inside; with -1, leave it out of what is counted around it."""
        began = time.perf_counter(), time.process_time()
        yield
        _wait_for_gpu()
        self.wall += sign * (time.perf_counter() - began[0])
        self.processor += sign * (time.process_time() - began[1])


def make_base(folder: Path, shape: str, layers: int | None) -> None:
    """A random model of this shape with the embedded tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from medtune.embedded import BASE_FOLDER
    from medtune.model.shape import known_shapes

    sizes = known_shapes()[shape]
    if layers:
        sizes["num_hidden_layers"] = layers
    config = AutoConfig.for_model(
        sizes.pop("model_type"), **sizes, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    torch.manual_seed(0)
    gpu = torch.cuda.is_available()
    with torch.device("cuda" if gpu else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if gpu else None)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE_FOLDER).save_pretrained(folder)


def write_rows(path: Path, count: int, longest: int) -> None:
    """Rows as long as genuine consultations, of the built-in dialogues' sentences.

    Of 324 rows of a public set of questions to doctors and their answers that the preparation keeps, a
    tenth had below 129 tokens, half above 231, a tenth above 431 (Qwen2.5's tokenizer; Llama 3's
    counts alike); that is a log-normal distribution with a deviation of 0.5.  The answer is a little
    more than half of it.
    """
    from medtune.embedded.consultations import consultations
    from medtune.model.load import load_tokenizer
    from medtune.recipe import ModelSection

    tokenizer, rng = load_tokenizer(ModelSection()), Random(0)
    pieces = consultations("train", 20 * count)

    def text(tokens: float, part: str) -> str:
        found = ""
        while len(tokenizer(found)["input_ids"]) < tokens:
            found += f" {getattr(next(pieces), part)}"
        words = found.split()
        while len(tokenizer(" ".join(words))["input_ids"]) > tokens:
            words = words[: int(0.97 * len(words))]
        return " ".join(words)

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        for _ in range(count):
            tokens = min(rng.lognormvariate(math.log(231), 0.5), longest - 40)
            writer.writerow([text(0.45 * tokens, "question"), text(0.55 * tokens, "answer")])


def prepared(case: Case, base: Path, folder: Path) -> tuple[Any, Any, list[Any], list[Any]]:
    """Recipe, run, and the rows as examples, the training rows in Medtune's order."""
    from medtune.data.prepare import prepare
    from medtune.data.rows import read_split
    from medtune.model.load import load_tokenizer
    from medtune.recipe import load_recipe
    from medtune.run import Run
    from medtune.training.examples import examples
    from medtune.training.order import GroupedByLength

    all_rows = case.rows + 2 * VALIDATION_ROWS
    source = base.parent / "rows.csv"
    if not source.exists():
        write_rows(source, all_rows, case.length)
    recipe = load_recipe(
        "embedded-qlora",
        [
            "name=medtune",
            f"model.base={base}",
            "model.quantization=none",
            f"data.source={source}",
            "data.limit=null",
            "data.clean=false",
            "data.redact=false",
            "data.near_duplicates=null",
            "data.filters_off=[repetition, too long]",
            "data.max_words=100000",
            f"data.validation={VALIDATION_ROWS / all_rows}",
            f"data.test={VALIDATION_ROWS / all_rows}",
            f"data.max_length={case.length}",
            "training.optimizer=adamw_torch",
            "training.schedule=constant",
            "training.warmup_steps=0",
            "training.learning_rate=1e-3",
            "training.evaluate_every=100000",
            "training.samples=0",
            f"training.batch_size={case.batch}",
            *case.overrides,
        ],
    )
    run = Run(folder / recipe.name)
    tokenizer = load_tokenizer(recipe.model)
    prepare(recipe.data, run, tokenizer)
    run.keep(recipe)
    train, validation = (
        examples(tokenizer, read_split(run, split), case.length)
        for split in ("train", "validation")
    )
    order = GroupedByLength([len(e.input_ids) for e in train], case.batch, recipe.training.seed)
    return recipe, run, [train[i] for i in order], validation


def by_notebook(case: Case, recipe: Any, rows: list[Any], clock: Clock) -> Any:
    """Pad to the full length, one row at a time, eager attention, loss from the full logits.

    In float32 on a CPU; on a GPU as the published notebooks do it, the base in 16 bits or quantised
    and then handed to ``prepare_model_for_kbit_training``.
    """
    import torch
    from peft import get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from medtune.model.adapter import lora_config

    torch.manual_seed(recipe.training.seed)
    device = "cuda" if case.gpu else "cpu"
    how: dict[str, Any] = {"dtype": torch.bfloat16 if case.gpu else torch.float32}
    if recipe.model.quantization == "nf4":
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )  # fmt: skip
    base = AutoModelForCausalLM.from_pretrained(
        recipe.model.base, attn_implementation="eager", device_map={"": device}, **how
    )
    if recipe.model.quantization == "nf4":
        base = prepare_model_for_kbit_training(base)
    model = get_peft_model(base, lora_config(recipe.adapter, base)).train()
    optimizer = torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad),
        recipe.training.learning_rate,
        weight_decay=0.0,
    )
    with clock.running():
        for start in range(0, len(rows), case.batch):
            step = rows[start : start + case.batch]
            trained = sum(label != -100 for row in step for label in row.labels)
            for row in step:
                padding = case.length - len(row.input_ids)
                ids = torch.tensor([row.input_ids + [0] * padding], device=device)
                mask = torch.tensor([[1] * len(row.input_ids) + [0] * padding], device=device)
                labels = torch.tensor(row.labels + [-100] * padding, device=device)
                with torch.autocast(device, torch.bfloat16, enabled=case.gpu):
                    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(
                    logits[0, :-1].float(), labels[1:], ignore_index=-100, reduction="sum"
                )
                (loss / trained).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return model


def by_trl(
    case: Case, recipe: Any, rows: list[Any], folder: Path, clock: Clock, **settings: Any
) -> Any:
    """TRL's trainer as it comes: rows in random order, padded to the longest of their batch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
    from trl import SFTConfig, SFTTrainer

    from medtune.model.adapter import lora_config
    from medtune.training.examples import to_dataset

    set_seed(recipe.training.seed)
    how: dict[str, Any] = {"dtype": torch.bfloat16 if case.gpu else torch.float32}
    if recipe.model.quantization == "nf4":
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    base = AutoModelForCausalLM.from_pretrained(
        recipe.model.base, device_map={"": "cuda" if case.gpu else "cpu"}, **how
    )

    trainer = SFTTrainer(
        model=base,
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=case.batch,
            learning_rate=recipe.training.learning_rate,
            lr_scheduler_type="constant",
            num_train_epochs=1,
            max_length=case.length,
            use_cpu=not case.gpu,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            seed=recipe.training.seed,
            **settings,
        ),
        train_dataset=to_dataset(rows),
        processing_class=AutoTokenizer.from_pretrained(recipe.model.base),
        peft_config=lora_config(recipe.adapter, base),
    )
    with clock.running():
        trainer.train()
    return trainer.model


def by_unsloth(case: Case, recipe: Any, rows: list[Any], folder: Path, clock: Clock) -> Any:
    """Unsloth's patched model in TRL's trainer, with its own packing, as its notebooks use it."""
    from unsloth import FastLanguageModel  # type: ignore[import-not-found]  # before TRL

    from medtune.training.examples import to_dataset

    model, tokenizer = FastLanguageModel.from_pretrained(
        recipe.model.base,
        max_seq_length=case.length,
        load_in_4bit=recipe.model.quantization == "nf4",
    )
    targets = recipe.adapter.targets
    model = FastLanguageModel.get_peft_model(
        model,
        r=recipe.adapter.rank,
        lora_alpha=recipe.adapter.alpha,
        lora_dropout=recipe.adapter.dropout,
        use_gradient_checkpointing="unsloth",
        **({} if targets == "all-linear" else {"target_modules": targets}),
    )
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=recipe.training.batch_size,
            learning_rate=recipe.training.learning_rate,
            lr_scheduler_type="constant",
            num_train_epochs=1,
            max_length=case.length,
            packing=recipe.training.packing,
            optim=recipe.training.optimizer,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            seed=recipe.training.seed,
        ),
        train_dataset=to_dataset(rows),
        processing_class=tokenizer,
    )
    with clock.running():
        trainer.train()
    return trainer.model


def by_medtune(recipe: Any, run: Any, clock: Clock) -> Any:
    """``medtune train``, less what it does before the first step: the trial of the longest batch and
    the validation, which the others do not do."""
    from medtune.model.load import load_tuned
    from medtune.training.order import OrderedTrainer
    from medtune.training.train import train

    whole, validation = OrderedTrainer.train, OrderedTrainer.evaluate

    def timed_train(self: Any, *args: Any, **kwargs: Any) -> Any:
        with clock.running():
            return whole(self, *args, **kwargs)

    def timed_evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        with clock.running(-1):
            return validation(self, *args, **kwargs)

    OrderedTrainer.train, OrderedTrainer.evaluate = timed_train, timed_evaluate  # type: ignore[method-assign]
    print(
        f"validation loss before: {train(recipe, run).validation_loss_before:.4f}", file=sys.stderr
    )
    return load_tuned(run)


def _wait_for_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def one(way: str, case: Case, base: Path) -> dict[str, Any]:
    """Train one way: speed, peak memory, and on a CPU the loss it came to, in nats per token."""
    import resource

    import torch

    from medtune.evaluation.perplexity import answer_losses

    with tempfile.TemporaryDirectory() as scratch:
        recipe, run, rows, validation = prepared(case, base, Path(scratch))
        folder = Path(scratch) / way
        if case.gpu:
            torch.cuda.reset_peak_memory_stats()
        clock = Clock()
        match way:
            case "notebook":
                model = by_notebook(case, recipe, rows, clock)
            case "trl":
                model = by_trl(case, recipe, rows, folder, clock)
            case "trl-fp32":
                plain = {"bf16": False, "gradient_checkpointing": False}
                model = by_trl(case, recipe, rows, folder, clock, **plain)
            case "unsloth":
                model = by_unsloth(case, recipe, rows, folder, clock)
            case _:
                model = by_medtune(recipe, run, clock)
        if case.gpu:
            peak, losses = torch.cuda.max_memory_allocated(), None
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            losses = answer_losses(model.eval(), validation, batch_size=8)
    useful = sum(len(row.input_ids) for row in rows)
    seconds = clock.wall if case.gpu else clock.processor
    return {
        "way": way,
        "rows": len(rows),
        "useful_tokens": useful,
        "seconds": round(seconds, 2),
        "seconds_on_the_wall": round(clock.wall, 2),
        "useful_tokens_per_second": round(useful / seconds, 1),
        "peak_memory_gib": round(peak / 2**30, 2),
        **({} if losses is None else {"validation_loss": _mean(losses)}),
    }


def _mean(losses: Any) -> float:
    return round(float(losses[:, 0].sum() / losses[:, 1].sum()), 4)


def floor(case: Case, base: Path) -> float:
    """Useful tokens per second if a training were its matrix products in bfloat16 and nothing else.

    Of every frozen weight two products are needed, forward and for the gradient of its input; of
    the head only where an answer is.  Each layer has its own weights, as in the model, and a product
    is as tall as a step has tokens.  Attention's and the adapter's own products are left out.
    """
    from transformers import AutoConfig

    with tempfile.TemporaryDirectory() as scratch:
        _, _, rows, _ = prepared(case, base, Path(scratch))
    c = AutoConfig.from_pretrained(base)
    kv = c.num_key_value_heads * c.hidden_size // c.num_attention_heads
    layer = [(c.hidden_size, c.hidden_size)] * 2 + [(kv, c.hidden_size)] * 2
    layer += [(c.intermediate_size, c.hidden_size)] * 2 + [(c.hidden_size, c.intermediate_size)]
    layers = [[_weight(shape) for shape in layer] for _ in range(c.num_hidden_layers)]
    head = _weight((c.vocab_size, c.hidden_size))
    clock = Clock()
    for number, start in enumerate([0, *range(0, len(rows), case.batch)]):
        step = rows[start : start + case.batch]
        tokens = sum(len(row.input_ids) for row in step)
        trained = sum(label != -100 for row in step for label in row.labels)
        with clock.running(1 if number else 0):  # the first one compiles and touches the memory
            for weights in layers:
                for weight in weights:
                    _both_products(weight, tokens)
            for first in range(0, trained, 512):  # its logits together are larger than the model
                _both_products(head, min(512, trained - first))
    return round(sum(len(row.input_ids) for row in rows) / clock.processor, 1)


def _weight(shape: tuple[int, int]) -> Any:
    import torch

    return torch.randn(shape, dtype=torch.bfloat16)


def _both_products(weight: Any, tokens: int) -> None:
    """Forward, and the gradient of the input."""
    import torch

    x = torch.ones(tokens, weight.shape[1], dtype=torch.bfloat16)
    torch.matmul(torch.matmul(x, weight.T), weight)


def measure(
    name: str, case: Case, layers: int | None, ways: tuple[str, ...], keep: Path
) -> dict[str, Any]:
    """Every way of a case, each in its own process, and how Medtune stands beside the others.

    What is measured is written to ``keep`` at once; a run that was interrupted goes on from there.
    """
    from medtune.run import hardware

    results = json.loads(keep.read_text(encoding="utf-8")) if keep.exists() else {}
    settings = {
        "hardware": hardware(),
        "time": "on the wall" if case.gpu else "of the processor, one thread",
        "shape": case.shape,
        "layers": layers or "all",
        "rows": case.rows,
        "length": case.length,
        "overrides": list(case.overrides),
    }
    earlier = results.get(name, {})
    goes_on = not earlier.get("complete", True) and all(
        earlier.get(key) == value for key, value in settings.items()
    )
    found = earlier if goes_on else {**settings, "complete": False, "ways": []}

    def write() -> None:
        results[name] = found
        keep.parent.mkdir(parents=True, exist_ok=True)
        keep.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        _alone("make_base", name, base, layers, case.rows)
        if not case.gpu and "floor_useful_tokens_per_second" not in found:
            found["floor_useful_tokens_per_second"] = _alone("floor", name, base, layers, case.rows)
            write()
        for way in ways:
            if way not in [m["way"] for m in found["ways"]]:
                found["ways"].append(_alone(way, name, base, layers, case.rows))
                print(json.dumps(found["ways"][-1]), file=sys.stderr, flush=True)
                write()
    found["complete"] = True
    ours = next((m for m in found["ways"] if m["way"] == "medtune"), None)
    if ours is not None:
        speed = ours["useful_tokens_per_second"]
        found["medtune_over"] = {
            m["way"]: round(speed / m["useful_tokens_per_second"], 2)
            for m in found["ways"]
            if m["way"] != "medtune"
        }
        if not case.gpu:
            share = speed / found["floor_useful_tokens_per_second"]
            found["medtune_share_of_floor"] = round(share, 3)
        found["missed"] = missed(case, found, ours)
    write()
    return found


def missed(case: Case, found: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """The targets that were not reached, each as a sentence."""
    over = found["medtune_over"]
    sentences = [
        f"{over[way]} times {way}, wanted {wanted}"
        for way, wanted in case.at_least.items()
        if way in over and over[way] < wanted
    ]
    if case.memory_gib and ours["peak_memory_gib"] > case.memory_gib:
        sentences.append(f"{ours['peak_memory_gib']} GiB, wanted {case.memory_gib:.2f}")
    if found.get("medtune_share_of_floor", 1) < 0.6:
        sentences.append(f"{found['medtune_share_of_floor']} of the floor, wanted 0.6")
    return sentences


def _alone(what: str, name: str, base: Path, layers: int | None, rows: int) -> Any:
    """The answer of this script about one thing, in a process of its own."""
    command = [sys.executable, __file__, "--only", what, "--case", name, "--base", str(base)]
    command += ["--rows", str(rows), *(["--layers", str(layers)] if layers else [])]
    environment = dict(os.environ)
    if not CASES[name].gpu:
        environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def _part(arguments: argparse.Namespace, case: Case) -> Any:
    match arguments.only:
        case "make_base":
            return make_base(arguments.base, case.shape, arguments.layers)
        case "floor":
            return floor(case, arguments.base)
        case way:
            return one(way, case, arguments.base)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description="Useful tokens per second of a training.")
    parser.add_argument("--case", choices=CASES, help="all that this machine can run if left out")
    parser.add_argument("--ways", nargs="+", help="these alone, for example medtune")
    parser.add_argument("--rows", type=int, help="rows to train on")
    parser.add_argument("--layers", type=int, help="a shallower model, to try the script")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # takes the process of a way along
    gpu = torch.cuda.is_available()
    names = [arguments.case] if arguments.case else [n for n, c in CASES.items() if c.gpu == gpu]
    for name in names:
        case = CASES[name]
        if arguments.rows:
            case = replace(case, rows=arguments.rows)
        if arguments.only:
            print(json.dumps(_part(arguments, case)))
            return
        ways = tuple(arguments.ways or case.ways)
        print(json.dumps(measure(name, case, arguments.layers, ways, arguments.output), indent=2))


if __name__ == "__main__":
    main()

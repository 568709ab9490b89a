"""Pre-train the embedded base from nothing: tokenizer, model, model card.

    python scripts/pretrain_embedded.py --work pretraining            # from nothing, resumable
    python scripts/pretrain_embedded.py --work pretraining --tokens 2000000 --output /tmp/small

A Llama of 9.6 million parameters learns to continue generated prose about the conditions
(``medtune.embedded.prose``).  It never sees a dialogue.  Every batch is made from its step
number, so stopping (Ctrl-C) and starting again gives the run that was never stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from random import Random
from typing import Any

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from medtune.embedded import BASE_FOLDER
from medtune.embedded.knowledge import load_knowledge
from medtune.embedded.prose import Prose

VOCABULARY = 6144
WINDOW = 256  # tokens a training row
ROWS = 32  # rows a step
PEAK_LEARNING_RATE = 2e-3
WARMUP_STEPS = 100
HELD_OUT_SEED = 10**9

# The split of Llama 3's tokenizer, so that llama.cpp reads ours as it reads that one.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\n' + message['content'] + eos_token }}"
    "{% else %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def train_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 6,144 tokens, learned from 60,000 paragraphs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    paragraphs = Prose(seed=HELD_OUT_SEED + 1).paragraphs()
    tokenizer.train_from_iterator((next(paragraphs) for _ in range(60_000)), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    return fast


def new_model() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=320,
            intermediate_size=896,
            num_hidden_layers=6,
            num_attention_heads=5,
            num_key_value_heads=5,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )


def batch(tokenizer: PreTrainedTokenizerFast, step: int) -> torch.Tensor:
    """The rows of one step, (ROWS, WINDOW + 1): paragraphs end to end, each ``<s> ... </s>``."""
    needed = ROWS * (WINDOW + 1)
    ids: list[int] = []
    paragraphs = Prose(seed=step).paragraphs()
    while len(ids) < needed:
        texts = [next(paragraphs) for _ in range(64)]
        for encoded in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            ids += [tokenizer.bos_token_id, *encoded, tokenizer.eos_token_id]
    return torch.tensor(ids[:needed]).view(ROWS, WINDOW + 1)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero, as a share of the peak."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)))


class _HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of a linear head, 512 rows at a time.

    The gradient is computed in the forward pass, so the logits of a whole batch
    (8,192 x 6,144 floats) never exist and nothing is recomputed.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets):  # type: ignore[override]
        rows = targets.numel()
        grad_hidden, grad_weight = torch.empty_like(hidden), weight.new_zeros(weight.shape).float()
        total = hidden.new_zeros((), dtype=torch.float32)
        for part in torch.arange(rows).split(512):
            start, stop = int(part[0]), int(part[-1]) + 1
            log_p = functional.log_softmax((hidden[start:stop] @ weight.T).float(), dim=-1)
            wanted = targets[start:stop, None]
            total -= log_p.gather(1, wanted).sum()
            grad = log_p.exp_().scatter_add_(1, wanted, log_p.new_full(wanted.shape, -1.0))
            grad = (grad / rows).to(hidden.dtype)
            grad_hidden[start:stop] = grad @ weight
            grad_weight += grad.T @ hidden[start:stop]
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        return total / rows

    @staticmethod
    def backward(ctx, upstream):  # type: ignore[override]
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * upstream, grad_weight * upstream, None


def optimizers(masters: dict[str, torch.Tensor]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embedding and norms."""
    inside = [p for n, p in masters.items() if p.ndim == 2 and "embed" not in n]
    outside = [p for n, p in masters.items() if not (p.ndim == 2 and "embed" not in n)]
    return [
        torch.optim.Muon(
            inside, lr=PEAK_LEARNING_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(outside, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


@torch.inference_mode()
def cases_named(model: Any, tokenizer: PreTrainedTokenizerFast, count: int) -> float:
    """The share of held-out cases whose condition the model names after the findings."""
    model.eval()
    knowledge, rng, right = load_knowledge(), Random(HELD_OUT_SEED), 0
    prose = Prose(seed=HELD_OUT_SEED)
    conditions = [rng.choice(list(knowledge.conditions.values())) for _ in range(count)]
    prompts = [prose.cloze(c) for c in conditions]
    inputs = tokenizer(
        [f"<s>{p}" for p in prompts], return_tensors="pt", padding=True, add_special_tokens=False
    ).to(model.device)
    inputs.pop("token_type_ids", None)
    output = model.generate(**inputs, max_new_tokens=14, do_sample=False)
    texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :])
    for condition, text in zip(conditions, texts, strict=True):
        said = text.strip().lower()
        right += any(said.startswith(n.lower()) for n in condition.names)
    model.train()
    return right / count


def main() -> None:
    parser = argparse.ArgumentParser(description="Pre-train the embedded base from nothing.")
    parser.add_argument("--work", type=Path, default=Path("pretraining"), help="checkpoints")
    parser.add_argument("--output", type=Path, default=BASE_FOLDER, help="the finished base")
    parser.add_argument("--tokens", type=float, default=9.5e6, help="tokens to train on")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile: needs a C++ compiler"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = arguments.work / "tokenizer"
    tokenizer = (
        PreTrainedTokenizerFast.from_pretrained(folder)
        if folder.exists()
        else train_tokenizer(folder)
    )
    model = new_model().to(device)
    masters = {n: p.detach().clone() for n, p in model.named_parameters()}  # float32
    model.to(torch.bfloat16)
    parameters = dict(model.named_parameters())
    trainers_ = optimizers(masters)
    steps, first = int(arguments.tokens / (ROWS * WINDOW)), 0
    checkpoint = arguments.work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        first = state["step"]
        for name, master in masters.items():
            master.copy_(state["masters"][name])
            parameters[name].data.copy_(master)
        for trainer, saved in zip(trainers_, state["optimizers"], strict=True):
            trainer.load_state_dict(saved)

    def save(step: int) -> None:
        state = {
            "step": step,
            "masters": masters,
            "optimizers": [t.state_dict() for t in trainers_],
        }
        part = checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(checkpoint)

    body = torch.compile(model.model) if arguments.compile else model.model
    log = (arguments.work / "log.jsonl").open("a", buffering=1)
    progress = Progress(
        TextColumn("pre-training, loss {task.fields[loss]:.3f}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    step = first
    try:
        with progress:
            task = progress.add_task("", total=steps, completed=first, loss=math.nan)
            for step in range(first, steps):
                started = time.perf_counter()
                rows = batch(tokenizer, step).to(device)
                hidden = body(input_ids=rows[:, :-1], use_cache=False).last_hidden_state
                loss = _HeadLoss.apply(
                    hidden.flatten(0, 1), model.lm_head.weight, rows[:, 1:].reshape(-1)
                )
                loss.backward()
                for name, master in masters.items():
                    master.grad = parameters[name].grad.float()
                    parameters[name].grad = None
                torch.nn.utils.clip_grad_norm_(masters.values(), 1.0)
                for trainer in trainers_:
                    trainer.param_groups[0]["lr"] = PEAK_LEARNING_RATE * learning_rate(step, steps)
                    trainer.step()
                with torch.no_grad():
                    for name, master in masters.items():
                        parameters[name].copy_(master)
                progress.update(task, advance=1, loss=loss.item())
                entry = {
                    "step": step,
                    "loss": loss.item(),
                    "seconds": time.perf_counter() - started,
                }
                if step % 250 == 249:
                    entry["cases_named"] = cases_named(model, tokenizer, 200)
                    save(step + 1)
                log.write(json.dumps(entry) + "\n")
    except KeyboardInterrupt:
        raise SystemExit(
            f"Stopped; the same command goes on from step {step // 250 * 250}."
        ) from None

    named = cases_named(model, tokenizer, 400)
    print(f"Findings to condition, 400 held-out cases in prose: {named:.1%}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    model.generation_config.max_length = None
    model.save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()

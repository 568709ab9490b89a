"""Greedy answers for many questions, in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medtune.model.template import end_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Generated:
    text: str
    ended: bool
    """Whether the model ended the answer itself, rather than the length limit."""
    tokens: int


def generate_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Generated]:
    """One greedy answer per prompt, in the order of the prompts.

    Args:
        model: a causal language model on its device.
        tokenizer: of the model; its padding token fills batches on the left, masked.
        prompts: token ids, beginning-of-text included.
        max_new_tokens: an answer that reaches this is cut and counts as not ended.
        batch_size: prompts at a time.
        advance: told how many answers were just finished.
    """
    import torch

    ends, pad = sorted(end_tokens(tokenizer)), int(tokenizer.pad_token_id)  # type: ignore[arg-type]
    answers: dict[int, Generated] = {}
    # Longest first: a batch that does not fit fails at the start, not after an hour.
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        width = max(len(prompts[i]) for i in part)
        ids = torch.full((len(part), width), pad)
        mask = torch.zeros_like(ids)
        for line, i in enumerate(part):
            ids[line, width - len(prompts[i]) :] = torch.tensor(prompts[i])
            mask[line, width - len(prompts[i]) :] = 1
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=pad,
            )
        for line, i in enumerate(part):
            new = output[line, width:].tolist()
            stop = next((n for n, token in enumerate(new) if token in ends), None)
            kept = new if stop is None else new[:stop]
            text = str(tokenizer.decode(kept, skip_special_tokens=True)).strip()
            answers[i] = Generated(text, stop is not None, len(kept))
        advance(len(part))
    return [answers[i] for i in range(len(prompts))]

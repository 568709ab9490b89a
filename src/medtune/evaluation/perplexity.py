"""Perplexity over the tokens of the answers, and bits per byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medtune.evaluation.statistics import Measured
from medtune.training.examples import NOT_TRAINED, Example

if TYPE_CHECKING:
    from numpy.typing import NDArray


def answer_losses(
    model: Any,
    items: Sequence[Example],
    *,
    batch_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float64]:
    """Summed negative log-likelihood in nats and number of tokens of every answer, (rows, 2).

    The end-of-turn token counts, the prompt and padding do not.
    """
    import torch
    from torch.nn import functional

    sums = np.zeros((len(items), 2))
    order = sorted(range(len(items)), key=lambda i: -len(items[i].input_ids))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        width = len(items[part[0]].input_ids)
        ids = torch.zeros((len(part), width), dtype=torch.long)
        labels = torch.full_like(ids, NOT_TRAINED)
        for line, i in enumerate(part):
            length = len(items[i].input_ids)
            # Padding on the right is never seen by a causal model, so no mask is needed.
            ids[line, :length] = torch.tensor(items[i].input_ids)
            labels[line, :length] = torch.tensor(items[i].labels)
        with torch.inference_mode():
            logits = model(input_ids=ids.to(model.device), use_cache=False).logits
            for line, i in enumerate(part):
                targets = labels[line, 1:]
                where = (targets != NOT_TRAINED).nonzero().flatten()
                wanted = targets[where].to(model.device)
                losses = functional.cross_entropy(
                    logits[line, where].float(), wanted, reduction="none"
                )
                sums[i] = float(losses.double().sum()), len(where)
        advance(len(part))
    return sums


def perplexity(losses: NDArray[np.float64]) -> Measured:
    """exp(sum of NLL / sum of tokens) over the whole split (metrics definition 1)."""
    return Measured(losses, lambda sums: np.exp(sums[:, 0] / sums[:, 1]))


def bits_per_byte(losses: NDArray[np.float64], answers: Sequence[str]) -> Measured:
    """Sum of NLL in bits / UTF-8 bytes of the answers: comparable across tokenizers."""
    sizes = np.array([len(a.encode("utf-8")) for a in answers], dtype=float)
    rows = np.column_stack([losses[:, 0] / np.log(2), sizes])
    return Measured(rows, lambda sums: sums[:, 0] / sums[:, 1])

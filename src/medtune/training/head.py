"""The output head, computed only where an answer is, without all its logits in memory.

The logits of a batch, tokens x vocabulary in float32, are often larger than the model.  Only
the answer's tokens have a loss, and their gradient is known as soon as their logits are: it is
computed in the forward pass, a few hundred tokens at a time, so nothing is kept but the
gradient of the hidden states and nothing is computed twice.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

_AT_ONCE = 2**23
"""Logits in memory at once: 32 MiB of float32."""
_CHANGED_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)
"""Settings of models that do more to their logits than one product; TRL's own way knows them."""


class _LogProbs(torch.autograd.Function):
    """Log-probability of each target under a linear head whose weight is not trained.

    The gradient of log p(target) by the hidden state h is W[target] - softmax(W h) W.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: FunctionCtx, hidden: Tensor, weight: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            hidden: (tokens, width).
            weight: (vocabulary, width).
            targets: (tokens,), token ids.

        Returns:
            Log-probability, entropy and whether the target is the most likely token, each
            (tokens,); only the first has a gradient.
        """
        log_probs, entropy, is_top = [], [], []
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]
        at_once = max(1, _AT_ONCE // weight.shape[0])
        for start in range(0, len(hidden), at_once):
            part = slice(start, start + at_once)
            logits = (hidden[part] @ weight.T).float()
            p = torch.softmax(logits, dim=-1)
            highest, top = logits.max(dim=-1)
            # log Σ exp(logits), from the likeliest token, whose probability never underflows.
            total = highest - p.gather(1, top[:, None]).squeeze(1).log()
            log_probs.append(logits.gather(1, targets[part, None]).squeeze(1) - total)
            entropy.append(total - torch.linalg.vecdot(p, logits))
            is_top.append(top == targets[part])
            if slopes is not None:
                slopes[part] = weight[targets[part]] - p.to(weight.dtype) @ weight
        if slopes is not None:
            ctx.save_for_backward(slopes)
        if not log_probs:  # other processes may have tokens, and gather the same types
            none = hidden.new_zeros(0, dtype=torch.float32)
            log_probs, entropy, is_top = [none], [none.clone()], [none.bool()]
        results = tuple(torch.cat(x) for x in (log_probs, entropy, is_top))
        ctx.mark_non_differentiable(*results[1:])  # type: ignore[attr-defined]
        return results  # type: ignore[return-value]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (slopes,) = ctx.saved_tensors
        return slopes * upstream[:, None].to(slopes.dtype), None, None


def score_answers_only(model: PreTrainedModel) -> bool:
    """Let the forward that TRL's trainer asks for (``fused_lm_head=True``) use the head above.

    TRL gives the model such a forward itself; on a CPU it scores the prompt as well and computes
    every product with the head three times instead of twice.  On a GPU TRL's own is kept.

    Args:
        model: the base inside the adapter, after TRL's trainer was made.

    Returns:
        Whether the model got it.  It does not where the head is trained, or where the model does
        more to its logits than one product.
    """
    head: Any = model.get_output_embeddings()
    config = model.config.get_text_config()
    unusual = any(getattr(config, name, None) not in (None, 1, 1.0) for name in _CHANGED_LOGITS)
    trained = any(parameter.requires_grad for parameter in head.parameters())
    if unusual or trained or head.weight.device.type != "cpu" or head.bias is not None:
        return False
    if getattr(config, "output_router_logits", False):
        return False
    trl_forward = model.forward

    def forward(
        self: PreTrainedModel,
        *args: Any,
        fused_lm_head: bool = False,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if not fused_lm_head or labels is None:
            more = {} if labels is None else {"labels": labels}
            return trl_forward(*args, **more, **kwargs)
        kwargs.pop("num_items_in_batch", None)
        kwargs["use_cache"] = False
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        scored = targets != -100
        per_token = _LogProbs.apply(hidden[scored], head.weight, targets[scored])
        log_probs, entropy, is_top = (
            part.new_zeros(scored.shape).masked_scatter(scored, part)
            for part in per_token  # type: ignore[union-attr]
        )
        return FusedCausalLMOutput(
            log_probs=log_probs,  # type: ignore[arg-type]
            entropy=entropy,  # type: ignore[arg-type]
            is_top1=is_top,  # type: ignore[arg-type]
            label_mask=scored,  # type: ignore[arg-type]
        )

    model.forward = types.MethodType(forward, model)  # type: ignore[method-assign]
    return True

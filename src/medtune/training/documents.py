"""Attention over several documents that lie end to end in one row, without a mask.

TRL's padding-free batches are one row; ``cu_seq_lens`` says where each document starts.  A
kernel that knows such rows exists for recent GPUs (FlashAttention).  Elsewhere transformers
builds a mask of all tokens against all tokens, and most of the work is thrown away.  The
function here attends document by document instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "documents"
"""Under this name the function is known to transformers' ``set_attn_implementation``."""

_PLAIN_UP_TO = 1024
"""Tokens a document up to which plain products are faster on a CPU than torch's own kernel,
and their scores, tokens x tokens a head, are still small."""
_BLOCK = 128
"""Queries at a time."""
_MULTIPLE = 32
"""Documents are padded to a multiple of this: oneDNN keeps a compiled product, and memory for it,
for every shape that it meets."""


def documents_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Causal attention in which no token sees another document.

    Args:
        module: the attention layer, as transformers hands it over.
        query: (1, heads, tokens, width).
        key: (1, key-value heads, tokens, width), and so is ``value``.
        attention_mask: not needed here; None.
        scaling: of the scores; one over the root of the width if None.
        dropout: share of the attention weights that is dropped in training.
        cu_seq_lens_q: (documents + 1,), where each document starts, and the end.

    Returns:
        (1, tokens, heads, width), and None for the weights, which are not kept.
    """
    if cu_seq_lens_q is None:
        raise ValueError("documents_attention needs cu_seq_lens_q: a padding-free batch of TRL")
    dropout = dropout if module.training else 0.0
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attended = []
    for documents, length in _batches(cu_seq_lens_q.tolist()):
        q, k, v = (_stacked(x[0], documents, length) for x in (query, key, value))
        if query.device.type == "cpu" and length <= _PLAIN_UP_TO:
            part = _plain_attention(q, k, v, scale, dropout)
        else:
            part = functional.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=True
            )
        # Padding stands behind a document, where causal attention never looks; here it goes.
        attended += [
            one[:, : stop - start].transpose(0, 1)
            for one, (start, stop) in zip(part, documents, strict=True)
        ]
    return torch.cat(attended)[None], None


def use_documents_attention(model: nn.Module) -> None:
    """Let a model of transformers attend this way; it then takes padding-free batches only."""
    AttentionInterface.register(NAME, documents_attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    model.set_attn_implementation(NAME)  # type: ignore[operator]


def _no_mask(*args: object, **kwargs: object) -> None:
    """The mask that the attention above needs: none."""


def _batches(starts: list[int]) -> Iterator[tuple[list[tuple[int, int]], int]]:
    """Neighbouring documents that are one batch, as (start, stop), and the length they get."""
    for length, documents in groupby(pairwise(starts), key=_rounded_length):
        yield list(documents), length


def _rounded_length(document: tuple[int, int]) -> int:
    start, stop = document
    return -(-(stop - start) // _MULTIPLE) * _MULTIPLE


def _stacked(x: Tensor, documents: list[tuple[int, int]], length: int) -> Tensor:
    """(documents, heads, length, width) from (heads, tokens, width), zeros behind each document."""
    return torch.stack(
        [
            functional.pad(x[:, start:stop], (0, 0, 0, length - (stop - start)))
            for start, stop in documents
        ]
    )


def _plain_attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, dropout: float
) -> Tensor:
    """Causal attention as two products and a softmax; all (documents, heads, tokens, width).

    Under autocast torch takes the softmax in float32 and keeps it beside its 16-bit copy: three
    times the memory of the weights, and nothing gained, for its kernel adds up in float32 anyway.
    """
    device = query.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        query, key, value = (x.to(dtype) for x in (query, key, value))
    with torch.autocast(device, enabled=False):
        if not dropout:
            grouped = query.unflatten(1, (key.shape[1], -1))
            return _Causal.apply(grouped * scaling, key, value).flatten(1, 2)  # type: ignore[union-attr]
        groups, length = query.shape[1] // key.shape[1], query.shape[2]
        if groups > 1:
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = (query * scaling) @ key.transpose(-1, -2)
        weights = torch.softmax(scores.masked_fill(_future(length, query), float("-inf")), dim=-1)
        return functional.dropout(weights, dropout) @ value


def _future(length: int, like: Tensor) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool, device=like.device).triu(1)


class _Causal(torch.autograd.Function):
    """The same in blocks of queries, each against the keys up to its end.

    Nearly half of the products and of the softmax of a long document are of the future and never
    made, and the mask is laid over the last block of keys in place.  Written out because autograd
    would keep a copy of the scores before the mask and make gradients of the size of all keys for
    every block.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # type: ignore[override]
        """
        Args:
            query: (documents, key-value heads, group, tokens, width), scaled.
            key: (documents, key-value heads, tokens, width), and so is ``value``.
        """
        attended = torch.empty_like(query)
        future = _future(min(_BLOCK, query.shape[3]), query)
        kept = []
        for start, stop, rows in _blocks(query):
            scores = rows @ key[:, :, :stop].transpose(-1, -2)
            size = stop - start
            last = scores.unflatten(2, (-1, size))[..., start:]
            last.masked_fill_(future[:size, :size], float("-inf"))
            weights = torch.softmax(scores, dim=-1)
            part = weights @ value[:, :, :stop]
            attended[:, :, :, start:stop] = part.unflatten(2, (-1, size))
            kept.append(weights)
        ctx.save_for_backward(query, key, value, *kept)
        return attended

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        query, key, value, *kept = ctx.saved_tensors
        by_query = torch.empty_like(query)
        by_key, by_value = torch.zeros_like(key), torch.zeros_like(value)
        blocks = zip(_blocks(query), _blocks(upstream), kept, strict=True)
        for (start, stop, rows), (_, _, slope), weights in blocks:
            by_value[:, :, :stop] += weights.transpose(-1, -2) @ slope
            by_weights = slope @ value[:, :, :stop].transpose(-1, -2)
            by_scores = torch._softmax_backward_data(by_weights, weights, -1, weights.dtype)
            part = by_scores @ key[:, :, :stop]
            by_query[:, :, :, start:stop] = part.unflatten(2, (-1, stop - start))
            by_key[:, :, :stop] += by_scores.transpose(-1, -2) @ rows
        return by_query, by_key, by_value


def _blocks(grouped: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Where a block of queries begins and ends, and it as (documents, key-value heads, group x block,
    width)."""
    length = grouped.shape[3]
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        yield start, stop, grouped[:, :, :, start:stop].flatten(2, 3)

"""Rows with several documents: same logits, loss and gradients as the documents alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from medtune.training.documents import documents_attention, use_documents_attention

LENGTHS = [5, 9, 9, 1, 1, 30]


def _llama(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97,
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=2,
            max_position_embeddings=64,
        )
    )


def _packed(documents: list[torch.Tensor]) -> dict[str, Any]:
    lengths = torch.tensor([len(d) for d in documents])
    starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).to(torch.int32)
    return {
        "input_ids": torch.cat(documents)[None],
        "position_ids": torch.cat([torch.arange(len(d)) for d in documents])[None],
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": int(lengths.max()),
        "max_length_k": int(lengths.max()),
        "use_cache": False,
    }


def _documents() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 97, (length,), generator=generator) for length in LENGTHS]


@pytest.mark.parametrize("plain_up_to", [0, 1024], ids=["torch's kernel", "plain products"])
def test_a_document_packed_with_others_has_the_logits_it_has_alone(
    plain_up_to: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medtune.training.documents._PLAIN_UP_TO", plain_up_to)
    alone, together = _llama().eval(), _llama().eval()
    use_documents_attention(together)
    documents = _documents()
    with torch.no_grad():
        logits = together(**_packed(documents)).logits[0].split(LENGTHS)
        for document, mine in zip(documents, logits, strict=True):
            torch.testing.assert_close(mine, alone(document[None]).logits[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("groups", [1, 3])
def test_blocks_of_queries_attend_like_torchs_own_kernel(groups: int) -> None:
    """Documents of several blocks, of exactly one, and of one token more."""
    lengths = [300, 128, 129, 7]
    starts = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    generator = torch.Generator().manual_seed(2)
    heads = [2 * groups, 2, 2]
    own = [torch.randn(1, n, sum(lengths), 16, generator=generator) for n in heads]
    theirs = [x.clone().requires_grad_() for x in own]
    own = [x.requires_grad_() for x in own]
    mine, _ = documents_attention(torch.nn.Module(), *own, None, cu_seq_lens_q=starts)
    parts = zip(*(x.split(lengths, dim=2) for x in theirs), strict=True)
    expected = torch.cat(
        [
            torch.nn.functional.scaled_dot_product_attention(*qkv, is_causal=True, enable_gqa=True)
            for qkv in parts
        ],
        dim=2,
    ).transpose(1, 2)
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)
    slope = torch.randn(expected.shape, generator=generator)
    (mine * slope).sum().backward()
    (expected * slope).sum().backward()
    for x, y in zip(own, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-4)


def test_gradients_equal_those_of_padded_rows() -> None:
    packed, padded = _llama().train(), _llama().train()
    use_documents_attention(packed)
    documents = _documents()
    batch = _packed(documents)
    labels = torch.cat([torch.cat([torch.tensor([-100]), d[1:]]) for d in documents])
    packed(**batch, labels=labels[None]).loss.backward()

    ids = torch.nn.utils.rnn.pad_sequence(documents, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(d) for d in documents], True)
    padded(
        input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100), use_cache=False
    ).loss.backward()
    for mine, theirs in zip(packed.parameters(), padded.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        difference = (mine.grad - theirs.grad).norm() / theirs.grad.norm()
        assert difference < 1e-4


def test_dropout_drops_in_training_only() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Module()
    qkv = [torch.randn(1, 2, 20, 8) for _ in range(3)]
    starts = torch.tensor([0, 12, 20], dtype=torch.int32)
    layer.eval()
    plain, _ = documents_attention(layer, *qkv, None, dropout=0.5, cu_seq_lens_q=starts)
    again, _ = documents_attention(layer, *qkv, None, cu_seq_lens_q=starts)
    assert torch.equal(plain, again)
    layer.train()
    dropped, _ = documents_attention(layer, *qkv, None, dropout=0.5, cu_seq_lens_q=starts)
    assert not torch.allclose(dropped, plain)


def test_a_batch_without_starts_is_refused() -> None:
    model = _llama()
    use_documents_attention(model)
    with pytest.raises(ValueError, match="padding-free"):
        model(torch.ones(1, 4, dtype=torch.long))


def test_a_saved_model_does_not_ask_for_it(tmp_path: Path) -> None:
    model = _llama()
    use_documents_attention(model)
    model.save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"

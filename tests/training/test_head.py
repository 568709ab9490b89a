"""The head that scores answers only, against the plain loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from medtune.training.head import score_answers_only


def _llama(**settings: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=301,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        **settings,
    )
    model = LlamaForCausalLM(config)
    model.get_output_embeddings().requires_grad_(False)
    return model


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 301, (3, 20), generator=torch.Generator().manual_seed(2))
    labels = ids.clone()
    labels[:, :11] = -100
    labels[1] = -100
    return ids, labels


@pytest.mark.parametrize("at_once", [1, 700, 10**9])
def test_loss_and_gradients_equal_the_plain_ones(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medtune.training.head._AT_ONCE", at_once)
    mine, plain = _llama(), _llama()
    assert score_answers_only(mine)
    ids, labels = _batch()
    scored = mine(input_ids=ids, labels=labels, fused_lm_head=True)
    loss = -scored.log_probs.sum() / scored.label_mask.sum()
    loss.backward()
    expected = plain(input_ids=ids, labels=labels)
    expected.loss.backward()
    torch.testing.assert_close(loss, expected.loss)
    for one, other in zip(mine.parameters(), plain.parameters(), strict=True):
        if other.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, atol=1e-7, rtol=1e-4)


def test_entropy_and_hits_are_those_of_the_logits() -> None:
    model = _llama()
    ids, labels = _batch()
    log_p = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
    assert score_answers_only(model)
    scored = model(input_ids=ids, labels=labels, fused_lm_head=True)
    mask = labels[:, 1:] != -100
    torch.testing.assert_close(scored.entropy, -(log_p.exp() * log_p).sum(-1) * mask)
    assert torch.equal(scored.is_top1.bool(), (log_p.argmax(-1) == labels[:, 1:]) & mask)


def test_other_calls_go_the_models_own_way() -> None:
    model, plain = _llama(), _llama()
    assert score_answers_only(model)
    ids, labels = _batch()
    assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)
    assert torch.equal(
        model(input_ids=ids, labels=labels).loss, plain(input_ids=ids, labels=labels).loss
    )


def test_a_trained_head_and_unusual_logits_keep_the_librarys_way() -> None:
    trained = _llama()
    trained.get_output_embeddings().requires_grad_(True)
    assert not score_answers_only(trained)
    softcapped = _llama()
    softcapped.config.final_logit_softcapping = 30.0
    assert not score_answers_only(softcapped)

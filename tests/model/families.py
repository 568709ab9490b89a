"""Tiny random models of the families that GGUF is written for, with their genuine tokenizers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
_MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + '[/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)
_LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n' + m['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FAMILIES = ("tinyllama", "llama3", "mistral", "qwen2", "qwen3", "smollm", "gpt2-tokens")


def tokenizer_of(family: str, tokenizers: Path, work: Path) -> Any:
    """The genuine tokenizer of a family; those of SmolLM's kind are trained here on a few words."""
    from transformers import AutoTokenizer

    if family == "tinyllama":
        return AutoTokenizer.from_pretrained(tokenizers / "tinyllama")
    if family in ("qwen2", "qwen3"):
        return AutoTokenizer.from_pretrained(tokenizers / "qwen2.5")
    if family == "mistral":
        pytest.importorskip("sentencepiece")
        source = next((tokenizers / "mistral").iterdir())
        made = _from_model_file(source, work, "LlamaTokenizer", "<s>", "</s>")
        made.chat_template = _MISTRAL_TEMPLATE
        return made
    if family == "llama3":
        pytest.importorskip("tiktoken")
        source = tokenizers / "llama3" / "tokenizer.model"
        made = _from_model_file(source, work, "PreTrainedTokenizerFast")
        specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>"]
        made.add_special_tokens(
            {"additional_special_tokens": [*specials, "<|end_header_id|>", "<|eot_id|>"]}
        )
        made.bos_token, made.eos_token = "<|begin_of_text|>", "<|eot_id|>"
        made.chat_template = _LLAMA3_TEMPLATE
        return made
    return _trained(digits=family == "smollm")


def config_of(family: str, rows: int) -> Any:
    from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

    if family == "mistral":
        return MistralConfig(vocab_size=rows, head_dim=32, **_SIZES)
    if family == "qwen2":
        return Qwen2Config(vocab_size=rows + 7, tie_word_embeddings=True, **_SIZES)
    if family == "qwen3":
        return Qwen3Config(vocab_size=rows, head_dim=32, tie_word_embeddings=True, **_SIZES)
    if family == "llama3":
        scaling = {
            "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        }  # fmt: skip
        return LlamaConfig(vocab_size=rows, rope_parameters=scaling, **_SIZES)
    return LlamaConfig(vocab_size=rows, tie_word_embeddings=family == "smollm", **_SIZES)


def model_of(family: str, rows: int) -> Any:
    """Random weights, sharpened so that the likeliest token stands out."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(family, rows), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def _from_model_file(
    source: Path, work: Path, kind: str, begin: str | None = None, end: str | None = None
) -> Any:
    from transformers import AutoTokenizer

    shutil.copyfile(source, work / "tokenizer.model")
    settings = {"tokenizer_class": kind, "bos_token": begin, "eos_token": end}
    (work / "tokenizer_config.json").write_text(
        json.dumps({k: v for k, v in settings.items() if v})
    )
    return AutoTokenizer.from_pretrained(work)


def _trained(*, digits: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
        if digits
        else byte_level
    )
    made.decoder = decoders.ByteLevel()
    words = ["I have had a sore throat for 3 days and it's getting worse, what could it be?"] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator(words, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    fast.chat_template = _CHATML
    return fast

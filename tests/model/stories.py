"""Real pre-trained Llama weights in the file format of llama2.c, as a folder of transformers.

The only published weights small enough to lie beside the checkout: 260 thousand parameters that
tell children's stories, with grouped-query attention and a SentencePiece vocabulary of 512.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)


def transformers_folder(source: Path, folder: Path) -> Path:
    """The weights and the tokenizer of llama2.c, saved as transformers saves them."""
    _tokenizer(source / "tok512.bin").save_pretrained(folder)
    _model(source / "stories260K.bin").save_pretrained(folder)
    return folder


def _model(file: Path) -> Any:
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    raw = file.read_bytes()
    dim, hidden, layers, heads, kv_heads, rows, length = struct.unpack("7i", raw[:28])
    values = np.frombuffer(raw, np.float32, offset=28)
    taken = 0

    def take(*shape: int) -> torch.Tensor:
        nonlocal taken
        size = int(np.prod(shape))
        part = torch.from_numpy(values[taken : taken + size].copy()).reshape(shape)
        taken += size
        return part

    def halves(weight: torch.Tensor, count: int) -> torch.Tensor:
        """llama2.c turns neighbouring pairs, transformers the two halves of a head."""
        return weight.view(count, -1, 2, dim).transpose(1, 2).reshape(weight.shape)

    head = dim // heads
    state = {"model.embed_tokens.weight": take(rows, dim)}
    parts = {
        "input_layernorm": take(layers, dim),
        "self_attn.q_proj": take(layers, dim, dim),
        "self_attn.k_proj": take(layers, kv_heads * head, dim),
        "self_attn.v_proj": take(layers, kv_heads * head, dim),
        "self_attn.o_proj": take(layers, dim, dim),
        "post_attention_layernorm": take(layers, dim),
        "mlp.gate_proj": take(layers, hidden, dim),
        "mlp.down_proj": take(layers, dim, hidden),
        "mlp.up_proj": take(layers, hidden, dim),
    }
    for name, stacked in parts.items():
        for layer, weight in enumerate(stacked):
            count = {"self_attn.q_proj": heads, "self_attn.k_proj": kv_heads}.get(name)
            state[f"model.layers.{layer}.{name}.weight"] = (
                halves(weight, count) if count else weight
            )
    state["model.norm.weight"] = take(dim)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    config = LlamaConfig(
        vocab_size=rows, hidden_size=dim, intermediate_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=length,
        rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.load_state_dict(state)
    return model


def _tokenizer(file: Path) -> Any:
    """SentencePiece's BPE as transformers writes it: pairs merge in the order of their scores."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    raw = file.read_bytes()
    place, pieces = 4, []
    while place < len(raw):
        score, size = struct.unpack_from("<fi", raw, place)
        text = raw[place + 8 : place + 8 + size].decode("utf-8")
        pieces.append(
            (
                text.strip("\n").replace(" ", "▁") if len(pieces) < 3 else text.replace(" ", "▁"),
                score,
            )
        )
        place += 8 + size
    vocabulary = {text: number for number, (text, _) in enumerate(pieces)}
    merges = [
        (score, (text[:cut], text[cut:]))
        for text, score in pieces[259:]
        for cut in range(1, len(text))
        if text[:cut] in vocabulary and text[cut:] in vocabulary
    ]
    merges.sort(key=lambda pair: -pair[0])
    model = models.BPE(
        vocabulary,
        [pair for _, pair in merges],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )  # fmt: skip
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token="<unk>", clean_up_tokenization_spaces=False,
    )  # fmt: skip
    made.chat_template = _TEMPLATE
    return made

"""Write a model, or an adapter alone, as one GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.errors import MedtuneError
from medtune.model.gguf.architecture import (
    architecture,
    gguf_name,
    name_map,
    rope_factors,
    rows_in_order,
    write_shape,
)
from medtune.model.gguf.quantize import Quantization, file_type, quantize, weight_type
from medtune.model.gguf.vocabulary import write_vocabulary
from medtune.run import whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def write_gguf(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    kind: Quantization,
    *,
    name: str,
    description: str = "",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """One file with weights, tokenizer, chat template and special tokens.

    Weights are converted one at a time: beside the model, memory holds one of them.

    Args:
        model: not quantised, no adapter left on it.
        tokenizer: with its chat template.
        path: of the file, which appears whole or not at all.
        kind: how the weights are stored.
        name: shown by the programs that load it.
        description: likewise.
        advance: told how many of how many weights are written.

    Raises:
        MedtuneError: llama.cpp cannot run the architecture, its rotary scaling or tokenizer.
    """
    from gguf import GGML_QUANT_VERSION, GGUFWriter

    config = model.config
    found = architecture(config)
    writer = GGUFWriter(None, found.name)
    writer.add_name(name)
    if description:
        writer.add_description(description)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_file_type(file_type(kind))
    write_shape(writer, config)
    write_vocabulary(writer, tokenizer, config.vocab_size)
    tied, layers = bool(config.tie_word_embeddings), config.num_hidden_layers
    weights = list(_weights(model))
    types = {
        label: weight_type(kind, label, tuple(tensor.shape), layers, tied=tied)
        for label, _, tensor in weights
    }
    for label, _, tensor in weights:
        _announce(writer, label, tuple(tensor.shape), types[label])
    with whole(path) as part:
        writer.write_header_to_file(part)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, (label, original, tensor) in enumerate(weights):
            values = rows_in_order(found, config, original, _floats(tensor))
            writer.write_tensor_data(quantize(values, types[label]))
            advance(done + 1, len(weights))
        writer.close()
    return path


def write_gguf_adapter(folder: Path, config: Any, path: Path, *, name: str) -> Path:
    """A PEFT LoRA adapter as GGUF, to be put on a GGUF of its base when that is loaded.

    Args:
        folder: of the adapter.
        config: of the base model.
        path: of the file.
        name: shown by the programs that load it.

    Raises:
        MedtuneError: llama.cpp cannot put this kind of adapter on a base.
    """
    import json

    from gguf import GGUFType, GGUFWriter
    from safetensors.numpy import load_file

    found = architecture(config)
    names = name_map(found, config.num_hidden_layers)
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if settings.get("use_dora"):
        raise MedtuneError(
            "llama.cpp knows no DoRA adapters; export the whole model with `--to gguf`."
        )
    writer = GGUFWriter(None, found.name)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", _effective_alpha(settings))
    writer.add_name(name)
    for key, values in sorted(load_file(folder / "adapter_model.safetensors").items()):
        module, _, side = key.removeprefix("base_model.model.").rpartition(".lora_")
        original = f"{module}.weight"
        label = f"{gguf_name(names, original)}.lora_{side[0].lower()}"
        values = values.astype("float32")
        if side.startswith("B"):
            values = rows_in_order(found, config, original, values)
        writer.add_tensor(label, values)
    with whole(path) as part:
        writer.write_header_to_file(part)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return path


def _effective_alpha(settings: dict[str, Any]) -> float:
    """llama.cpp scales by alpha / rank; rank-stabilised LoRA by alpha / sqrt(rank)."""
    alpha, rank = float(settings["lora_alpha"]), float(settings["r"])
    return alpha * rank**0.5 if settings.get("use_rslora") else alpha


def _weights(model: PreTrainedModel) -> Iterator[tuple[str, str, Any]]:
    """llama.cpp's name, transformers' name, and the tensor; a tied head is left out."""
    import torch

    config: Any = model.config
    names = name_map(architecture(config), config.num_hidden_layers)
    factors = rope_factors(config)
    if factors is not None:
        yield "rope_freqs.weight", "rope_freqs.weight", torch.from_numpy(factors)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        yield gguf_name(names, name), name, tensor


def _floats(tensor: Any) -> NDArray[Any]:
    return tensor.detach().float().cpu().numpy()


def _announce(writer: Any, label: str, shape: tuple[int, ...], kind: Any) -> None:
    import numpy as np
    from gguf import GGMLQuantizationType as Type
    from gguf import quant_shape_to_byte_shape

    if kind in (Type.F32, Type.F16):
        dtype = np.dtype(np.float32 if kind == Type.F32 else np.float16)
        writer.add_tensor_info(label, shape, dtype, int(np.prod(shape)) * dtype.itemsize)
        return
    stored = quant_shape_to_byte_shape(shape, kind)
    writer.add_tensor_info(label, stored, np.dtype(np.uint8), int(np.prod(stored)), raw_dtype=kind)

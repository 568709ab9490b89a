"""Which models llama.cpp can run from us, and how it names and lays out their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medtune.errors import MedtuneError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter, TensorNameMap
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Architecture:
    name: str
    """As llama.cpp calls it; also the prefix of its settings in the file."""
    interleaved: bool
    """llama.cpp turns pairs of neighbours (2i, 2i+1) where transformers turns (i, i + half)."""


_BY_TYPE = {
    "llama": Architecture("llama", interleaved=True),
    "mistral": Architecture("llama", interleaved=True),
    "qwen2": Architecture("qwen2", interleaved=False),
    "qwen3": Architecture("qwen3", interleaved=False),
}


def architecture(config: Any) -> Architecture:
    """The architecture of a transformers configuration.

    Raises:
        MedtuneError: Medtune cannot write it; the sentence names the way that can.
    """
    if config.model_type in _BY_TYPE:
        return _BY_TYPE[config.model_type]
    raise MedtuneError(
        f"Medtune writes GGUF for {', '.join(_BY_TYPE)} models, not for {config.model_type}; export "
        "with `--to merged` and convert that folder with convert_hf_to_gguf.py of llama.cpp."
    )


def head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def write_shape(writer: GGUFWriter, config: Any) -> None:
    """Sizes, norms and rotary settings, as llama.cpp reads them."""
    size = head_size(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _write_rope(writer, config)


def _write_rope(writer: GGUFWriter, config: Any) -> None:
    from gguf import RopeScalingType

    rope = config.rope_parameters
    kind = rope.get("rope_type", "default")
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if kind in ("default", "llama3"):  # llama3 goes into a tensor, see rope_factors
        return
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
        return
    if kind == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(rope["factor"]))
        writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
        return
    raise MedtuneError(
        f"llama.cpp has no rotary scaling {kind!r}; export with `--to merged` and serve that "
        "folder with transformers or vLLM."
    )


def rope_factors(config: Any) -> NDArray[np.float32] | None:
    """What each rotary frequency is divided by under Llama 3.1's scaling; None without it.

    Wavelengths shorter than ``original / high_freq_factor`` stay, those longer than
    ``original / low_freq_factor`` are stretched by ``factor``, those between are blended
    (Llama 3.1 reference implementation, ``apply_scaling``).

    Returns:
        shape (head_size / 2,)
    """
    import numpy as np

    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "llama3":
        return None
    factor, original = rope["factor"], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    size = head_size(config)
    factors = []
    for i in range(0, size, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / size)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(float(factor))
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)


def name_map(found: Architecture, layers: int) -> TensorNameMap:
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    number = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == found.name)
    return get_tensor_name_map(number, layers)


def gguf_name(names: TensorNameMap, name: str) -> str:
    """llama.cpp's name of a weight of transformers.

    Raises:
        MedtuneError: it has none.
    """
    found = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise MedtuneError(
            f"The model has a weight {name!r} that llama.cpp does not know; export with `--to merged`."
        )
    return found


def rows_in_order(
    found: Architecture, config: Any, name: str, values: NDArray[Any]
) -> NDArray[Any]:
    """The rows of a query or key projection in the order that llama.cpp's rotation expects.

    Args:
        found: the architecture.
        config: of the model.
        name: of the weight or bias, as in transformers.
        values: shape (heads * head_size, ...); the matrix B of an adapter has the same rows.
    """
    projection = name.split(".")[-2]
    if not found.interleaved or projection not in ("q_proj", "k_proj"):
        return values
    heads = config.num_attention_heads if projection == "q_proj" else config.num_key_value_heads
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)

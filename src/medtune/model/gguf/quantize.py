"""Weights in fewer bits: which weight gets which type, and the arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from medtune.errors import MedtuneError

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType
    from numpy.typing import NDArray

Quantization = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m", "q5_k_m", "q6_k"]
KINDS: tuple[Quantization, ...] = get_args(Quantization)

_FILE_TYPES = {"f32": "ALL_F32", "q6_k": "MOSTLY_Q6_K"}
_K_TYPES = ("Q4_K", "Q5_K", "Q6_K")
_NARROW = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What stands in for a K type in rows that are no multiple of 256, as llama.cpp's quantiser does."""


def file_type(kind: Quantization) -> int:
    """The number that tells a reader how most weights are stored."""
    from gguf import LlamaFileType

    return int(LlamaFileType[_FILE_TYPES.get(kind, f"MOSTLY_{kind.upper()}")])


def weight_type(
    kind: Quantization, name: str, shape: tuple[int, ...], layers: int, *, tied: bool
) -> GGMLQuantizationType:
    """The type of one weight.

    Norms and biases stay in 32 bits.  The output head (the embedding, where the two are tied)
    keeps more bits than the rest, and so do, in the K mixtures, the value and down projections
    of the outer and of every third layer: errors there cost most (llama.cpp's own mixtures).

    Args:
        kind: what the whole file is called.
        name: llama.cpp's name of the weight.
        shape: (rows, columns), or one number for a vector.
        layers: how many the model has.
        tied: whether the embedding is the output head as well.
    """
    from gguf import GGMLQuantizationType as Type
    from gguf.constants import GGML_QUANT_SIZES

    if len(shape) < 2 or "norm" in name or name.startswith("rope_freqs"):
        return Type.F32
    wanted = kind.upper().removesuffix("_M")
    is_head = name.startswith("output.") or (tied and name.startswith("token_embd."))
    if kind == "q4_0" and is_head:
        wanted = "Q8_0"
    if kind in ("q4_k_m", "q5_k_m"):
        outer = name.startswith("blk.") and _needs_more_bits(int(name.split(".")[1]), layers)
        if is_head or (outer and (".attn_v." in name or ".ffn_down." in name)):
            wanted = "Q6_K"
    if wanted in _NARROW and shape[-1] % GGML_QUANT_SIZES[Type[wanted]][0]:
        wanted = _NARROW[wanted]
    if shape[-1] % GGML_QUANT_SIZES[Type[wanted]][0]:
        wanted = "F16"
    return Type[wanted]


def _needs_more_bits(layer: int, layers: int) -> bool:
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def quantize(values: NDArray[Any], kind: GGMLQuantizationType) -> NDArray[Any]:
    """Float values (rows, columns) as the bytes of a type.

    Raises:
        MedtuneError: a K type, and llama.cpp, whose quantiser makes them, is not installed.
    """
    import gguf
    import numpy as np

    values = np.ascontiguousarray(values, dtype=np.float32)
    if kind.name in _K_TYPES:
        return _quantize_with_llama_cpp(values, kind)
    return gguf.quants.quantize(values, kind)


def _quantize_with_llama_cpp(values: NDArray[Any], kind: GGMLQuantizationType) -> NDArray[Any]:
    """Blocks of rows in as many threads as there are cores; the C code runs outside the GIL."""
    import ctypes
    import os
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from gguf import quant_shape_to_byte_shape

    convert = _llama_cpp().ggml_quantize_chunk
    convert.restype = ctypes.c_size_t
    convert.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    rows, columns = values.shape
    out = np.empty(quant_shape_to_byte_shape(values.shape, kind), dtype=np.uint8)
    workers = os.cpu_count() or 1
    step = max(1, -(-rows // (4 * workers)))

    def block(first: int) -> None:
        last = min(first + step, rows)
        convert(int(kind), values[first:].ctypes.data, out[first:].ctypes.data, 0, last - first, columns, None)  # fmt: skip

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(block, range(0, rows, step)))
    return out


def _llama_cpp() -> Any:
    import ctypes
    from importlib import import_module

    try:
        library = import_module("xllamacpp.xllamacpp")
    except ImportError:
        raise MedtuneError(
            "K-quants are made by llama.cpp, which is not installed; `pip install xllamacpp`, "
            "or choose q8_0 or q4_0."
        ) from None
    return ctypes.CDLL(str(library.__file__))

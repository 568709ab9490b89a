"""Peak memory of a training, part by part, from the shape of the base and the recipe alone.

What autograd keeps follows from the code that runs: transformers' decoder layers, PEFT's linear
layers under autocast, bitsandbytes, and the attention and head of a CPU or a GPU.  A test counts
it tensor by tensor on a CPU; no figure for a GPU has been measured yet.  All sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from medtune.model.shape import Linear, Shape
from medtune.recipe import Recipe

GIB = 2**30
_OPTIMIZER_BYTES = {  # both moments, per trained parameter
    "adamw_torch": 8.0,
    "paged_adamw_32bit": 8.0,
    "paged_adamw_8bit": 2.0 + 8 / 256,
    "adamw_8bit": 2.0 + 8 / 256,
}
_NF4_BLOCK, _CONSTANTS_BLOCK = 64, 256
_HEAD_TILE = 4096 * 8192
"""Logits at once of TRL's head on a GPU."""
_HEAD_AT_ONCE, _HEAD_BYTES = 2**23, 12
"""Logits at once of our head on a CPU, and bytes for each: two float32 and two bfloat16."""
_PLAIN_ATTENTION_UP_TO, _BLOCK = 1024, 128
_CUDA_OVERHEAD, _CPU_OVERHEAD = int(0.5 * GIB), 710 * 2**20
"""Assumed: CUDA's context and unusable gaps.  Fitted: the interpreter with its libraries."""
_CPU_GAPS = 0.48
"""Fitted to the four trainings of ``benchmarks/results/memory.json`` and the three of
``embedded-table.json``, as is the overhead: what glibc's heap holds in gaps between the
activations, as a share of them.  Blocks that are mapped one by one leave none, but a step then takes
up to 70% longer."""
_EVALUATED_AT_ONCE = 8


@dataclass(frozen=True)
class Footprint:
    """Peak memory in bytes, by part."""

    weights: int
    quantisation_constants: int
    adapter: int
    """Its float32 weights, and their 16-bit copies while autocast is on."""
    gradients: int
    optimizer: int
    activations: int
    """What the backward pass needs, and buffers while it runs; or the validation's if larger."""
    logits: int
    gaps: int
    """Between the activations in the heap of a CPU; no block is small enough to fill them."""
    overhead: int
    """Of the libraries; not part of what ``torch.cuda.max_memory_allocated`` counts."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


def footprint(recipe: Recipe, shape: Shape, *, width: int, cpu: bool) -> Footprint:
    """Peak memory of the training that ``recipe`` describes.

    Every row counts as ``data.max_length`` tokens: the longest batch decides.

    Args:
        recipe: the whole recipe.
        shape: of its base.
        width: bytes of a number in the arithmetic, 2 or 4.
        cpu: whether it runs in main memory.
    """
    section = recipe.training
    whole = recipe.adapter.method == "none"
    trained = shape.parameters if whole else shape.adapter_parameters(recipe.adapter)
    tokens = section.batch_size * recipe.data.max_length
    # Autocast keeps a 16-bit copy of every float32 weight that is multiplied.
    copied = (shape.projection_parameters if whole else trained) * 2 * (width == 2)
    weights, constants = _weights(recipe, shape, 4 if whole else width)
    kept = _kept_by_backward(recipe, shape, tokens, width, cpu=cpu)
    activations = max(kept, _validation(recipe, shape, width))
    return Footprint(
        weights=weights,
        quantisation_constants=constants,
        adapter=copied + (0 if whole else 4 * trained),
        gradients=4 * trained,
        optimizer=round(_OPTIMIZER_BYTES[section.optimizer] * trained),
        activations=activations,
        logits=_logits(shape, tokens, width, cpu=cpu),
        gaps=round(_CPU_GAPS * activations) if cpu else 0,
        overhead=_CPU_OVERHEAD if cpu else _CUDA_OVERHEAD,
    )


def _weights(recipe: Recipe, shape: Shape, width: int) -> tuple[int, int]:
    """Bytes of the base, and of the constants that its quantised layers need."""
    quantised = shape.projection_parameters
    rest = (shape.parameters - quantised) * width
    match recipe.model.quantization:
        case "nf4":
            blocks = quantised / _NF4_BLOCK
            constants = 4 * blocks
            if recipe.model.double_quantization:
                constants = blocks + 4 * blocks / _CONSTANTS_BLOCK
            return quantised // 2 + rest, round(constants)
        case "int8":
            return quantised + rest, 4 * sum(p.outputs for p in shape.projections)
        case _:
            return shape.parameters * width, 0


def _kept_by_backward(recipe: Recipe, shape: Shape, tokens: int, width: int, *, cpu: bool) -> int:
    """Activations at their highest: all layers, or with checkpointing their inputs and one layer."""
    ends = tokens * shape.hidden * (4 + 2 * width)  # the last norm, and both sides of the head
    buffers = tokens * (3 * shape.intermediate * width + 8 * shape.hidden)
    if recipe.model.quantization != "none":  # the layer at hand is unpacked
        buffers += max(p.inputs * p.outputs for p in shape.projections) * width
    if recipe.training.gradient_checkpointing:
        buffers += tokens * _layer(recipe, shape, width, cpu=cpu)
    return kept_layers(recipe, shape, tokens, width, cpu=cpu) + ends + buffers


def kept_layers(recipe: Recipe, shape: Shape, tokens: int, width: int, *, cpu: bool) -> int:
    """Bytes that the decoder layers keep from the forward to the backward pass.

    Args:
        recipe: the whole recipe.
        shape: of its base.
        tokens: of the batch.
        width: bytes of a number in the arithmetic, 2 or 4.
        cpu: whether it runs in main memory.
    """
    if recipe.training.gradient_checkpointing:
        return shape.layers * tokens * shape.hidden * width
    return shape.layers * tokens * _layer(recipe, shape, width, cpu=cpu)


def _layer(recipe: Recipe, shape: Shape, width: int, *, cpu: bool) -> int:
    """Bytes that one decoder layer keeps for its backward pass, per token."""
    queries = shape.heads * shape.head_width
    keys = shape.key_value_heads * shape.head_width
    whole = recipe.adapter.method == "none"
    norms = 4 * shape.normalised * (2 if whole else 1)  # computed in float32
    if cpu and recipe.data.max_length <= _PLAIN_ATTENTION_UP_TO:
        # Weights of the past alone, and the future within a block of queries.
        seen = (recipe.data.max_length + min(_BLOCK, recipe.data.max_length)) // 2
        attention = width * (queries + 2 * keys + shape.heads * seen)
    else:
        attention = width * (2 * queries + 2 * keys) + 4 * shape.heads
    feed_forward = 3 * width * shape.intermediate
    return norms + attention + feed_forward + _adapter_inputs(recipe, shape, width, cpu=cpu)


def _adapter_inputs(recipe: Recipe, shape: Shape, width: int, *, cpu: bool) -> int:
    """Bytes of the inputs that trained layers keep, per token and decoder layer.

    Projections that read the same text share it, unless each casts or drops its own copy.
    """
    section = recipe.adapter
    whole = section.method == "none"
    trained = shape.projections if whole else shape.adapted(section)
    casts = width == 2
    dropout = 0.0 if whole else section.dropout
    # A GPU keeps one byte for each dropped or kept number, a CPU its factor.
    mask = 0 if not dropout else 4 if cpu else 1
    kept, seen = 0, set()
    for p in trained[: _per_layer(trained, shape)]:
        group = _reads(p)
        if casts or dropout or group not in seen:
            kept += p.inputs * width
        seen.add(group)
        kept += p.inputs * mask + (0 if whole else section.rank * width)
        if section.method == "dora":
            kept += 2 * p.outputs * width
    return kept


def _per_layer(projections: tuple[Linear, ...], shape: Shape) -> int:
    return -(-len(projections) // shape.layers)


def _reads(projection: Linear) -> str:
    """What a projection reads: names of the same input are equal."""
    shared = {"q_proj": "attention", "k_proj": "attention", "v_proj": "attention",
              "gate_proj": "feed forward", "up_proj": "feed forward"}  # fmt: skip
    return shared.get(projection.name, projection.name)


def _validation(recipe: Recipe, shape: Shape, width: int) -> int:
    """Buffers while the validation loss is measured: more rows at a time, nothing kept."""
    tokens = max(recipe.training.batch_size, _EVALUATED_AT_ONCE) * recipe.data.max_length
    queries = shape.heads * shape.head_width
    return tokens * (
        width * (3 * shape.intermediate + 2 * shape.hidden + queries) + 4 * shape.hidden
    )


def _logits(shape: Shape, tokens: int, width: int, *, cpu: bool) -> int:
    if cpu:
        return min(_HEAD_AT_ONCE, tokens * shape.vocabulary) * _HEAD_BYTES
    return min(_HEAD_TILE, tokens * shape.vocabulary) * width

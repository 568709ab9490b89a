"""The shape of a base, without its weights: every linear layer, and what else it holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from medtune.errors import MedtuneError
from medtune.model.load import base_folder, quiet
from medtune.recipe import AdapterSection, ModelSection

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_MISSING = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@dataclass(frozen=True)
class Linear:
    """One linear layer, (outputs, inputs)."""

    name: str
    """The last part of its name, such as ``q_proj``."""
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Shape:
    """What memory and arithmetic of a decoder depend on."""

    parameters: int
    projections: tuple[Linear, ...]
    """Every linear layer of the whole model but its output head."""
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_width: int
    vocabulary: int
    normalised: int
    """Numbers that the norms of one layer read, per token."""
    positions: int
    """The longest text it was made for, in tokens."""

    @property
    def projection_parameters(self) -> int:
        """What quantisation applies to."""
        return sum(p.inputs * p.outputs for p in self.projections)

    def adapted(self, section: AdapterSection) -> tuple[Linear, ...]:
        """The projections that get an adapter.

        Raises:
            MedtuneError: a target does not exist in this model.
        """
        if section.method == "none":
            return ()
        if section.targets == "all-linear":
            return self.projections
        there = sorted({p.name for p in self.projections})
        missing = [target for target in section.targets if target not in there]
        if missing:
            raise MedtuneError(
                f"The model has no projection {', '.join(missing)}; "
                f"adapter.targets can be {', '.join(there)}, or all-linear."
            )
        return tuple(p for p in self.projections if p.name in section.targets)

    def adapter_parameters(self, section: AdapterSection) -> int:
        """Rank times inputs and outputs of each target; DoRA adds one number per output."""
        lengths = sum(p.outputs for p in self.adapted(section)) * (section.method == "dora")
        return lengths + sum(section.rank * (p.inputs + p.outputs) for p in self.adapted(section))


def known_shapes() -> dict[str, dict[str, Any]]:
    """Configurations of well-known bases, by Hub id."""
    text = resources.files("medtune.model").joinpath("shapes.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def shape_of(section: ModelSection) -> Shape:
    """The shape of a base, from its configuration alone: nothing is loaded but that.

    Raises:
        MedtuneError: the base is not here, cannot be fetched, and is none of the known ones, or
            it is no decoder of Llama's kind.
    """
    return _shape(section.base, section.revision)


@cache
def _shape(base: str, revision: str) -> Shape:
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    config = _config(base, revision)
    text = config.get_text_config()
    lacking = [name for name in _MISSING if not hasattr(text, name)]
    if lacking or getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None):
        raise MedtuneError(
            f"The base {base} ({config.model_type}) cannot be planned: only decoders of "
            "Llama's kind (Llama, Mistral, Qwen, Gemma, SmolLM) can. Try a few steps instead: "
            "`medtune train ... training.max_steps=3` tells its peak memory."
        )
    with quiet(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    projections = tuple(
        Linear(name.rpartition(".")[2], module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    )
    heads = text.num_attention_heads
    key_value_heads = getattr(text, "num_key_value_heads", None) or heads
    head_width = getattr(text, "head_dim", None) or text.hidden_size // heads
    norms = {name.rpartition(".")[2] for name, _ in model.named_modules() if "norm" in name}
    wide = sum(name.endswith("layernorm") for name in norms) * text.hidden_size
    narrow = (heads + key_value_heads) * head_width if "q_norm" in norms else 0
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        projections=projections,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        heads=heads,
        key_value_heads=key_value_heads,
        head_width=head_width,
        normalised=wide + narrow,
        vocabulary=text.vocab_size,
        positions=text.max_position_embeddings,
    )


def _config(base: str, revision: str) -> PreTrainedConfig:
    from transformers import AutoConfig

    known = known_shapes().get(base)
    if known is not None and not Path(base).is_dir():
        sizes = dict(known)
        return AutoConfig.for_model(sizes.pop("model_type"), **sizes)
    folder = _folder_with_config(base, revision)
    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MedtuneError(f"{folder}/config.json cannot be read: {reason}") from error


def _folder_with_config(base: str, revision: str) -> Path:
    """The base's folder; of a base on the Hub only the configuration is fetched."""
    from medtune.hub import fetch

    if base != "embedded" and not Path(base).exists() and base.count("/") == 1 and base[0] != ".":
        return fetch(base, "model", revision, ["config.json"])
    return base_folder(base, revision)

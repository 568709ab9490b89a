"""The low-rank adapter: which projections get one, how it starts, how it is saved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.errors import MedtuneError
from medtune.recipe import AdapterSection

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel


def projections(model: PreTrainedModel) -> list[str]:
    """The names of the model's linear projections, without the output head."""
    from torch import nn

    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"
    }
    return sorted(names)


def lora_config(section: AdapterSection, model: PreTrainedModel) -> LoraConfig:
    """The adapter as PEFT understands it.

    Raises:
        MedtuneError: a target does not exist in this model; the sentence names those that do.
            (PEFT skips a missing target in silence as long as one other matches.)
    """
    from peft import LoraConfig

    assert section.method != "none", "full fine-tuning has no adapter"
    if section.targets != "all-linear":
        there = projections(model)
        missing = [target for target in section.targets if target not in there]
        if missing:
            raise MedtuneError(
                f"The model has no projection {', '.join(missing)}; "
                f"adapter.targets can be {', '.join(there)}, or all-linear."
            )
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=section.rank,
        lora_alpha=section.alpha,  # type: ignore[arg-type]
        lora_dropout=section.dropout,
        target_modules=section.targets,
        use_rslora=section.method == "rslora",
        use_dora=section.method == "dora",
        init_lora_weights=True if section.init == "default" else section.init,
        bias="none",
    )


class AdapterStart:
    """How an adapter began, kept where its start took a part out of the base's weights.

    PiSSA and OLoRA move a part of every weight into the adapter.  Such an adapter fits only the
    base that is left over.  Together with its start it becomes a plain adapter of twice the rank
    that fits the base everybody has (W + BA - B0 A0).

    Args:
        model: with its adapter, before the first step.
        section: the recipe's ``adapter`` section.
        folder: where the start is kept meanwhile.
    """

    def __init__(self, model: Any, section: AdapterSection, folder: Path) -> None:
        self._folder = folder if section.init != "default" else None
        if self._folder:
            model.save_pretrained(self._folder)

    def save(self, model: Any, folder: Path, weights: dict[str, Any] | None = None) -> None:
        """Save the trained adapter as one that fits the untouched base.

        Args:
            model: with the trained adapter.
            folder: where.
            weights: the adapter's, where the model has but a part of each.
        """
        if self._folder is None:
            model.save_pretrained(folder, state_dict=weights)
            return
        model.save_pretrained(folder, path_initial_model_for_weight_conversion=str(self._folder))
        shutil.rmtree(self._folder)

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from medtune.data.rows import read_split
from medtune.errors import MedtuneError
from medtune.model.generate import generate_answers
from medtune.model.load import load_tokenizer, tuned_on
from medtune.model.merge import merge, write_merged
from medtune.model.template import messages, prompt_ids
from medtune.run import Run


def _copy(run: Run, folder: Path) -> Run:
    """A run of the test's own, without what other tests have exported."""
    import shutil

    shutil.copytree(run.folder, folder / run.name, ignore=shutil.ignore_patterns("exports"))
    return Run(folder / run.name)


def test_adapter_and_merged_model_give_the_same_greedy_answers(tuned_run: Run) -> None:
    section = tuned_run.recipe().model.model_copy(
        update={"quantization": "none", "dtype": "float32"}
    )
    tokenizer = load_tokenizer(section)
    rows = (read_split(tuned_run, "test") + read_split(tuned_run, "train"))[:50]
    prompts = [prompt_ids(tokenizer, messages(row.question)) for row in rows]
    merged, _ = merge(tuned_run, "float32")

    def answers(model: object) -> list[str]:
        made = generate_answers(model, tokenizer, prompts, max_new_tokens=24, batch_size=10)
        return [one.text for one in made]

    with_adapter = tuned_on(tuned_run, section)
    expected = answers(with_adapter)
    assert answers(merged) == expected
    with with_adapter.disable_adapter():  # type: ignore[operator]
        assert answers(with_adapter) != expected, "the adapter changes nothing, so nothing is shown"


def test_the_weights_are_base_plus_scaled_product_and_never_four_bit(
    tuned_run: Run, tiny_base: Path
) -> None:
    from safetensors.torch import load_file

    assert tuned_run.recipe().model.quantization == "nf4"
    merged, _ = merge(tuned_run, "float32")
    weight = merged.model.layers[1].self_attn.q_proj.weight  # type: ignore[union-attr]
    assert type(weight) is torch.nn.Parameter
    name = "model.layers.1.self_attn.q_proj"
    adapter = load_file(tuned_run.adapter / "adapter_model.safetensors")
    a, b = (adapter[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    base = load_file(tiny_base / "model.safetensors")[f"{name}.weight"]
    scale = tuned_run.recipe().adapter.alpha / tuned_run.recipe().adapter.rank
    assert torch.allclose(weight, base.float() + scale * b @ a, atol=1e-6)


def test_tokenizer_template_and_generation_settings_travel_along(
    tuned_run: Run, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = write_merged(_copy(tuned_run, tmp_path))
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    expected = load_tokenizer(tuned_run.recipe().model)
    turns = messages("What is it?", "Be brief.")
    assert prompt_ids(tokenizer, turns) == prompt_ids(expected, turns)
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings["do_sample"] is False
    assert settings["max_new_tokens"] == 24
    assert settings["eos_token_id"] == [expected.eos_token_id]


def test_weights_that_overflow_are_refused_and_nothing_is_left(
    tuned_run: Run, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    run = _copy(tuned_run, tmp_path)
    file = run.adapter / "adapter_model.safetensors"
    tensors = {n: t * 1e6 if "lora_B" in n else t for n, t in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises((MedtuneError, ValueError), match="overflow|NaNs"):
        write_merged(run, "float16")
    assert not run.exports.exists() or os.listdir(run.exports) == []


def test_an_untrained_run_is_a_sentence(tuned_run: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "fresh")
    run.keep(tuned_run.recipe())
    with pytest.raises(MedtuneError, match="no trained adapter"):
        write_merged(run)

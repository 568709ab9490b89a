from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from medtune.errors import MedtuneError
from medtune.publishing.card import model_card
from medtune.run import Run


@pytest.fixture
def run(tuned_run: Run, tmp_path: Path) -> Run:
    run = Run(shutil.copytree(tuned_run.folder, tmp_path / "tuned"))
    score = {"value": 0.5, "ci": [0.4, 0.6], "n": 40}
    run.write_json(
        run.results_file,
        {
            "base": {"condition_top1": {"value": 0.1, "ci": [0.05, 0.2], "n": 40}},
            "tuned": {"condition_top1": score},
            "delta": {"condition_top1": {"value": 0.4, "ci": [0.3, 0.5], "p": 0.001}},
            "gate": {"passed": False, "primary": "condition_top1", "reasons": ["too few end"]},
            "test_rows": 40,
            "contamination": {"test_questions_in_training": 0},
        },
    )
    return run


def test_the_front_matter_is_what_the_hub_reads(run: Run) -> None:
    recipe = run.recipe()
    run.keep(
        recipe.model_copy(
            update={
                "model": recipe.model.model_copy(update={"base": "TinyLlama/TinyLlama-1.1B"}),
                "data": recipe.data.model_copy(update={"source": "medalpaca/flashcards"}),
            }
        )
    )
    data = ModelCard(model_card(run, "adapter", "me/clinic")).data
    assert data.base_model == "TinyLlama/TinyLlama-1.1B"
    assert data.datasets == ["medalpaca/flashcards"]
    assert data.library_name == "peft"
    assert {"medtune", "medical"} <= set(data.tags or [])
    [result] = data.eval_results or []
    assert (result.metric_value, result.dataset_split) == (0.5, "test")


def test_the_figures_have_intervals_and_n_and_failures_are_said(run: Run) -> None:
    text = model_card(run, "adapter", "me/clinic")
    assert "| Right condition first | 10.0% (5.0% to 20.0%) | **50.0% (40.0% to 60.0%)** |" in text
    assert "In 50.0% of 40 test questions the condition named first is wrong." in text
    assert "**not passed**: too few end" in text
    assert "not medical advice" in text
    assert "estimated" in text
    assert run.read_json(run.card_json)["fingerprint"] in text


def test_failures_are_told_for_emergencies_too_and_metrics_by_their_right_names(run: Run) -> None:
    results = run.read_json(run.results_file)
    for name, value in (("emergency_recall", 0.75), ("under_triage", 0.125)):
        score = {"value": value, "ci": [0.05, 0.9], "n": 8}
        results["base"][name] = results["tuned"][name] = score
        results["delta"][name] = {"value": 0.0, "ci": [-0.1, 0.1], "p": 1.0}
    behind = {"emergency_recall": {"value": 1.0, "ci": [0.7, 1.0], "n": 8}}
    run.write_json(run.results_file, {**results, "deployed": {"tuned": behind}})
    text = model_card(run, "adapter", "me/clinic")
    assert "Of 8 emergencies among the test questions the model alone does not recognise 25.0%, with Medtune's safety layer 0.0%." in text  # fmt: skip
    assert "In 12.5% of 8 test questions it says less urgency than there is." in text
    types = {r.metric_name: r.metric_type for r in ModelCard(text).data.eval_results or []}
    assert types["Emergencies recognised"] == "recall"
    assert types["Made less urgent than it is"] == "under_triage"


def test_every_part_that_a_reader_needs_is_there(run: Run) -> None:
    text = model_card(run, "gguf", "me/clinic")
    headings = re.findall(r"^## (.*)", text, re.M)
    assert headings == [
        "How to use it", "Results", "How it was trained", "Intended use", "Limits and known failures",
    ]  # fmt: skip
    for words in (
        "licence of the base",
        "licence of the data",
        "seed",
        "peak memory",
        "minutes on",
    ):
        assert words in text


def test_a_run_that_was_not_evaluated_says_so(run: Run) -> None:
    run.results_file.unlink()
    text = model_card(run, "merged", "me/clinic")
    assert "has not been evaluated" in text
    assert "model-index" not in text


def test_an_untrained_run_has_no_card(tuned_run: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "fresh")
    run.keep(tuned_run.recipe())
    with pytest.raises(MedtuneError, match="has not been trained"):
        model_card(run, "adapter", "me/clinic")


@pytest.mark.parametrize(
    ("adapter", "quantization", "method", "tag"),
    [
        ({"method": "lora"}, "none", "LoRA, rank", "lora"),
        ({"method": "dora"}, "nf4", "DoRA over a base in nf4 (QLoRA), rank", "qlora"),
        ({"method": "lora", "init": "pissa"}, "none", "LoRA started by pissa, rank", "lora"),
        ({"method": "none"}, "none", "every weight was trained", "full-fine-tuning"),
    ],
)
def test_the_method_is_the_one_that_was_used(
    run: Run, adapter: dict[str, str], quantization: str, method: str, tag: str
) -> None:
    recipe = run.recipe()
    sections = {
        "adapter": recipe.adapter.model_copy(update=adapter),
        "model": recipe.model.model_copy(update={"quantization": quantization}),
        "training": recipe.training.model_copy(update={"optimizer": "adamw_torch"}),
    }
    run.keep(recipe.model_copy(update=sections))
    text = model_card(run, "merged", "me/clinic")
    assert method in text
    assert tag in (ModelCard(text).data.tags or [])

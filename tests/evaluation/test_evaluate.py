from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from medtune.data.prepare import prepare
from medtune.errors import MedtuneError
from medtune.evaluation.evaluate import evaluate
from medtune.evaluation.report import write_report
from medtune.model.load import load_tokenizer
from medtune.recipe import load_recipe
from medtune.run import Run
from medtune.training.train import train


@pytest.fixture(scope="module")
def evaluated(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = load_recipe(
        "embedded-qlora",
        [
            f"model.base={tiny_base}",
            "data.limit=150",
            "training.epochs=1",
            "training.learning_rate=1e-2",
            "evaluation.max_new_tokens=20",
            "evaluation.samples=3",
        ],
    )
    run = Run(tmp_path_factory.mktemp("runs") / recipe.name)
    prepare(recipe.data, run, load_tokenizer(recipe.model))
    run.keep(recipe)
    train(recipe, run)
    evaluate(recipe, run)
    return run


def test_results_have_base_tuned_and_change_for_every_metric(evaluated: Run) -> None:
    results = evaluated.read_json(evaluated.results_file)
    assert results["base"].keys() == results["tuned"].keys() == results["delta"].keys()
    assert {"perplexity", "bleu", "rouge_l", "condition_top1", "specialist"} <= results[
        "base"
    ].keys()
    for name, change in results["delta"].items():
        for who in ("base", "tuned"):
            entry = results[who][name]
            assert entry["n"] > 0
            assert entry["ci"][0] <= entry["value"] + 1e-9
            assert entry["value"] <= entry["ci"][1] + 1e-9
        gap = results["tuned"][name]["value"] - results["base"][name]["value"]
        assert change["value"] == pytest.approx(gap)
    assert results["tuned"]["perplexity"]["value"] < results["base"]["perplexity"]["value"]
    assert results["contamination"]["test_questions_in_training"] == 0


def test_a_model_that_never_stops_fails_the_gate(evaluated: Run) -> None:
    results = evaluated.read_json(evaluated.results_file)
    assert results["tuned"]["ended"]["value"] < 0.95  # two random layers, twenty tokens
    assert not results["gate"]["passed"]
    assert any("end by themselves" in reason for reason in results["gate"]["reasons"])


def test_the_report_holds_everything_and_asks_for_nothing_outside(evaluated: Run) -> None:
    page = write_report(evaluated).read_text(encoding="utf-8")
    assert page.count("<svg") >= 2  # curves and bars; calibration where a condition is named
    assert "does not pass" in page
    assert "95% interval" in page
    assert not re.findall(r"(?:src|href)=\"(?!#)", page.replace("xlink:href", ""))
    assert "<script" not in page


def test_a_second_evaluation_loads_no_model_and_finds_the_same(
    evaluated: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = evaluated.read_json(evaluated.results_file)

    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded although every answer is kept")

    monkeypatch.setattr("medtune.evaluation.voices.load_tuned", refuse)
    again = evaluate(evaluated.recipe(), evaluated)
    for part in ("base", "tuned", "delta", "deployed", "gate", "slices"):
        assert json.loads(json.dumps(again[part])) == before[part], part


def test_the_deployed_pipeline_never_recognises_fewer_emergencies(evaluated: Run) -> None:
    results = evaluated.read_json(evaluated.results_file)
    assert set(results["deployed"]["tuned"]) <= set(results["tuned"])
    for who in ("base", "tuned"):
        alone, deployed = results[who], results["deployed"][who]
        for name in {"emergency_recall"} & alone.keys():
            assert deployed[name]["value"] >= alone[name]["value"]
        if "urgency" in alone:
            assert sum(map(sum, results["urgency_confusion"][who])) == alone["urgency"]["n"]


def test_the_summary_starts_with_the_verdict(evaluated: Run) -> None:
    write_report(evaluated)
    lines = evaluated.report_summary.read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith("**The tuned model does not pass")
    assert any(line.startswith("| Perplexity |") for line in lines)


def test_markup_in_answers_is_shown_and_not_run(evaluated: Run, tmp_path: Path) -> None:
    import shutil

    copy = Run(tmp_path / "copy")
    shutil.copytree(evaluated.folder, copy.folder)
    results = copy.read_json(copy.results_file)
    results["samples"][0]["tuned"] = "<script>alert(1)</script>"
    copy.write_json(copy.results_file, results)
    assert "<script>" not in write_report(copy).read_text(encoding="utf-8")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    run = Run(tmp_path / "none")
    with pytest.raises(MedtuneError, match="medtune prepare"):
        evaluate(load_recipe("embedded-qlora"), run)
    with pytest.raises(MedtuneError, match="medtune evaluate none"):
        write_report(run)

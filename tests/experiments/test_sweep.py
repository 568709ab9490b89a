from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medtune.errors import MedtuneError
from medtune.experiments.page import cells, verdict, write_page
from medtune.experiments.sweep import is_finished, summarise, sweep
from medtune.recipe import Recipe, load_recipe
from medtune.run import Run


def _recipe(*experiments: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({"name": "three", "experiments": list(experiments)})


def _finish(settings: Recipe, folder: Path, validation: float, perplexity: float) -> None:
    run = Run(folder / settings.name)
    run.keep(settings)
    run.write_json(
        run.training_file,
        {
            "train_loss": 1.0,
            "validation_loss": validation,
            "peak_memory_bytes": 2**30,
            "seconds": 90,
        },
    )
    score = {"value": perplexity, "ci": [perplexity - 1, perplexity + 1], "n": 20}
    run.write_json(run.results_file, {"tuned": {"perplexity": score}})
    run.write_text(run.metrics_file, '{"step": 0, "eval_loss": 3.0}\n{"step": 5, "loss": 2.0}\n')


def test_the_published_table_is_in_the_recipe() -> None:
    recipe = load_recipe("tinyllama-flashcards")
    table = [
        (r.training.learning_rate, r.training.batch_size, r.training.gradient_accumulation)
        for r in recipe.each_experiment()
    ]
    assert table == [(1e-4, 2, 4), (5e-5, 1, 3), (2e-5, 2, 2)]
    assert {r.training.epochs for r in recipe.each_experiment()} == {5}
    names = [r.name for r in recipe.each_experiment()]
    assert names == [f"tinyllama-flashcards-{n}" for n in ("first", "second", "third")]


def test_wrong_experiments_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="did you mean 'learning_rate'"):
        _recipe({"training.learning_rte": 1})
    with pytest.raises(MedtuneError, match=r"training\.epochs cannot be -1"):
        _recipe({"training.epochs": -1})
    path = tmp_path / "twice.yaml"
    path.write_text("experiments: [{name: a}, {name: a}]\n")
    with pytest.raises(MedtuneError, match="give each its own name"):
        load_recipe(path)
    with pytest.raises(MedtuneError, match="has no experiments"):
        sweep(_recipe(), Run(tmp_path / "none"))


def test_the_winner_is_chosen_on_validation_and_not_on_test(tmp_path: Path) -> None:
    recipe = _recipe({"name": "a"}, {"name": "b", "training.learning_rate": 1e-5}, {"name": "c"})
    for settings, validation, perplexity in zip(
        recipe.each_experiment(), (1.2, 1.1, float("nan")), (4.0, 9.0, 2.0), strict=True
    ):
        _finish(settings, tmp_path, validation, perplexity)
    run = Run(tmp_path / "three")
    run.keep(recipe)
    result = summarise(recipe, run, {})
    assert result.winner == "three-b"
    assert "perplexity 9.00 (8.00 to 10.00, n = 20)" in verdict(result)
    kept = json.loads(run.sweep_file.read_text())
    assert [row["effective_batch"] for row in kept["experiments"]] == [4, 4, 4]
    assert cells(result.experiments[1])[1] == "1e-05"
    page = write_page(run, result).read_text()
    assert page.count("<svg") == 1
    assert "three-b (chosen)" in page
    assert "src=" not in page


def test_what_is_finished_is_not_done_again_and_a_changed_experiment_is(tmp_path: Path) -> None:
    recipe = _recipe({"name": "a"}, {"name": "b"})
    for settings in recipe.each_experiment():
        _finish(settings, tmp_path, 1.0, 3.0)
    told: list[str] = []
    result = sweep(recipe, Run(tmp_path / "three"), told.append)
    assert len(result.experiments) == 2
    assert [line.endswith("done before.") for line in told] == [True, True]
    other = _recipe({"name": "a", "training.learning_rate": 1e-5})
    assert not is_finished(other.each_experiment()[0], Run(tmp_path / "three-a"))


def test_experiments_train_in_processes_of_their_own_and_one_that_fails_stops_no_other(
    tiny_base: Path, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "three",
            "model": {"base": str(tiny_base)},
            "data": {"limit": 60},
            "training": {"max_steps": 2, "evaluate_every": 2, "samples": 0},
            "evaluation": {"limit": 2, "max_new_tokens": 4},
            "experiments": [{"name": "bad", "adapter.targets": ["c_attn"]}, {"name": "good"}],
        }
    )
    result = sweep(recipe, Run(tmp_path / "three"), lambda _: None)
    assert [row.run for row in result.experiments] == ["three-good"]
    assert result.winner == "three-good"
    assert "no projection c_attn" in result.failed["three-bad"]
    assert set(result.experiments[0].scores) == {"perplexity", "bleu", "rouge_l"}
    assert (tmp_path / "three-good" / "adapter" / "adapter_config.json").exists()

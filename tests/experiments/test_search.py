from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medtune.errors import MedtuneError
from medtune.experiments.page import write_page
from medtune.experiments.sweep import sweep
from medtune.recipe import Recipe, load_recipe
from medtune.run import Run

optuna = pytest.importorskip("optuna")


def _recipe(base: Path, **search: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "hunt",
            "model": {"base": str(base)},
            "data": {"limit": 60},
            "training": {"max_steps": 4, "evaluate_every": 2, "samples": 0},
            "evaluation": {"limit": 2, "max_new_tokens": 4, "metrics": ["perplexity"]},
            "search": {
                "space": {
                    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
                    "adapter.targets": [["q_proj"], ["q_proj", "v_proj"]],
                },
                **search,
            },
        }
    )


def _study(run: Run) -> Any:
    return optuna.load_study(study_name="hunt", storage=f"sqlite:///{run.study_file}")


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"adapter.rnk": [4]}, "did you mean 'rank'"),
        ({"adapter.rank": [4, 0]}, "adapter.rank cannot be 0"),
        ({"adapter.rank": []}, "lists nothing to choose from"),
        ({"adapter.rank": {"low": 8, "high": 4}}, "low must be less than high"),
        ({"training.learning_rate": {"low": 0, "high": 1, "log": True}}, "must begin above 0"),
    ],
)
def test_a_space_with_a_wrong_end_is_refused_before_anything_runs(
    tmp_path: Path, space: dict[str, Any], words: str
) -> None:
    import yaml

    path = tmp_path / "hunt.yaml"
    path.write_text(yaml.safe_dump({"search": {"space": space}}))
    with pytest.raises(MedtuneError, match=words) as refused:
        load_recipe(path)
    assert "{'name'" not in str(refused.value), "the whole recipe is no message"


def test_an_interrupted_search_goes_on_with_the_same_trial_and_evaluates_its_winner_alone(
    tiny_base: Path, tmp_path: Path
) -> None:
    recipe = _recipe(tiny_base, trials=2)
    run = Run(tmp_path / "hunt")
    path = tmp_path / "hunt.yaml"
    path.write_text(recipe.to_yaml())
    command = [sys.executable, "-m", "medtune", "sweep", str(path), "--runs", str(tmp_path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    second = tmp_path / "hunt-trial-002"
    deadline = time.monotonic() + 120
    while not (second / "recipe.yaml").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "The sweep was interrupted; the same command goes on" in said
    asked_for = [trial.params for trial in _study(run).trials]
    assert [trial.state.name for trial in _study(run).trials] == ["COMPLETE", "RUNNING"]

    told: list[str] = []
    result = sweep(recipe, run, told.append)
    trials = _study(run).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert [trial.params for trial in trials] == asked_for
    assert len(told) == 1, "the finished trial is not begun again"
    losses = {row.run: row.validation_loss for row in result.experiments}
    assert losses == {f"hunt-trial-00{t.number + 1}": t.value for t in trials}
    assert result.winner == min(losses, key=losses.__getitem__)
    evaluated = [row.run for row in result.experiments if "perplexity" in row.scores]
    assert evaluated == [result.winner]
    page = write_page(run, result).read_text()
    assert f"{result.winner} (chosen)" in page
    assert "adapter.targets=[&#39;q_proj&#39;" in page


def test_trials_depend_on_the_seed_and_not_on_where_a_search_was_interrupted(
    tiny_base: Path, tmp_path: Path
) -> None:
    from medtune.experiments.search import _distributions, _sampler, _study

    recipe = _recipe(tiny_base, random_trials=3)

    def drawn(folder: Path, opened_again_after: int | None) -> list[dict[str, Any]]:
        study = _study(recipe, Run(folder))
        for number in range(8):
            if number == opened_again_after:
                study = _study(recipe, Run(folder))
            study.sampler = _sampler(recipe, number)
            trial = study.ask(_distributions(recipe))
            study.tell(trial, abs(trial.params["training.learning_rate"] - 1e-3))
        return [trial.params for trial in study.trials]

    whole = drawn(tmp_path / "whole", None)
    assert drawn(tmp_path / "broken", 5) == whole
    rates = [params["training.learning_rate"] for params in whole]
    assert len(set(rates)) == 8
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)


def test_a_trial_worse_than_the_median_is_ended_early(tiny_base: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "hunt")
    run.folder.mkdir()
    recipe = _recipe(tiny_base, trials=4)
    endless = recipe.model_dump()
    endless["training"] |= {"max_steps": 100_000, "keep_checkpoints": 1}
    recipe = Recipe.model_validate(endless)
    study = optuna.create_study(
        storage=f"sqlite:///{run.study_file}", study_name="hunt", direction="minimize"
    )
    for _ in range(3):  # three trials that did impossibly well
        study.add_trial(
            optuna.trial.create_trial(
                value=0.1, intermediate_values=dict.fromkeys(range(1, 50), 0.1)
            )
        )
    for number in range(3):  # with what a finished run holds
        settings = recipe.trial(number, {})
        one = Run(tmp_path / settings.name)
        one.keep(settings)
        one.write_json(
            one.training_file,
            {"train_loss": 0.1, "validation_loss": 0.1, "peak_memory_bytes": 1, "seconds": 1},
        )
        one.write_json(one.results_file, {"tuned": {}})
    result = sweep(recipe, run, lambda _: None)
    assert _study(run).trials[3].state.name == "PRUNED"
    assert "validation loss" in result.pruned["hunt-trial-004"]
    assert len(result.experiments) == 3
    assert not Run(tmp_path / "hunt-trial-004").training_file.exists()
    assert "1 trials were ended early" in write_page(run, result).read_text()


def test_another_recipe_begins_another_search_and_more_trials_do_not(
    tiny_base: Path, tmp_path: Path
) -> None:
    from medtune.experiments.search import _study

    run = Run(tmp_path / "hunt")
    study = _study(_recipe(tiny_base, trials=2), run)
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert len(_study(_recipe(tiny_base, trials=9), run).trials) == 1
    assert len(_study(_recipe(tiny_base, seed=7), run).trials) == 0

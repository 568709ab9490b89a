"""Training, evaluation and a sweep on four nodes give what they give here; what dies is done again."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import Killer, local_cluster
from trained import curves, prepared, small_recipe

from medtune.errors import MedtuneError
from medtune.evaluation.evaluate import evaluate
from medtune.model.load import load_tuned
from medtune.recipe import Recipe
from medtune.run import Run
from medtune.training.train import train

# Of one core each, whatever this machine has.
four_nodes = local_cluster(4)


@pytest.mark.slow
def test_two_and_four_workers_give_the_loss_curves_of_one_process(
    tiny_base: Path, tmp_path: Path, four_nodes: str
) -> None:
    import ray

    from medtune.cluster.train import train as train_on

    assert len([node for node in ray.nodes() if node["Alive"]]) == 4
    here = prepared(small_recipe(tiny_base, "here"), tmp_path)
    expected = train(here.recipe(), here)
    for workers in (2, 4):
        recipe = small_recipe(tiny_base, f"on-{workers}", f"cluster.workers={workers}")
        run = prepared(recipe, tmp_path)
        trained = train_on(recipe, run)
        assert trained.steps == expected.steps
        assert curves(run) == pytest.approx(curves(here), abs=2e-5)
        assert trained.validation_loss < trained.validation_loss_before - 0.1
        assert load_tuned(run).peft_config
        assert run.read_json(run.manifest_file)["cluster"]["workers"] == workers
        assert not (run.folder / "cluster").exists(), "what was needed to go on is not needed now"


def test_what_cannot_work_is_said_before_anything_starts(
    tiny_base: Path, tmp_path: Path, four_nodes: str
) -> None:
    from medtune.cluster.train import train as train_on

    recipe = small_recipe(tiny_base, "three", "cluster.workers=3")
    run = prepared(recipe, tmp_path)
    with pytest.raises(MedtuneError, match="8 rows .* which 3 workers cannot share"):
        train_on(recipe, run)
    recipe = small_recipe(tiny_base, "three", "cluster.resources_per_worker={CPU: 99}")
    with pytest.raises(MedtuneError, match="1 workers need 99 CPU, and the cluster has"):
        train_on(recipe, run)


@pytest.mark.slow
def test_an_error_of_the_training_is_the_same_sentence_and_is_not_tried_again(
    tiny_base: Path, tmp_path: Path, four_nodes: str
) -> None:
    from medtune.cluster.train import train as train_on

    recipe = small_recipe(
        tiny_base, "bad", "training.learning_rate=1e30", "training.max_grad_norm=1e30"
    )
    run = prepared(recipe, tmp_path)
    with pytest.raises(MedtuneError, match="no number any more at step"):
        train_on(recipe, run)
    assert not run.adapter.exists()


@pytest.mark.slow
def test_two_actors_one_of_them_killed_give_the_same_results(
    tuned_run: Run, tmp_path: Path, four_nodes: str
) -> None:
    from medtune.cluster.evaluate import Actors
    from medtune.recipe import changed

    here, there = (Run(Path(shutil.copytree(tuned_run.folder, tmp_path / n))) for n in "ab")
    recipe = changed(tuned_run.recipe(), {"evaluation.batch_size": 2, "cluster.workers": 2})
    expected = evaluate(recipe, here)

    class Killing(Actors):
        """Kills one of the processes once the first batch is there."""

        killed = 0

        def compute(self, *asked: Any) -> Iterator[tuple[int, list[Any]]]:
            for answer in super().compute(*asked):
                yield answer
                if not self.killed:
                    self.killed = _kill_a_voice()

    actors = Killing(recipe, there)
    try:
        found = evaluate(recipe, there, actors)
    finally:
        actors.close()
    assert actors.killed
    for results in (expected, found):
        results.pop("seconds")
    assert found == expected


def _kill_a_voice() -> int:
    for process in psutil.process_iter(["pid", "cmdline"]):
        if "ray::Voice" in " ".join(process.info["cmdline"] or ()):
            os.kill(process.info["pid"], signal.SIGKILL)
            return process.info["pid"]
    return 0


def _recipe(base: Path) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "three",
            "model": {"base": str(base)},
            "data": {"limit": 60},
            "training": {"epochs": 40, "evaluate_every": 10, "samples": 0, "learning_rate": 1e-3},
            "evaluation": {"limit": 2, "max_new_tokens": 4},
            "experiments": [
                {"name": "long"},
                {"name": "short", "training.max_steps": 4},
                {"name": "bad", "adapter.targets": ["c_attn"]},
            ],
        }
    )


@pytest.mark.slow
def test_a_killed_experiment_alone_is_repeated_and_a_wrong_one_fails_alone(
    tiny_base: Path, tmp_path: Path, four_nodes: str
) -> None:
    from medtune.cluster.sweep import sweep

    killer = Killer("ray::three-long", Run(tmp_path / "three-long"))
    killer.start()
    told: list[str] = []
    result = sweep(_recipe(tiny_base), Run(tmp_path / "three"), told.append)
    killer.join()
    assert len(killer.killed) == 1
    assert {row.run for row in result.experiments} == {"three-long", "three-short"}
    assert "no projection c_attn" in result.failed["three-bad"]
    again: list[str] = []
    assert sweep(_recipe(tiny_base), Run(tmp_path / "three"), again.append).winner == result.winner
    assert sum(line.endswith("done before.") for line in again) == 2

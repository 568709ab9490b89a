"""On two and on four nodes a training takes the steps that it takes here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed (the extra `cluster`)")

from conftest import prepared, small_recipe

from medtune.errors import MedtuneError
from medtune.model.load import load_tuned
from medtune.run import Run
from medtune.training.train import train


def curves(run: Run) -> dict[tuple[int, str], float]:
    """Training loss, validation loss and gradient norm by step."""
    log = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    names = ("loss", "eval_loss", "grad_norm", "learning_rate")
    return {(entry["step"], name): entry[name] for entry in log for name in names if name in entry}


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

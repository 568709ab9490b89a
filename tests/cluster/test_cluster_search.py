"""``sweep --cluster`` with a search: trials side by side, each in a process that may die alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from clusters import Killer, local_cluster

from medtune.cluster.connect import _cores
from medtune.errors import MedtuneError
from medtune.recipe import Recipe
from medtune.run import Run

optuna = pytest.importorskip("optuna")


# Room for two trials at once, as they ask for all cores of a node.
two_nodes = local_cluster(2)


@pytest.mark.long
def test_a_search_has_several_trials_at_once_repeats_a_killed_one_and_ends_a_hopeless_one(
    tiny_base: Path, tmp_path: Path, two_nodes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medtune.cluster.sweep import sweep

    monkeypatch.setattr("medtune.experiments.search._UNPRUNED_TRIALS", 1)
    recipe = Recipe.model_validate(
        {
            "name": "hunt",
            "model": {"base": str(tiny_base)},
            "data": {"limit": 60},
            "training": {"max_steps": 40, "evaluate_every": 5, "samples": 0},
            "evaluation": {"limit": 2, "max_new_tokens": 4, "metrics": ["perplexity"]},
            "cluster": {"resources_per_worker": {"CPU": max(1, _cores() // 2)}},
            # Of this seed the first two trials learn and the third does not.
            "search": {
                "space": {"training.learning_rate": [1e-8, 3e-3]},
                "trials": 3,
                "seed": 0,
            },
        }
    )
    killer = Killer("ray::hunt-trial-001", Run(tmp_path / "hunt-trial-001"))
    killer.start()
    told: list[str] = []
    result = sweep(recipe, Run(tmp_path / "hunt"), told.append)
    killer.join()
    assert len(killer.killed) == 1
    assert {row.run for row in result.experiments} == {"hunt-trial-001", "hunt-trial-002"}
    assert "validation loss" in result.pruned["hunt-trial-003"], told
    assert not result.failed
    assert result.winner is not None
    assert Run(tmp_path / result.winner).results_file.exists(), "the winner alone is evaluated"
    assert sum(Run(path).results_file.exists() for path in tmp_path.glob("hunt-trial-*")) == 1
    study = optuna.load_study(
        study_name="hunt", storage=f"sqlite:///{Run(tmp_path / 'hunt').study_file}"
    )
    first, second, _ = study.trials
    assert second.datetime_start < first.datetime_complete, "one after the other"
    again: list[str] = []
    assert sweep(recipe, Run(tmp_path / "hunt"), again.append) == result
    assert not again, "what is done is done"


def test_what_fits_on_no_node_is_said_before_anything_starts(
    tmp_path: Path, two_nodes: str
) -> None:
    from medtune.cluster.sweep import sweep

    recipe = Recipe.model_validate(
        {
            "name": "hunt",
            "cluster": {"resources_per_worker": {"CPU": 999}},
            "search": {"space": {"training.learning_rate": [1e-8, 3e-3]}},
        }
    )
    with pytest.raises(MedtuneError, match="no node of the cluster has 999 CPU"):
        sweep(recipe, Run(tmp_path / "hunt"))

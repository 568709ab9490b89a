"""The search of a recipe: Optuna proposes settings, each trial is a training of its own.

The study lies in the sweep's run as a SQLite file that Optuna's own tools read.  What a trial is
drawn from depends on the seed, its number and the trials before it, so a search that was
interrupted goes on to the same trials as one that was not.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medtune.errors import MedtuneError
from medtune.experiments.alone import Stopped, train_alone
from medtune.recipe import Range, Recipe
from medtune.run import Run
from medtune.training.callbacks import read_metrics

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution

_UNPRUNED_TRIALS, _UNPRUNED_EVALUATIONS = 3, 1
"""A median of fewer trials says little, and so does the first evaluation of a training."""


@dataclass(frozen=True)
class Trials:
    """What a search came to."""

    finished: tuple[tuple[Recipe, dict[str, Any]], ...]
    """Recipes that were trained to their end, each with the settings that the search chose."""
    pruned: dict[str, str]
    """Runs that were ended early, with the reason."""
    failed: dict[str, str]


def search(recipe: Recipe, run: Run, say: Callable[[str], None] = print) -> Trials:
    """Train as many trials as the recipe asks for; those that are done already count.

    Args:
        recipe: with ``search.space``.
        run: the sweep's own; the study is kept there.  The trials are runs beside it.
        say: told what begins and how it ended.

    Raises:
        MedtuneError: Optuna is not installed, or the search was interrupted.
    """
    study = _study(recipe, run)
    from optuna.trial import Trial, TrialState

    for left_over in study.get_trials(states=(TrialState.RUNNING,)):
        _carry_out(recipe, run, study, Trial(study, left_over._trial_id), say)
    while len(study.trials) < recipe.search.trials:
        study.sampler = _sampler(recipe, len(study.trials))
        _carry_out(recipe, run, study, study.ask(_distributions(recipe)), say)
    return _summary(recipe, study)


def _carry_out(
    recipe: Recipe, run: Run, study: Study, trial: Trial, say: Callable[[str], None]
) -> None:
    from optuna.trial import TrialState

    chosen = {**trial.params}
    settings = recipe.trial(trial.number, chosen)
    one = Run(run.folder.parent / settings.name)
    said = ", ".join(f"{key}={_shown(value)}" for key, value in chosen.items())
    say(f"Trial {trial.number + 1} of {recipe.search.trials}, {one.name}: {said}")
    others = [
        Run(run.folder.parent / f"{recipe.name}-trial-{n + 1:03d}") for n in range(trial.number)
    ]
    told = len(study.trials[trial.number].intermediate_values)

    def hopeless() -> bool:
        nonlocal told
        losses = _validation_losses(one)
        for number in range(told, len(losses)):
            trial.report(losses[number], number + 1)
        told = max(told, len(losses))
        return told > 0 and trial.should_prune()

    try:
        reason = train_alone(settings, one, others, hopeless)
    except Stopped:
        last = _validation_losses(one)[-1]
        shutil.rmtree(one.checkpoints, ignore_errors=True)  # nobody goes on from there
        trial.set_user_attr("reason", f"validation loss {last:.3f} after evaluation {told}")
        study.tell(trial, state=TrialState.PRUNED)
        say(f"{one.name} was ended early: validation loss {last:.3f} is above the median.")
        return
    if reason is not None:
        trial.set_user_attr("reason", reason)
        study.tell(trial, state=TrialState.FAIL)
        say(f"{one.name} failed: {reason}")
        return
    study.tell(trial, float(one.read_json(one.training_file)["validation_loss"]))


def _study(recipe: Recipe, run: Run) -> Study:
    try:
        import optuna
    except ImportError:
        raise MedtuneError(
            "`search:` in a recipe needs Optuna; install it with `pip install 'medtune[search]'`."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Lists, such as adapter.targets, come back from the file as they were written.
    warnings.filterwarnings("ignore", message="Choices for a categorical distribution")
    run.study_file.parent.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.NopPruner()
    if recipe.search.pruner == "median":
        pruner = optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, _UNPRUNED_EVALUATIONS)
    made_with = _made_with(recipe)

    def opened() -> Study:
        return optuna.create_study(
            storage=f"sqlite:///{run.study_file.resolve()}",
            study_name=recipe.name,
            direction="minimize",
            pruner=pruner,
            load_if_exists=True,
        )

    study = opened()
    if study.user_attrs.get("recipe", made_with) != made_with:
        optuna.delete_study(study_name=recipe.name, storage=f"sqlite:///{run.study_file.resolve()}")
        study = opened()
    study.set_user_attr("recipe", made_with)
    return study


def _made_with(recipe: Recipe) -> str:
    """What makes two searches the same one; more trials may be asked of it later."""
    tree = recipe.model_dump(mode="json", exclude={"experiments": True, "search": {"trials"}})
    return json.dumps(tree, sort_keys=True)


def _sampler(recipe: Recipe, trials_before: int) -> Any:
    from optuna.samplers import TPESampler

    section = recipe.search
    return TPESampler(n_startup_trials=section.random_trials, seed=section.seed + trials_before)


def _distributions(recipe: Recipe) -> dict[str, BaseDistribution]:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    found: dict[str, BaseDistribution] = {}
    for key, values in recipe.search.space.items():
        if not isinstance(values, Range):
            found[key] = CategoricalDistribution(values)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            found[key] = IntDistribution(values.low, values.high, log=values.log)
        else:
            found[key] = FloatDistribution(values.low, values.high, log=values.log)
    return found


def _validation_losses(run: Run) -> list[float]:
    """Of a training that may still run; that of the untrained adapter is left out."""
    entries = read_metrics(run.metrics_file)
    return [entry["eval_loss"] for entry in entries if "eval_loss" in entry and entry["step"] > 0]


def _summary(recipe: Recipe, study: Study) -> Trials:
    from optuna.trial import TrialState

    finished: list[tuple[Recipe, dict[str, Any]]] = []
    pruned: dict[str, str] = {}
    failed: dict[str, str] = {}
    for trial in study.trials:
        settings = recipe.trial(trial.number, trial.params)
        if trial.state == TrialState.COMPLETE:
            finished.append((settings, {**trial.params}))
        elif trial.state == TrialState.PRUNED:
            pruned[settings.name] = trial.user_attrs["reason"]
        elif trial.state == TrialState.FAIL:
            failed[settings.name] = trial.user_attrs.get("reason", "it was given up")
    return Trials(tuple(finished), pruned, failed)


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

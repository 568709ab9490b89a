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
    """Train as many trials as the recipe asks for, one after the other; those done already count.

    Args:
        recipe: with ``search.space``.
        run: the sweep's own; the study is kept there.  The trials are runs beside it.
        say: told what begins and how it ended.

    Raises:
        MedtuneError: Optuna is not installed, or the search was interrupted.
    """
    going = Search(recipe, run, say)
    while (attempt := going.next()) is not None:
        try:
            attempt.ended(train_alone(attempt.settings, attempt.run, attempt.others, attempt.stop))
        except Stopped:
            attempt.pruned()
    return going.summary()


class Search:
    """A study that goes on from where it stood.

    Args:
        recipe: with ``search.space``.
        run: the sweep's own.
        say: told what begins and how it ended.
        at_once: how many trials may be under way together.

    Raises:
        MedtuneError: Optuna is not installed.
    """

    def __init__(
        self, recipe: Recipe, run: Run, say: Callable[[str], None], *, at_once: int = 1
    ) -> None:
        self._study = _study(recipe, run)
        from optuna.trial import Trial, TrialState

        self._recipe, self._run, self._say, self._at_once = recipe, run, say, at_once
        self._left_over = [
            Trial(self._study, trial._trial_id)
            for trial in self._study.get_trials(states=(TrialState.RUNNING,))
        ]

    def next(self) -> Attempt | None:
        """A trial that was interrupted, or a new one; None when there are enough."""
        if self._left_over:
            return Attempt(self._recipe, self._run, self._study, self._left_over.pop(0), self._say)
        number = len(self._study.trials)
        if number >= self._recipe.search.trials:
            return None
        self._study.sampler = _sampler(self._recipe, number, self._at_once)
        trial = self._study.ask(_distributions(self._recipe))
        return Attempt(self._recipe, self._run, self._study, trial, self._say)

    def summary(self) -> Trials:
        return _summary(self._recipe, self._study)


class Attempt:
    """One trial, from its settings to what is told of its end."""

    def __init__(
        self, recipe: Recipe, run: Run, study: Study, trial: Trial, say: Callable[[str], None]
    ) -> None:
        self._study, self._trial, self._say = study, trial, say
        self.settings = recipe.trial(trial.number, {**trial.params})
        folder = run.folder.parent
        self.run = Run(folder / self.settings.name)
        self.others = [Run(folder / recipe.trial_name(n)) for n in range(trial.number)]
        """Trials whose rows may be taken over."""
        self._told = len(study.trials[trial.number].intermediate_values)
        said = ", ".join(f"{key}={_shown(value)}" for key, value in trial.params.items())
        say(f"Trial {trial.number + 1} of {recipe.search.trials}, {self.run.name}: {said}")

    def stop(self) -> bool:
        """Whether the validation losses so far are hopeless; the study is told of them."""
        losses = _validation_losses(self.run)
        for number in range(self._told, len(losses)):
            self._trial.report(losses[number], number + 1)
        self._told = max(self._told, len(losses))
        return self._told > 0 and self._trial.should_prune()

    def pruned(self) -> None:
        """It was stopped early."""
        from optuna.trial import TrialState

        last = _validation_losses(self.run)[-1]
        shutil.rmtree(self.run.checkpoints, ignore_errors=True)  # nobody goes on from there
        reason = f"validation loss {last:.3f} after evaluation {self._told}"
        self._trial.set_user_attr("reason", reason)
        self._study.tell(self._trial, state=TrialState.PRUNED)
        self._say(
            f"{self.run.name} was ended early: validation loss {last:.3f} is above the median."
        )

    def ended(self, reason: str | None) -> None:
        """It was trained to its end, or failed for a reason."""
        from optuna.trial import TrialState

        if reason is None:
            training = self.run.read_json(self.run.training_file)
            self._study.tell(self._trial, float(training["validation_loss"]))
            return
        self._trial.set_user_attr("reason", reason)
        self._study.tell(self._trial, state=TrialState.FAIL)
        self._say(f"{self.run.name} failed: {reason}")


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


def _sampler(recipe: Recipe, trials_before: int, at_once: int = 1) -> Any:
    from optuna.samplers import TPESampler

    section = recipe.search
    return TPESampler(
        n_startup_trials=section.random_trials,
        seed=section.seed + trials_before,
        # Trials that run together would be near each other: none knows how the others end.
        constant_liar=at_once > 1,
    )


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

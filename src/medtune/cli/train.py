from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtune.cli.arguments import ClusterAddress, Overrides, RecipeName, Runs


def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
    cluster: ClusterAddress = None,
    runs: Runs = Path("runs"),
) -> None:
    """Train an adapter by a recipe, after preparing its data if need be.

    On a cluster a training that was cut off goes on by itself when it is started again.

    Example: medtune train embedded-qlora training.epochs=3 name=longer
    """
    from medtune.cli.arguments import recipe_and_run
    from medtune.cli.output import say, training_sentence
    from medtune.data.prepare import is_prepared
    from medtune.data.prepare import prepare as prepare_data
    from medtune.model.load import float16_note, load_tokenizer
    from medtune.training.checkpoints import check_same
    from medtune.training.train import train as train_adapter

    settings, run = recipe_and_run(recipe, overrides, runs)
    if resume:  # before anything of the run is replaced
        check_same(settings, run)
    goal = settings.publishing
    if goal.push_to:
        from medtune.publishing.hub import check_access

        check_access(goal.push_to, private=goal.private, say=say)
    tokenizer = load_tokenizer(settings.model)
    if not is_prepared(settings.data, run, tokenizer):
        prepare_data(settings.data, run, tokenizer, say)
    run.keep(settings)
    note = float16_note(settings.model)
    if note:
        say(note)
    if cluster is None:
        trained = train_adapter(settings, run, resume=resume)
    else:
        from medtune.cluster.connect import connected

        with connected(cluster):
            from medtune.cluster.train import train as train_on

            trained = train_on(settings, run, say)
    say(training_sentence(trained))
    if goal.push_to:
        from medtune.publishing.hub import collect, push

        folder = collect(run, goal.push_to, goal.what)
        say(f"Pushed to {push(folder, goal.push_to, private=goal.private, say=say).url}.")
    kept = run.adapter if settings.adapter.method != "none" else run.full_model
    say(f"The trained weights are in {kept}. Next: medtune evaluate {run.folder}")

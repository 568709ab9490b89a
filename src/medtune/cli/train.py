from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtune.cli.arguments import Overrides, RecipeName, Runs


def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Train an adapter by a recipe, after preparing its data if need be.

    Example: medtune train embedded-qlora training.epochs=3 name=longer
    """
    from medtune.cli.arguments import recipe_and_run
    from medtune.cli.output import say, training_sentence
    from medtune.data.prepare import is_prepared
    from medtune.data.prepare import prepare as prepare_data
    from medtune.model.load import load_tokenizer
    from medtune.training.train import train as train_adapter

    settings, run = recipe_and_run(recipe, overrides, runs)
    tokenizer = load_tokenizer(settings.model)
    if not is_prepared(settings.data, run, tokenizer):
        prepare_data(settings.data, run, tokenizer, say)
    run.keep(settings)
    say(training_sentence(train_adapter(settings, run, resume=resume)))
    say(f"The adapter is in {run.adapter}. Next: medtune evaluate {run.folder}")

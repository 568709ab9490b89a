from __future__ import annotations

from pathlib import Path

from medtune.cli.arguments import Overrides, RecipeName, Runs


def prepare(recipe: RecipeName, overrides: Overrides = None, runs: Runs = Path("runs")) -> None:
    """Read, clean, deduplicate and split the data of a recipe; what has not changed is not redone.

    Example: medtune prepare embedded-qlora data.source=dialogues.csv
    """
    from medtune.cli.arguments import recipe_and_run
    from medtune.cli.output import say
    from medtune.data.prepare import prepare as prepare_data
    from medtune.model.load import load_tokenizer

    settings, run = recipe_and_run(recipe, overrides, runs)
    prepare_data(settings.data, run, load_tokenizer(settings.model), say)
    run.keep(settings)
    say(f"Written to {run.card_page.parent}; {run.card_page} shows what was done.")

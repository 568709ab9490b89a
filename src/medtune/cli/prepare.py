from __future__ import annotations

from pathlib import Path

from medtune.cli.arguments import ClusterAddress, Overrides, RecipeName, Runs


def prepare(
    recipe: RecipeName,
    overrides: Overrides = None,
    cluster: ClusterAddress = None,
    runs: Runs = Path("runs"),
) -> None:
    """Read, clean, deduplicate and split the data of a recipe; what has not changed is not redone.

    Example: medtune prepare embedded-qlora data.source=dialogues.csv
    """
    from medtune.cli.arguments import recipe_and_run
    from medtune.cli.output import say
    from medtune.data.prepare import prepare as prepare_data
    from medtune.model.load import load_tokenizer

    settings, run = recipe_and_run(recipe, overrides, runs)
    tokenizer = load_tokenizer(settings.model)
    if cluster is None:
        prepare_data(settings.data, run, tokenizer, say)
    else:
        from medtune.cluster.connect import connected

        with connected(cluster) as address:
            from medtune.cluster.prepare import prepare as prepare_on

            prepare_on(settings.data, run, tokenizer, address, say)
    run.keep(settings)
    say(f"Written to {run.card_page.parent}; {run.card_page} shows what was done.")

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtune.cli.arguments import ClusterAddress, Overrides, RecipeName, Runs


def sweep(
    recipe: RecipeName,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print sweep.json instead.")] = False,
    cluster: ClusterAddress = None,
    runs: Runs = Path("runs"),
) -> None:
    """Train and evaluate every experiment of a recipe, search where it says so, and compare.

    The same command goes on after an interruption.  Exits with 1 if an experiment failed.

    Example: medtune sweep tinyllama-flashcards
    """
    from rich.table import Table

    from medtune.cli.arguments import recipe_and_run
    from medtune.cli.output import out, say
    from medtune.experiments.page import COLUMNS, cells, verdict, write_page
    from medtune.experiments.sweep import sweep as carry_out

    settings, run = recipe_and_run(recipe, overrides, runs)
    told = (lambda _: None) if as_json else say
    if cluster is None:
        result = carry_out(settings, run, told)
    else:
        from medtune.cluster.connect import connected

        with connected(cluster):
            from medtune.cluster.sweep import sweep as carry_out_on

            result = carry_out_on(settings, run, told)
    page = write_page(run, result)
    if as_json:
        typer.echo(run.sweep_file.read_text(encoding="utf-8"), nl=False)
    else:
        # On its side: fourteen columns fit no terminal.
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("")
        for row in result.experiments:
            table.add_column(row.run, justify="right")
        lines = zip(*(cells(row)[1:] for row in result.experiments), strict=True)
        for name, line in zip(COLUMNS[1:], lines, strict=bool(result.experiments)):
            table.add_row(name, *line)
        out.print(table)
        say(verdict(result))
        say(f"The page: {page}")
    if result.failed:
        raise typer.Exit(1)

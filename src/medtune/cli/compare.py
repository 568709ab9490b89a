from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtune.cli.arguments import Runs


def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Evaluated runs.")],
    page: Annotated[Path, typer.Option("--out", help="Where the page is written.")] = Path(
        "compare.html"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Several evaluated runs side by side, as a table and a page.

    Example: medtune compare small large --out compare.html
    """
    import json

    from rich.table import Table

    from medtune.cli.output import out, say
    from medtune.experiments.compare import compare as side_by_side
    from medtune.experiments.compare import write_page
    from medtune.run import Run

    found = side_by_side([Run.open(name, runs) for name in names])
    if as_json:
        keys = ("base", "tuned", "delta", "gate")
        figures = {c.name: {key: c.results[key] for key in keys} for c in found.columns}
        typer.echo(json.dumps({"same_rows": found.same_rows, "runs": figures}, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", *(column.name for column in found.columns)):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("gate", *("passed" if c.passed else "not passed" for c in found.columns))
    table.add_row("minutes", *(f"{c.seconds / 60:.1f}" for c in found.columns))
    for line in found.lines():
        cells = (f"{c['value']} ({c['ci']})" if c else "–" for c in line["cells"])
        table.add_row(line["label"], *cells)
    out.print(table)
    if not found.same_rows:
        say("These runs were prepared from different rows: hold each against its own base only.")
    say(f"The page is {write_page(found, page)}.")

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

feedback = typer.Typer(no_args_is_help=True, help="What people said about answers.")


@feedback.callback()
def _group() -> None:
    """What people said about answers.

    Example: medtune feedback export
    """


@feedback.command()
def export(
    store: Annotated[Path, typer.Option(help="The file that `medtune serve` kept.")] = Path(
        "runs/feedback.sqlite"
    ),
    out: Annotated[Path, typer.Option(help="Where the rows go, JSON lines.")] = Path(
        "feedback.jsonl"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Turn corrections, thumbs up and won votes into rows for `medtune prepare`, names taken out.

    Read the rows before you train on them: anybody who can open the page can write them.

    Example: medtune feedback export --out more.jsonl
    """
    import json

    from medtune.errors import MedtuneError
    from medtune.serving.feedback import write_rows
    from medtune.serving.store import Store

    if not store.is_file():
        raise MedtuneError(f"There is no store {store}; name the one of `medtune serve --store`.")
    opened = Store(store)
    records = opened.records()
    opened.close()
    rows = write_rows(records, out)
    if as_json:
        typer.echo(json.dumps({"records": len(records), "rows": rows, "file": str(out)}))
    else:
        typer.echo(f"{rows} rows from {len(records)} records in {out}.")

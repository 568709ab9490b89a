from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

audit = typer.Typer(no_args_is_help=True, help="The audit log of answers.")


@audit.callback()
def _group() -> None:
    """The audit log of answers.

    Example: medtune audit verify audit.jsonl
    """


@audit.command()
def verify(
    log: Annotated[Path, typer.Argument(help="The log, a file of JSON lines.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check that no line of the log was changed, removed or moved.

    Example: medtune audit verify audit.jsonl
    """
    import json
    from dataclasses import asdict

    from medtune.safety.audit import verify as check

    found = check(log)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    typer.echo(f"{log}: {found.lines} lines, the chain holds. Last hash: {found.last_hash}")

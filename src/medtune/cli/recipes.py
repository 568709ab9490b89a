from __future__ import annotations

from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe in full.")] = None,
) -> None:
    """List the shipped recipes, or show one.

    Example: medtune recipes embedded-qlora > mine.yaml
    """
    from medtune.errors import MedtuneError
    from medtune.recipe import shipped_recipes

    shipped = shipped_recipes()
    if name is None:
        width = max(map(len, shipped)) + 1
        for known, path in shipped.items():
            first = path.read_text(encoding="utf-8").splitlines()[0]
            typer.echo(f"{known:{width}} {first.lstrip('# ')}")
        return
    if name not in shipped:
        raise MedtuneError(
            f"There is no shipped recipe {name!r}; there are {', '.join(shipped)}.", 2
        )
    typer.echo(shipped[name].read_text(encoding="utf-8"), nl=False)

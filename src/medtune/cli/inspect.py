from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medtune.cli.arguments import Overrides, RecipeName, Runs


def inspect(
    recipe: RecipeName,
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    rows: Annotated[
        int, typer.Option("--rows", "-n", min=1, help="How many rows, drawn at random.")
    ] = 3,
    row: Annotated[str | None, typer.Option("--row", help="This row, by its id.")] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Write a page to this file.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print ids, texts and marks as JSON.")
    ] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Show rows as the model will see them: every token, trained ones in colour.

    Example: medtune inspect embedded-qlora data.limit=300 --rows 2 --html rows.html
    """
    import json
    from dataclasses import asdict

    from medtune.cli.arguments import recipe_and_run
    from medtune.cli.output import out, say
    from medtune.data.prepare import is_prepared
    from medtune.data.prepare import prepare as prepare_data
    from medtune.data.rows import read_split
    from medtune.errors import MedtuneError
    from medtune.model.load import load_tokenizer
    from medtune.run import SPLITS, whole
    from medtune.training.inspect import as_page, drawn_rows, tokens_of

    if split not in SPLITS:
        raise MedtuneError(f"There is no split {split!r}; there are {', '.join(SPLITS)}.", 2)
    wanted: Literal["train", "validation", "test"] = split  # type: ignore[assignment]
    settings, run = recipe_and_run(recipe, overrides, runs)
    tokenizer = load_tokenizer(settings.model)
    if not is_prepared(settings.data, run, tokenizer):
        prepare_data(settings.data, run, tokenizer, (lambda _: None) if as_json else say)
        run.keep(settings)
    prepared = read_split(run, wanted)
    if row is None:
        chosen = drawn_rows(prepared, rows, settings.data.seed)
    else:
        chosen = [r for r in prepared if r.id == row]
        if not chosen:
            raise MedtuneError(
                f"The {split} rows have no row {row!r}; it may be in another split, or in {run.dropped_file}."
            )
    shown = [(r, tokens_of(tokenizer, r)) for r in chosen]
    if as_json:
        typer.echo(json.dumps([{"id": r.id, "tokens": [asdict(t) for t in ts]} for r, ts in shown]))
        return
    if page is not None:
        with whole(page) as part:
            part.write_text(as_page(f"{settings.name}: {split} rows", shown), encoding="utf-8")
        say(f"Written to {page}.")
        return
    from rich.text import Text

    for r, tokens in shown:
        trained = sum(token.trained for token in tokens)
        out.rule(f"row {r.id}: {len(tokens)} tokens, {trained} trained", align="left")
        text = Text()
        for number, token in enumerate(tokens):
            style = (
                "bold magenta"
                if token.special
                else ("black on green" if number % 2 else "black on bright_green")
            )
            if not token.trained:
                style = "bold magenta" if token.special else ("dim" if number % 2 else "")
            elif token.special:
                style = "bold white on magenta"
            text.append(token.text, style)
            if "⏎" in token.text:
                text.append("\n")
        out.print(text)
    out.print(
        "[black on green]green[/]: trained, every other token darker; [bold magenta]magenta[/]: special tokens"
    )

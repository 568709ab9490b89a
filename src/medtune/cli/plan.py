from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtune.cli.arguments import Overrides, RecipeName, Runs

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from medtune.cluster.scaling import Scaled
    from medtune.training.plan import Plan

_COLOURS = (
    "cyan", "bright_cyan", "green", "yellow", "magenta", "blue", "bright_magenta", "bright_black", "white",
)  # fmt: skip
_BAR_WIDTH = 60


def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="t4, p100, l4, 4090, a100, a100-40, h100, cpu, or a memory such as 8GB; this machine if left out."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Also time and cost on 1, 2, 4 ... up to so many workers."),
    ] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Dollars an hour.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Predict memory by part, time and cost of a training, before anything is downloaded.

    Exits with 1 if it does not fit.

    Example: medtune plan llama3-8b-qlora --gpu t4
    """
    import json
    from dataclasses import asdict

    from medtune.cli.arguments import recipe_and_run
    from medtune.cli.output import out, say
    from medtune.training.plan import card_of
    from medtune.training.plan import plan as predict

    settings, run = recipe_and_run(recipe, overrides, runs)
    counted = None
    if run.card_json.exists():
        card = run.read_json(run.card_json)
        if card["settings"] == settings.data.model_dump(mode="json"):
            rows = card["rows"]
            share = rows["train"] / max(1, sum(rows[s] for s in ("train", "validation", "test")))
            counted = round(card["tokens"]["total"] * share)
    planned = predict(settings, card_of(gpu), counted=counted, price=price)
    scaled, assumed = [], []
    if workers is not None:
        from medtune.cluster.scaling import assumptions, scale

        scaled = scale(settings, planned, _doublings(workers))
        assumed = assumptions(planned)
    if as_json:
        facts = asdict(planned)
        facts["memory"]["total"] = planned.memory.total
        if scaled:
            facts["workers"] = [asdict(line) for line in scaled]
            facts["assumptions"] = assumed
        typer.echo(json.dumps(facts, indent=2))
    else:
        out.print(_table(planned))
        out.print(_bar(planned))
        for sentence in _sentences(settings.name, planned, settings.data.max_length):
            say(sentence)
        if scaled:
            out.print(_workers_table(scaled))
            out.print(_preparation_table(workers or 1))
            for sentence in assumed:
                say(sentence)
    if not planned.fits:
        raise typer.Exit(1)


def _table(planned: Plan) -> Table:
    from dataclasses import asdict

    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("predicted peak memory")
    table.add_column("GiB", justify="right")
    for colour, (part, size) in zip(_COLOURS, asdict(planned.memory).items(), strict=True):
        if size:
            table.add_row(f"[{colour}]■[/] {part.replace('_', ' ')}", f"{size / 2**30:.2f}")
    table.add_row("[bold]together", f"[bold]{planned.memory.total / 2**30:.2f}")
    table.add_row(planned.card.name, f"{planned.card.memory_gib:.1f}")
    return table


def _doublings(workers: int) -> list[int]:
    """1, 2, 4 ... and the number itself."""
    return sorted({*(2**n for n in range(workers.bit_length())), workers})


def _workers_table(scaled: list[Scaled]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("workers", "hours", "speed-up", "efficiency", "step, s", "exchange", "dollars"):
        table.add_column(column, justify="right")
    for line in scaled:
        table.add_row(
            str(line.workers),
            f"{line.hours:.2f}",
            f"{line.speed_up:.1f}",
            f"{100 * line.efficiency:.0f}%",
            f"{line.step_seconds:.2f}",
            f"{100 * line.exchange_share:.1f}%",
            "" if line.dollars is None else f"{line.dollars:.2f}",
        )
    return table


def _preparation_table(workers: int) -> Table:
    """Preparing 100 million dialogues on nodes of 64 cores."""
    from rich.table import Table

    from medtune.cluster.scaling import CORE_DOLLARS_PER_HOUR, preparation_hours

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("100 million dialogues prepared on", "hours", "dollars"):
        table.add_column(column, justify="right")
    for nodes in _doublings(workers):
        hours = preparation_hours(100_000_000, 64 * nodes)
        dollars = hours * 64 * nodes * CORE_DOLLARS_PER_HOUR
        table.add_row(f"{nodes} x 64 cores", f"{hours:.1f}", f"{dollars:.2f}")
    return table


def _bar(planned: Plan) -> Text:
    """The parts side by side, and what is left of the card's memory."""
    from dataclasses import asdict

    from rich.text import Text

    whole = max(planned.memory.total, planned.card.memory_gib * 2**30)
    text, done, drawn = Text(), 0, 0
    for colour, size in zip(_COLOURS, asdict(planned.memory).values(), strict=True):
        done += size
        upto = round(done / whole * _BAR_WIDTH)
        text.append("█" * (upto - drawn), colour)
        drawn = upto
    text.append("░" * (_BAR_WIDTH - drawn), "dim")
    text.append(f" {100 * planned.memory.total / (planned.card.memory_gib * 2**30):.0f}%")
    return text


def _sentences(name: str, planned: Plan, length: int) -> list[str]:
    fits = "It fits." if planned.fits else f"It does not fit on {planned.card.name}."
    sentences = [fits]
    if planned.changes:
        sentences.append(f"It would with: {' '.join(planned.changes)}")
    elif not planned.fits:
        sentences.append(
            "No change of batch, length or quantisation makes it; take a smaller base."
        )
    sentences.append(
        f"Trains {planned.trainable_parameters:,} of {planned.total_parameters:,} parameters "
        f"({100 * planned.trainable_parameters / planned.total_parameters:.2f}%)."
    )
    if planned.largest_batch:
        sentences.append(
            f"Largest batch with {length} tokens: {planned.largest_batch}; "
            f"largest length with this batch: {planned.largest_length} tokens."
        )
    if planned.tokens_per_second is None:
        sentences.append("Time is not predicted: only the memory of this card is known.")
    elif planned.seconds is None:
        sentences.append(
            f"About {planned.tokens_per_second:,.0f} tokens/s; how many there are is known after "
            "`medtune prepare`."
        )
    else:
        bound = "" if planned.tokens_are_counted else "at most "
        cost = "" if planned.dollars is None else f" and {bound}{planned.dollars:.2f} dollars"
        sentences.append(
            f"About {planned.tokens_per_second:,.0f} tokens/s (assumed from the arithmetic and the "
            f"card's speed): {bound}{_duration(planned.seconds)}{cost}."
        )
    return [*sentences, *planned.notes]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"

"""What the commands print: tables of results, and answers with headings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from medtune.training.train import Trained

out = Console(highlight=False)


def say(sentence: str) -> None:
    """Print a sentence; the terminal wraps it, so that a path or a command in it stays whole."""
    out.print(sentence, markup=False, soft_wrap=True)


def results_table(results: dict[str, Any]) -> Table:
    """Base against tuned with n and 95% intervals."""
    from medtune.evaluation.report import LABELS, moved, moved_between, shown

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "base", "tuned", "change (95% interval)", "n"):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, label in LABELS.items():
        if name not in results["base"]:
            continue
        base, tuned, delta = (results[key][name] for key in ("base", "tuned", "delta"))
        change = f"{moved(name, delta['value'])} ({moved_between(name, delta['ci'])})"
        table.add_row(
            label,
            shown(name, base["value"]),
            f"[bold]{shown(name, tuned['value'])}[/bold]",
            change,
            str(tuned["n"]),
        )
    return table


def benchmark_sentence(name: str, one: dict[str, Any]) -> str:
    """One benchmark's figures on one line."""
    from medtune.evaluation.report import BENCHMARK_LABELS

    left_out = f", {one['too_long']} too long for the model" if one["too_long"] else ""
    figures = ", ".join(
        f"{BENCHMARK_LABELS[key]} {one['base'][key]['value']:.3f} → {one['tuned'][key]['value']:.3f}"
        for key in one.get("delta", {})
    )
    chance = f", chance {one['chance']:.3f}" if "chance" in one else ""
    return f"{name} (n = {one['n']}{left_out}{chance}): {figures or 'nothing could be measured'}"


def harness_sentences(results: dict[str, Any]) -> list[str]:
    """A line for each figure of lm-evaluation-harness."""
    return [
        f"{task}: {metric} {sides['base']['value']:.3f} → {sides['tuned']['value']:.3f} "
        f"(lm-evaluation-harness, n = {sides['tuned']['n']})"
        for task, metrics in results.get("harness", {}).get("tasks", {}).items()
        for metric, sides in metrics.items()
    ]


def training_sentence(trained: Trained) -> str:
    early = ", stopped early" if trained.stopped_early else ""
    return (
        f"Trained {trained.trainable_parameters:,} parameters in {trained.steps} steps and "
        f"{trained.seconds:.0f} s ({trained.tokens_per_second:,.0f} tokens/s){early}; validation loss "
        f"{trained.validation_loss_before:.3f} before, {trained.validation_loss:.3f} after; "
        f"peak memory {trained.peak_memory_bytes / 2**30:.2f} GiB."
    )


@contextmanager
def converting() -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left, shown once a conversion reports its first weight."""
    console = Console(stderr=True)
    columns = (TextColumn("converting"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = None

        def advance(done: int, total: int) -> None:
            nonlocal task
            if task is None:
                task = progress.add_task("converting", total=total)
            progress.update(task, completed=done)

        yield advance

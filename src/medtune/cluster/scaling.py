"""How time and cost would change with the number of workers: arithmetic, and what it rests on.

A step of W workers takes the time of its arithmetic divided by W, the exchange of the adapter's
gradients, and what Ray adds.  Every constant is an assumption and is printed with the table; the first
three are what ``benchmarks/scaling.py`` measures, and a test holds them to its result file once there
is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medtune.errors import MedtuneError
from medtune.recipe import Recipe
from medtune.training.plan import Plan

OVERHEAD_OF_RAY = 0.0523
"""Share that a training takes longer in one worker of Ray than alone."""
STARTING_SECONDS = 29.8
"""From the command to the first step, and from the last step to the end."""
PREPARED_ROWS_PER_CORE_SECOND = 1495.0
"""Rows a second of the preparation on one core."""

GPUS_PER_MACHINE = 8
BANDWIDTH_WITHIN, BANDWIDTH_BETWEEN = 20e9, 5e9
"""Bytes a second that a ring of GPUs exchanges: PCIe 4.0 within a machine, 100 Gbit/s Ethernet at
40% between machines."""
LATENCY = 30e-6
"""Seconds of one hop of the ring."""
BYTES_OF_A_GRADIENT = 4
SLOWEST_OF = 0.02
"""Share by which the slowest of several workers lags behind their mean, at each doubling."""
PREPARATION_LOSS = 0.1
"""Share of every further core that is lost: rows move between nodes to be compared, and at the end
of each step cores wait for the last part."""
CORE_DOLLARS_PER_HOUR = 0.04


@dataclass(frozen=True)
class Scaled:
    """One line of the table."""

    workers: int
    step_seconds: float
    exchange_share: float
    """Of a step, spent on exchanging gradients."""
    hours: float
    speed_up: float
    efficiency: float
    dollars: float | None


def scale(recipe: Recipe, planned: Plan, counts: Sequence[int]) -> list[Scaled]:
    """Time and cost of the planned training on each number of workers, a card each.

    Args:
        recipe: the whole recipe; the rows of a step stay the same for any number of workers.
        planned: for one card, with its tokens counted or bounded.
        counts: of workers; those that the rows of a step cannot be divided by are left out.

    Raises:
        MedtuneError: the tokens or the speed of the card are not known.
    """
    if planned.tokens is None or not planned.tokens_per_second:
        raise MedtuneError(
            "How long it takes on several workers needs the number of tokens and a known card; run "
            "`medtune prepare` first, or set data.limit, and name the card with --gpu."
        )
    rows = recipe.training.batch_size * recipe.training.gradient_accumulation
    tokens = rows * recipe.data.max_length
    steps = planned.tokens / tokens
    alone = tokens / planned.tokens_per_second
    hourly = planned.card.dollars_per_hour
    table: list[Scaled] = []
    for workers in counts:
        if rows % workers:
            continue
        exchange = exchange_seconds(planned.trainable_parameters, workers)
        lag = 1 + SLOWEST_OF * max(0, workers - 1).bit_length()
        step = alone / workers * lag * (1 + OVERHEAD_OF_RAY) + exchange
        hours = (steps * step + STARTING_SECONDS) / 3600
        first = table[0].hours * table[0].workers if table else hours * workers
        table.append(
            Scaled(
                workers=workers,
                step_seconds=step,
                exchange_share=exchange / step,
                hours=hours,
                speed_up=first / hours,
                efficiency=first / hours / workers,
                dollars=None if hourly is None else hours * workers * hourly,
            )
        )
    return table


def exchange_seconds(parameters: int, workers: int) -> float:
    """A ring all-reduce: each worker sends and gets 2 (W - 1) / W of the gradients, in 2 (W - 1) hops.

    Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009.
    """
    if workers == 1:
        return 0.0
    bandwidth = BANDWIDTH_WITHIN if workers <= GPUS_PER_MACHINE else BANDWIDTH_BETWEEN
    sent = 2 * (workers - 1) / workers * parameters * BYTES_OF_A_GRADIENT
    return sent / bandwidth + 2 * (workers - 1) * LATENCY


def preparation_hours(rows: int, cores: int) -> float:
    """Hours that preparing so many rows takes."""
    useful = 1 + (cores - 1) * (1 - PREPARATION_LOSS)
    return rows / PREPARED_ROWS_PER_CORE_SECOND / useful / 3600


def assumptions(planned: Plan) -> list[str]:
    """What the table rests on, in sentences."""
    counted = "counted" if planned.tokens_are_counted else "at most: every row as long as allowed"
    return [
        f"Ray adds {100 * OVERHEAD_OF_RAY:.0f}% to a step and {STARTING_SECONDS:.0f} s to a "
        f"training; one core prepares {PREPARED_ROWS_PER_CORE_SECOND:.0f} rows a second "
        "(benchmarks/scaling.py).",
        f"Assumed: one {planned.card.name} per worker at {planned.tokens_per_second:,.0f} tokens/s (from "
        f"the arithmetic); {GPUS_PER_MACHINE} in a machine, gradients exchanged at "
        f"{BANDWIDTH_WITHIN / 1e9:.0f} GB/s within it and {BANDWIDTH_BETWEEN / 1e9:.0f} GB/s between "
        f"machines; the slowest worker lags {100 * SLOWEST_OF:.0f}% more at each doubling.",
        f"Tokens of the training: {planned.tokens:,} ({counted}).  The rows of an optimizer step stay "
        "the same, so more workers than rows bring nothing.",
        f"Assumed for the preparation: {100 * PREPARATION_LOSS:.0f}% of every further core is lost to "
        f"moving rows, a core costs {CORE_DOLLARS_PER_HOUR} dollars an hour.",
        "The first three were measured on two small nodes of one machine, nothing on a cluster.",
    ]

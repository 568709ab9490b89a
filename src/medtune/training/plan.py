"""``plan``: will it fit, how long will it take, what will it cost, before anything is loaded."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import yaml

from medtune.errors import MedtuneError
from medtune.model.shape import Shape, shape_of
from medtune.recipe import Recipe, changed
from medtune.training.footprint import GIB, Footprint, footprint

_UTILISATION, _UTILISATION_QUANTISED, _UTILISATION_CPU = 0.35, 0.25, 0.6
"""Share of the card's (on a CPU: the measured) matrix-product speed that a training reaches."""
_LARGEST_BATCH = 1024
_LENGTH_STEP = 32
_SHORTEST = 128


@dataclass(frozen=True)
class Card:
    """What a training would run on."""

    name: str
    memory_gib: float
    bfloat16: bool = True
    teraflops: float | None = None
    """Dense 16-bit matrix products; None where only the memory is known."""
    dollars_per_hour: float | None = None
    cpu: bool = False


@dataclass(frozen=True)
class Plan:
    """A prediction; nothing in it was measured but the speed of a CPU."""

    card: Card
    memory: Footprint
    fits: bool
    total_parameters: int
    trainable_parameters: int
    largest_batch: int
    """With the recipe's length; 0 if not even one row fits."""
    largest_length: int
    """With the recipe's batch."""
    tokens: int | None
    """Of the whole training; None where the number of rows is not known yet."""
    tokens_are_counted: bool
    """From prepared rows; otherwise every row counts as ``data.max_length``."""
    tokens_per_second: float | None
    seconds: float | None
    dollars: float | None
    changes: tuple[str, ...]
    """Overrides that make it fit; empty if it does or nothing would."""
    notes: tuple[str, ...]


def cards() -> dict[str, Card]:
    """The known cards by their short names."""
    text = resources.files("medtune.training").joinpath("cards.yaml").read_text(encoding="utf-8")
    return {name: Card(**facts) for name, facts in yaml.safe_load(text).items()}


def card_of(name: str | None) -> Card:
    """A known card, ``cpu``, a memory such as ``8GB``; None is this machine.

    Raises:
        MedtuneError: the name is none of these.
    """
    known = cards()
    if name is None:
        return _this_machine()
    name = name.lower()
    if name == "cpu":
        return _this_cpu()
    if name in known:
        return known[name]
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:gb|gib|g)", name)
    if size is None or not float(size[1]):
        raise MedtuneError(
            f"There is no card {name!r}; there are {', '.join(known)}, cpu, or a memory such as 8GB.",
            exit_code=2,
        )
    return Card(f"a GPU with {size[1]} GiB", float(size[1]))


def plan(
    recipe: Recipe, card: Card, *, counted: int | None = None, price: float | None = None
) -> Plan:
    """Predict memory, time and cost of a training.

    Args:
        recipe: the whole recipe.
        card: where it would run.
        counted: tokens of the rows to train on, where they have been prepared.
        price: dollars an hour, in place of the card's.

    Raises:
        MedtuneError: the base's shape cannot be had, or the adapter's targets do not exist.
    """
    shape = shape_of(recipe.model)
    tokens = _tokens(recipe, counted)
    rate = _tokens_per_second(recipe, shape, card)
    seconds = tokens / rate if tokens and rate else None
    hourly = card.dollars_per_hour if price is None else price
    method = recipe.adapter.method
    return Plan(
        card=card,
        memory=_footprint(recipe, shape, card),
        fits=_fits(recipe, shape, card),
        total_parameters=shape.parameters,
        trainable_parameters=(
            shape.parameters if method == "none" else shape.adapter_parameters(recipe.adapter)
        ),
        largest_batch=_largest(
            lambda n: _fits(changed(recipe, {"training.batch_size": n}), shape, card),
            _LARGEST_BATCH,
        ),
        largest_length=_LENGTH_STEP
        * _largest(
            lambda n: _fits(changed(recipe, {"data.max_length": n * _LENGTH_STEP}), shape, card),
            shape.positions // _LENGTH_STEP,
        ),
        tokens=tokens,
        tokens_are_counted=counted is not None,
        tokens_per_second=rate,
        seconds=seconds,
        dollars=None if seconds is None or hourly is None else seconds / 3600 * hourly,
        changes=_changes_that_make_it_fit(recipe, shape, card),
        notes=_notes(recipe, shape, card),
    )


def _footprint(recipe: Recipe, shape: Shape, card: Card) -> Footprint:
    return footprint(recipe, shape, width=_width(recipe, card), cpu=card.cpu)


def _fits(recipe: Recipe, shape: Shape, card: Card) -> bool:
    return _footprint(recipe, shape, card).total <= card.memory_gib * GIB


def _width(recipe: Recipe, card: Card) -> int:
    """Bytes of a number in the arithmetic."""
    if recipe.model.dtype == "auto":
        return 4 if card.cpu and not card.bfloat16 else 2
    return 4 if recipe.model.dtype == "float32" else 2


def _largest(fits: Callable[[int], bool], limit: int) -> int:
    """The largest n up to ``limit`` that fits, by halving; 0 if none does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _changes_that_make_it_fit(recipe: Recipe, shape: Shape, card: Card) -> tuple[str, ...]:
    """The mildest changes first, as many as it takes, and none that the others make needless."""
    if _fits(recipe, shape, card):
        return ()
    made: dict[str, object] = {}
    for step in _milder(recipe):
        made.update(step)
        if _fits(changed(recipe, made), shape, card):
            break
    else:
        return ()
    for key in list(made):
        fewer = {k: v for k, v in made.items() if k != key}
        if key != "training.gradient_accumulation" and _fits(changed(recipe, fewer), shape, card):
            made = fewer
    if "training.batch_size" not in made:
        made.pop("training.gradient_accumulation", None)
    return tuple(f"{key}={str(value).lower()}" for key, value in made.items())


def _milder(recipe: Recipe) -> list[dict[str, object]]:
    """Changes that save memory, those that leave the result alone first."""
    section, steps = recipe.training, []
    if not section.gradient_checkpointing:
        steps.append({"training.gradient_checkpointing": True})
    batch, accumulation = section.batch_size, section.gradient_accumulation
    while batch % 2 == 0:
        batch, accumulation = batch // 2, accumulation * 2
        steps.append({"training.batch_size": batch, "training.gradient_accumulation": accumulation})
    if recipe.adapter.method == "none":
        steps.append({"adapter.method": "lora", "training.learning_rate": 2e-4})
    if recipe.model.quantization != "nf4" and recipe.adapter.init == "default":
        steps.append({"model.quantization": "nf4"})
    length = recipe.data.max_length // 2
    while length >= _SHORTEST:
        steps.append({"data.max_length": length})
        length //= 2
    return steps


def _tokens(recipe: Recipe, counted: int | None) -> int | None:
    section, length = recipe.training, recipe.data.max_length
    all_steps = None
    if section.max_steps:
        all_steps = section.max_steps * section.batch_size * section.gradient_accumulation * length
    if counted is not None:
        once = counted
    elif recipe.data.limit:
        share = 1 - recipe.data.validation - recipe.data.test
        once = round(recipe.data.limit * share) * length
    else:
        return all_steps
    every = round(section.epochs * once)
    return every if all_steps is None else min(every, all_steps)


def _tokens_per_second(recipe: Recipe, shape: Shape, card: Card) -> float | None:
    """From the arithmetic of a token: two operations a weight forward, two for the gradient of
    the activations, two for that of the weights if they are trained; and the attention."""
    if card.teraflops is None:
        return None
    passes = 3 if recipe.adapter.method == "none" else 2
    passes += recipe.training.gradient_checkpointing
    multiplied = shape.projection_parameters + shape.vocabulary * shape.hidden
    attention = 2 * shape.layers * shape.heads * shape.head_width * recipe.data.max_length
    operations = passes * (2 * multiplied + attention)
    share = _UTILISATION_QUANTISED if recipe.model.quantization != "none" else _UTILISATION
    return card.teraflops * 1e12 * (_UTILISATION_CPU if card.cpu else share) / operations


def _notes(recipe: Recipe, shape: Shape, card: Card) -> tuple[str, ...]:
    notes = []
    if not card.bfloat16 and not card.cpu and recipe.model.dtype == "auto":
        notes.append(f"The {card.name} has no bfloat16, so it trains in float16.")
    if not card.bfloat16 and recipe.model.dtype == "bfloat16":
        notes.append(f"The {card.name} computes bfloat16 slowly; leave model.dtype on auto.")
    if recipe.data.max_length > shape.positions:
        notes.append(
            f"data.max_length is {recipe.data.max_length}, but the base was made for "
            f"{shape.positions} tokens."
        )
    return tuple(notes)


def _this_machine() -> Card:
    import torch

    if not torch.cuda.is_available():
        return _this_cpu()
    properties = torch.cuda.get_device_properties(0)
    bfloat16 = torch.cuda.is_bf16_supported(False)
    known = next((c for c in cards().values() if c.name.split()[-1] in properties.name), None)
    return Card(
        properties.name,
        round(properties.total_memory / GIB, 1),
        bfloat16,
        known.teraflops if known else None,
        known.dollars_per_hour if known else None,
    )


def _this_cpu() -> Card:
    """This machine without a GPU; its speed is measured on one large product."""
    import os

    import torch

    from medtune.model.load import cpu_dtype

    dtype = cpu_dtype()
    one, two = torch.ones(1024, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        torch.matmul(one, two)
        best = min(best, time.perf_counter() - started)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    return Card(
        name=f"this CPU with {torch.get_num_threads()} threads",
        memory_gib=round(memory, 1),
        bfloat16=dtype == torch.bfloat16,
        teraflops=2 * 1024**3 / best / 1e12,
        cpu=True,
    )

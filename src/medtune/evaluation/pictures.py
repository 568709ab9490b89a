"""The report's pictures, as SVG text that stands in the page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

BASE_COLOUR, TUNED_COLOUR, INK = "#8a8f98", "#0b6e63", "#3c4149"


def loss_curves(log: Sequence[dict[str, Any]]) -> str:
    """Training and validation loss over the steps."""
    figure, axes = _figure(6.4, 2.9)
    _draw_losses(axes, log)
    axes.set_ylabel("loss per token (nats)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure, "Training and validation loss over the steps")


def curves_side_by_side(logs: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """Training and validation loss of several runs, one picture each on one scale.

    Args:
        logs: the lines of ``metrics.jsonl`` by the run's name.
    """
    columns = min(3, len(logs))
    lines = -(-len(logs) // columns)
    figure, axes = _figure(3.6 * columns, 2.6 * lines, lines=lines, columns=columns)
    places = iter(axes.flat if len(logs) > 1 else [axes])
    for place, (name, log) in zip(places, logs.items(), strict=False):
        _draw_losses(place, log)
        place.set_title(name, fontsize=9)
    for place in places:
        place.set_axis_off()
    first = axes.flat[0] if len(logs) > 1 else axes
    first.set_ylim(bottom=0)
    first.set_ylabel("loss per token (nats)")
    first.legend(frameon=False)
    return _svg(figure, f"Training and validation loss of {', '.join(logs)}")


def _draw_losses(axes: Any, log: Sequence[dict[str, Any]]) -> None:
    train = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    held_out = [(entry["step"], entry["eval_loss"]) for entry in log if "eval_loss" in entry]
    if train:
        axes.plot(*zip(*train, strict=True), color=BASE_COLOUR, linewidth=1.2, label="training")
    if held_out:
        axes.plot(
            *zip(*held_out, strict=True),
            color=TUNED_COLOUR,
            marker="o",
            markersize=4,
            label="validation",
        )
    axes.set_xlabel("step")


def bars(results: dict[str, Any], names: dict[str, str]) -> str:
    """The rates of base and tuned with their 95% intervals."""
    sides = {who: results[who] for who in ("base", "tuned")}
    colours = {"base": BASE_COLOUR, "tuned": TUNED_COLOUR}
    return rate_bars(sides, names, colours)


def rate_bars(
    sides: Mapping[str, dict[str, Any]], names: dict[str, str], colours: Mapping[str, str]
) -> str:
    """Rates of several speakers or runs with their 95% intervals, one group of bars for each rate.

    Args:
        sides: scores by metric, by the name in the legend.
        names: the metrics to show and what they are called.
        colours: by the name in the legend.
    """
    rates = [name for name in names if any(name in side for side in sides.values())]
    thick = 0.76 / max(1, len(sides))
    figure, axes = _figure(6.4, max(0.62, 0.3 * len(sides)) * len(rates) + 0.9)
    for k, (who, side) in enumerate(sides.items()):
        offset = (k - (len(sides) - 1) / 2) * thick
        there = [(i, side[name]) for i, name in enumerate(rates) if name in side]
        values = [100 * s["value"] for _, s in there]
        # Rounding can put a bound a hair on the wrong side of the value.
        below = [max(0.0, 100 * (s["value"] - s["ci"][0])) for _, s in there]
        above = [max(0.0, 100 * (s["ci"][1] - s["value"])) for _, s in there]
        places = [i + offset for i, _ in there]
        axes.barh(places, values, height=0.9 * thick, color=colours[who], label=who)
        axes.errorbar(
            values, places, xerr=[below, above], fmt="none", ecolor=INK, capsize=2, linewidth=1
        )
        for place, value, more in zip(places, values, above, strict=True):
            axes.annotate(
                f"{value:.0f}%",
                (value + more, place),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
    axes.set_yticks(range(len(rates)), [names[name] for name in rates])
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("% of test rows, with 95% interval")
    figure.legend(frameon=False, loc="outside upper center", ncols=min(4, len(sides)))
    return _svg(figure, f"Rates of {' and '.join(sides)}; the table has the same figures")


def reliability(sides: Mapping[str, dict[str, Any] | None], title: str) -> str:
    """How often an answer was right, by how sure the model was of it; larger dots are more answers.

    Args:
        sides: the ``bins`` of ``calibration`` by the name in the legend; None is left out.
        title: what was asked, for those who do not see the picture.
    """
    figure, axes = _figure(4.2, 3.6)
    axes.plot([0, 100], [0, 100], color=INK, linewidth=1.4, linestyle=":", label="as it should be")
    colours = {"base": BASE_COLOUR, "tuned": TUNED_COLOUR}
    for who, found in sides.items():
        bins = found["bins"] if found else []
        if not bins:
            continue
        sure, right = ([100 * one[key] for one in bins] for key in ("confidence", "right"))
        most = max(one["n"] for one in bins)
        axes.plot(sure, right, color=colours[who], linewidth=1.2, label=who)
        axes.scatter(sure, right, [8 + 60 * one["n"] / most for one in bins], color=colours[who])
    axes.set_xlim(0, 103)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("how sure the model was (%)")
    axes.set_ylabel("how often it was right (%)")
    figure.legend(frameon=False, loc="outside upper center", ncols=3, fontsize=8)
    return _svg(figure, f"Calibration: {title}")


def _figure(width: float, height: float, *, lines: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """One pair of axes, or a grid of several that share their loss axis."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.fonttype"] = "none"  # text stays text: small, sharp and readable aloud
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
    return figure, grid if lines * columns > 1 else grid[0, 0]


def _svg(figure: Any, title: str) -> str:
    """The figure as SVG text with a name for those who do not see it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(
        "<svg", f'<svg role="img" aria-label="{escape(title)}"', 1
    )

"""The report's pictures, as SVG text that stands in the page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

BASE_COLOUR, TUNED_COLOUR, INK = "#8a8f98", "#0b6e63", "#3c4149"


def loss_curves(log: Sequence[dict[str, Any]]) -> str:
    """Training and validation loss over the steps."""
    figure, axes = _figure(6.4, 2.9)
    _draw_losses(axes, log)
    axes.set_ylabel("loss per token (nats)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure)


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
    return _svg(figure)


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
    rates = [name for name in names if name in results["base"]]
    figure, axes = _figure(6.4, 0.62 * len(rates) + 0.9)
    for offset, who, colour in ((-0.19, "base", BASE_COLOUR), (0.19, "tuned", TUNED_COLOUR)):
        scores = [results[who][name] for name in rates]
        values = [100 * s["value"] for s in scores]
        # Rounding can put a bound a hair on the wrong side of the value.
        below = [max(0.0, 100 * (s["value"] - s["ci"][0])) for s in scores]
        above = [max(0.0, 100 * (s["ci"][1] - s["value"])) for s in scores]
        places = [i + offset for i in range(len(rates))]
        axes.barh(places, values, height=0.34, color=colour, label=who)
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
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2)
    return _svg(figure)


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


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

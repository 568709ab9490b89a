"""The data card's pictures, as SVG text that stands in the page."""

from __future__ import annotations

import io
from typing import Any

_INK, _MARK, _LIMIT = "#3c4149", "#0b6e63", "#a3261c"
_LONGEST_LABEL = 28
_WIDTH = 4.4
"""Inches; shown smaller on a telephone, where the letters must stay readable."""


def funnel(steps: list[dict[str, Any]]) -> str:
    """Rows that are left after each step, as bars."""
    return top({step["step"]: step["rows"] for step in steps})


def top(rows: dict[str, int]) -> str:
    """Named counts as bars, in the order given."""
    figure, axes = _figure(0.3 * len(rows) + 0.6)
    names = [n if len(n) <= _LONGEST_LABEL else f"{n[: _LONGEST_LABEL - 1]}…" for n in rows]
    axes.barh(range(len(rows)), list(rows.values()), height=0.66, color=_MARK)
    for place, value in enumerate(rows.values()):
        axes.annotate(
            f"{value:,}",
            (value, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_INK,
        )
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(1, *rows.values()))
    axes.set_xlabel("rows")
    return _svg(figure)


def histogram(bins: list[dict[str, int]], limit: int) -> str:
    """Rows by their length in tokens, with the limit where it is near."""
    figure, axes = _figure(2.6)
    starts = [b["from"] for b in bins]
    widths = [b["to"] - b["from"] for b in bins]
    axes.bar(starts, [b["rows"] for b in bins], width=widths, align="edge", color=_MARK)
    # Far beyond the rows it would press them into a corner.
    if limit <= 3 * bins[-1]["to"]:
        axes.axvline(limit, color=_LIMIT, linewidth=1)
        axes.annotate("max_length", (limit, axes.get_ylim()[1]), (-4, -2), textcoords="offset points",
                      ha="right", va="top", fontsize=8, color=_LIMIT)  # fmt: skip
    axes.set_xlabel("tokens")
    axes.set_ylabel("rows")
    return _svg(figure)


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib import rcParams
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rcParams["svg.fonttype"] = "none"  # text stays text: small, sharp and readable aloud
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
    for axis in (axes.xaxis, axes.yaxis):  # there are no half rows
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    return figure, axes


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

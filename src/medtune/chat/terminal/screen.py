"""What is shown: Markdown while it is being written, two answers side by side, the medical card."""

from __future__ import annotations

import re
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.markdown import Markdown
from rich.panel import Panel
from rich.text import Text

from medtune.chat.exports import URGENCY_WORDS
from medtune.chat.transcript import with_headings

if TYPE_CHECKING:
    from rich.live import Live

    from medtune.chat.consultation import Consultation

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # would steer the terminal
_STYLES = {"emergency": "bold white on red", "urgent_same_day": "bold yellow"}


class StreamedMarkdown:
    """Markdown as it comes: paragraphs that are done are printed for good, the last is redrawn.

    Redrawing everything would flicker and, once it is taller than the screen, repeat itself.
    Where the output is no terminal the text goes out as it is.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open = ""
        self._live: Live | None = None

    def __enter__(self) -> StreamedMarkdown:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(
                console=self._console, transient=True, auto_refresh=False, vertical_overflow="crop"
            )
            self._live.start()
        return self

    def feed(self, piece: str) -> None:
        piece = _CONTROL.sub("", piece)
        if self._live is None:
            self._console.file.write(piece)
            self._console.file.flush()
            return
        self._open += piece
        done, self._open = _parted(self._open)
        if done:
            self._live.console.print(Markdown(with_headings(done)))
            self._live.console.print()
        self._live.update(Markdown(with_headings(_end(self._open, self._console))), refresh=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is None:
            return
        self._live.update(Text(""))
        self._live.stop()
        if self._open.strip():
            self._console.print(Markdown(with_headings(self._open)))


def side_by_side(left: tuple[str, str], right: tuple[str, str]) -> RenderableType:
    """Two titled texts, one beside the other."""
    from rich.table import Table

    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    table.add_row(
        *(Panel(Markdown(with_headings(text)), title=title) for title, text in (left, right))
    )
    return table


def card_panel(card: Consultation) -> Panel:
    """The structured answer."""
    parts: list[RenderableType] = [
        Text(URGENCY_WORDS[card.urgency], style=_STYLES.get(card.urgency, "bold"))
    ]
    if card.emergency_message:
        parts.append(Text(card.emergency_message))
    conditions = [f"{c.name}: {c.likelihood.replace('_', ' ')}" for c in card.possible_conditions]
    for title, items in (
        ("Possible conditions", conditions),
        ("What you can do", card.suggestions),
        ("Precautions", card.precautions),
        ("Who to see", [card.specialist.specialty.capitalize()] if card.specialist else []),
        ("Warning signs to watch for", card.red_flags_to_watch),
        ("When to seek help", [card.when_to_seek_help]),
        ("Questions back", card.follow_up_questions),
    ):
        if items:
            parts.append(Text(f"\n{title}", style="bold"))
            parts += [Text(f"• {item}") for item in items]
    parts.append(Text(f"\n{card.limits}", style="dim"))
    return Panel(Group(*parts), title="Card")


def _parted(text: str) -> tuple[str, str]:
    """What ends with a blank line outside a code block, and the rest."""
    cut = text.rfind("\n\n")
    while cut >= 0 and text[:cut].count("```") % 2:
        cut = text.rfind("\n\n", 0, cut)
    return (text[:cut], text[cut + 2 :]) if cut >= 0 else ("", text)


def _end(text: str, console: Console) -> str:
    """As much of the end as a screen holds."""
    return text[-(console.width * max(1, console.height - 2)) :]

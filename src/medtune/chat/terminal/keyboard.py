"""What is typed: several lines, history, completed commands; plain lines where no terminal is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings

_PROMPT = "you> "


class Keyboard:
    """Reads messages.

    Args:
        commands: completed with Tab.
        history: a file that keeps what was typed; without one it is forgotten at the end, since
            it is about somebody's health.
    """

    def __init__(self, commands: Sequence[str], history: Path | None = None) -> None:
        self._session = _session(commands, history) if sys.stdin.isatty() else None

    def read(self, text: str = "") -> str:
        """The next message.

        Args:
            text: stands there already, to be changed.

        Raises:
            EOFError: Ctrl-D, or the end of the input.
            KeyboardInterrupt: Ctrl-C, which drops the line.
        """
        if self._session is not None:
            return self._session.prompt(_PROMPT, default=text)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line


def _session(commands: Sequence[str], history: Path | None) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    if history is not None:
        history.touch(mode=0o600)
    return PromptSession(
        history=FileHistory(str(history)) if history else InMemoryHistory(),
        completer=WordCompleter(list(commands), sentence=True),
        complete_while_typing=False,
        key_bindings=_keys(),
        multiline=True,
        prompt_continuation=lambda width, number, wrapped: "." * (width - 1) + " ",
        enable_open_in_editor=True,
    )


def _keys() -> KeyBindings:
    """Enter sends, Alt-Enter and Ctrl-J begin a new line; pasted lines stay together."""
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys

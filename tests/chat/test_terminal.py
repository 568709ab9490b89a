"""The chat in the terminal, typed at through a real pseudo-terminal and read off a real screen."""

from __future__ import annotations

import json
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pyte
import pytest
from conftest import REPOSITORY

from medtune.run import Run

WIDTH, HEIGHT = 100, 60
_WHERE = "\x1b[6n"
# An engine that the test can read: it says what it was asked, and how, and never ends for "count".
ENGINE = textwrap.dedent(
    """
    import time
    from medtune.chat.engines import Decoding
    from medtune.chat.terminal.session import Session

    class Echo:
        context = 100_000
        def __init__(self, name):
            self.name = name
        def count(self, messages):
            return sum(len(turn["content"]) for turn in messages)
        def stream(self, messages, settings, stop=None):
            asked = messages[-1]["content"]
            if "count" in asked:
                for number in range(100_000):
                    if stop.is_set():
                        return
                    yield f"{number} "
                    time.sleep(0.01)
            yield f"{self.name} heard *{asked!r}*, turn {len(messages)}, "
            yield f"temperature {settings.temperature}.\\n\\nPossible conditions: A migraine is likely. "
            yield "What you can do: Rest.\\n"

    def other(name):
        return Echo(name), "Speak plainly.", None

    Session(
        Echo("tuned"), Decoding(50), "Be kind.", open_base=lambda: Echo("base"), open_model=other
    ).run()
    """
)


class Terminal:
    """What a person sees and types."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.process = pexpect.spawn(
            sys.executable, arguments, cwd=str(folder), dimensions=(HEIGHT, WIDTH), timeout=60,
            encoding="utf-8", env={**_environment(), "TERM": "xterm-256color"},
        )  # fmt: skip
        self._screen = pyte.Screen(WIDTH, HEIGHT)
        self._stream = pyte.Stream(self._screen)

    def type(self, keys: str) -> None:
        self.process.send(keys)

    def shown(self) -> str:
        end = time.monotonic() + 1  # what is written without end is not waited for
        while time.monotonic() < end:
            try:
                data = self.process.read_nonblocking(65536, timeout=0.05)
            except (pexpect.TIMEOUT, pexpect.EOF):
                break
            *before, last = data.split(_WHERE)
            for part in before:  # each of them ends with the question where the cursor is
                self._stream.feed(part)
                place = self._screen.cursor
                self.process.send(f"\x1b[{place.y + 1};{place.x + 1}R")
            self._stream.feed(last)
        return "\n".join(line.rstrip() for line in self._screen.display).strip()

    def close(self) -> None:
        self.process.kill(signal.SIGKILL)
        self.process.wait()
        self.process.close()

    def until(self, text: str, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while text not in (shown := self.shown()):
            assert time.monotonic() < end, f"{text!r} never came:\n{shown}"
        return shown

    def answered(self, turn: int) -> str:
        """The screen once this turn has been answered and the next can be typed."""
        end = time.monotonic() + 60
        while True:
            shown = self.shown()
            if f"turn {turn}," in shown and shown.endswith("you>"):
                return shown
            assert time.monotonic() < end, shown


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(["-c", ENGINE], tmp_path)
    opened.until("you>")
    yield opened
    opened.close()


def test_an_answer_is_drawn_as_markdown_once(terminal: Terminal) -> None:
    terminal.type("hello\r")
    shown = terminal.answered(2)
    assert "tuned heard 'hello'" in shown, "no asterisks"
    assert shown.count("tuned heard") == 1
    assert shown.count("Possible conditions: A migraine") == 1


def test_several_lines_are_one_message_typed_and_pasted(terminal: Terminal) -> None:
    terminal.type("one\x1b\rtwo\r")
    assert r"'one\ntwo'" in terminal.answered(2)
    terminal.type("\x1b[200~three\nfour\x1b[201~\r")
    assert r"'three\nfour'" in terminal.answered(4)


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal) -> None:
    terminal.type("count\r")
    terminal.until("0 ")  # any number: how far it has come by now depends on the machine
    terminal.type("\x03")
    terminal.until("(stopped)")
    terminal.type("half a line\x03")
    terminal.until("Type /quit or press Ctrl-D")
    terminal.type("still there?\r")
    assert "'still there?'" in terminal.answered(4), "what was written before the stop counts"
    terminal.type("\x04")
    terminal.process.expect(pexpect.EOF)
    terminal.process.close()
    assert terminal.process.exitstatus == 0


def test_the_arrow_brings_back_what_was_typed(terminal: Terminal) -> None:
    terminal.type("first\r")
    terminal.answered(2)
    terminal.type("\x1b[A")
    terminal.until("you> first")
    terminal.type(" again\r")
    assert "'first again'" in terminal.answered(4)


def test_retry_draws_anew_edit_changes_and_new_forgets(terminal: Terminal) -> None:
    terminal.type("first\r")
    assert "temperature 0.0" in terminal.answered(2)
    terminal.type("/retry\r")
    assert "'first', turn 2, temperature 0.7" in terminal.until("temperature 0.7")
    terminal.type("/edit\r")
    terminal.until("you> first")
    terminal.type(" aid\r")
    terminal.until("'first aid', turn 2,")
    terminal.type("/edit other words\r")
    terminal.until("'other words', turn 2,")
    terminal.type("/new\r")
    terminal.until("A new conversation.")
    terminal.type("/retry\r")
    terminal.until("Nothing has been asked yet")


def test_instructions_model_and_base(terminal: Terminal) -> None:
    terminal.type("/system\r")
    terminal.until("Instructions: Be kind.")
    terminal.type("/system Be brief.\r")
    terminal.until("Instructions: Be brief.")
    terminal.type("/system reset\r")
    terminal.until("Instructions: Be kind.\n\nyou>")
    terminal.type("hello\r")
    terminal.answered(2)
    terminal.type("/base\r")
    shown = terminal.until("base heard 'hello'")
    assert shown.count("base heard") == 1
    row = next(line for line in shown.splitlines() if "base heard" in line)
    assert "tuned heard" in row, "side by side"
    terminal.type("/model another\r")
    terminal.until("another, 100,000 tokens")
    terminal.type("/system\r")
    terminal.until("Instructions: Speak plainly.")


def test_the_card_and_the_help(terminal: Terminal) -> None:
    terminal.type("/card\r")
    terminal.until("Nothing has been asked yet")
    terminal.type("I have a headache\r")
    terminal.answered(2)
    terminal.type("/card\r")
    shown = terminal.until("Questions back")
    for said in ("Migraine: likely", "Who to see", "When to seek help", "no diagnosis"):
        assert said in shown
    terminal.type("/help\r")
    shown = terminal.until("/quit   ")
    names = ("new", "retry", "edit", "system", "card", "save", "load", "model", "base", "help")
    for name in [f"/{name}" for name in names]:
        assert f"\n{name} " in shown


def test_a_saved_conversation_is_loaded_again(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type("hello\r")
    terminal.answered(2)
    terminal.type("/save talk.json\r")
    terminal.until("Saved to talk.json")
    terminal.type("/save talk.md\r")
    terminal.until("Saved to talk.md")
    saved = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert [turn["role"] for turn in saved["messages"]] == ["user", "assistant"]
    assert (tmp_path / "talk.json").stat().st_mode & 0o077 == 0, "others may not read it"
    assert "**Possible conditions:**" in (tmp_path / "talk.md").read_text(encoding="utf-8")
    terminal.type("/new\r/load talk.json\r")
    terminal.until("1 questions loaded")
    terminal.type("and now?\r")
    terminal.until("'and now?', turn 4,")
    (tmp_path / "talk.json").write_text("[]")
    terminal.type("/load talk.json\r")
    terminal.until("is no saved conversation")
    terminal.type("/load nowhere\r")
    terminal.until("cannot be read")


def test_a_trained_run_talks_beside_its_base(tuned_run: Run, tmp_path: Path) -> None:
    terminal = Terminal(
        ["-m", "medtune", "chat", str(tuned_run.folder), "--max-new-tokens", "8"], tmp_path
    )
    terminal.until("you>")
    terminal.type("crushing chest pain and my left arm hurts\r")
    terminal.until("Call your local emergency number now")
    terminal.type("/new\rI sneeze a lot\r/base\r")
    terminal.until("tuned, untuned base")
    terminal.type("/quit\r")
    terminal.process.expect(pexpect.EOF)
    terminal.process.close()
    assert terminal.process.exitstatus == 0

"""The conversation that is going on in the terminal, and what each command does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from rich.console import Console, RenderableType
from rich.live import Live

from medtune.chat.conversation import Conversation
from medtune.chat.engines import Decoding, Engine
from medtune.chat.pipeline import DISCLAIMER, answer
from medtune.chat.terminal.keyboard import Keyboard
from medtune.chat.terminal.screen import StreamedMarkdown, card_panel, side_by_side
from medtune.chat.transcript import card, from_json, to_json, to_markdown
from medtune.errors import MedtuneError
from medtune.run import whole

COMMANDS = {
    "/new": "start a new conversation",
    "/retry": "ask the last question again; the answer is drawn anew",
    "/edit": "change the last question and ask it again",
    "/system": "show the instructions; /system TEXT sets them, /system reset takes the training's",
    "/card": "the last answer in its parts: urgency, conditions, what to do, when to seek help",
    "/base": "the untuned base's answer to the last question beside the tuned one's",
    "/save": "/save FILE writes the conversation, as JSON or, with .md, as a text",
    "/load": "/load FILE goes on with a conversation that was saved as JSON",
    "/model": "what answers; /model RUN talks to another run",
    "/help": "this list",
    "/quit": "leave, as Ctrl-D does",
}
_RETRY_TEMPERATURE = 0.7
"""Where answers are always the same, asking again would give the same answer again."""


@dataclass
class Session:
    """One person at one terminal.

    Args:
        engine: what answers.
        settings: how it decodes.
        system: the instructions of the training.
        country: two letters for the emergency lines.
        open_base: gives the untuned base; called at the first ``/base``.
        open_model: gives the engine of another run, its instructions and what opens its base.
        history: a file that keeps what was typed.
    """

    engine: Engine
    settings: Decoding
    system: str = ""
    country: str = ""
    open_base: Callable[[], Engine] | None = None
    open_model: Callable[[str], tuple[Engine, str, Callable[[], Engine] | None]] | None = None
    history: Path | None = None
    console: Console = field(default_factory=lambda: Console(highlight=False))

    def __post_init__(self) -> None:
        self._conversation = Conversation(self.system)
        self.base: Engine | None = None
        self._typed_before = ""

    def run(self) -> None:
        """Read and answer until ``/quit`` or Ctrl-D; Ctrl-C ends an answer, or drops a line."""
        keyboard = Keyboard(list(COMMANDS), self.history)
        self._say(f"{self.engine.name}. {DISCLAIMER}")
        self._say(
            "Enter sends, Alt-Enter begins a new line, Ctrl-C stops an answer; /help, /quit.\n"
        )
        while True:
            text, self._typed_before = self._typed_before, ""
            try:
                message = keyboard.read(text).strip()
            except KeyboardInterrupt:
                self._say("Type /quit or press Ctrl-D to leave.")
                continue
            except EOFError:
                return
            name, _, rest = message.partition(" ")
            if name == "/quit" or name == "/exit":
                return
            try:
                if name in COMMANDS:
                    getattr(self, f"_{name[1:]}")(rest.strip())
                elif name.startswith("/") and "\n" not in message:
                    self._say(
                        f"{name} is no command. There are /new and /quit, and /help lists all.\n"
                    )
                elif message:
                    self._ask(message)
            except MedtuneError as error:
                self._say(f"{error}\n")
            except KeyboardInterrupt:
                self._say("(stopped)\n")

    def _ask(self, question: str, settings: Decoding | None = None) -> None:
        self._conversation.ask(question)
        written: list[str] = []
        try:
            with StreamedMarkdown(self.console) as screen:
                for piece in self._answer(self.engine, self._conversation, settings):
                    written.append(piece)
                    screen.feed(piece)
        except KeyboardInterrupt:
            self._say("\n(stopped)", end="")
        except MedtuneError as error:
            self._say(str(error), end="")
        finally:
            if written:
                self._conversation.answered("".join(written))
            else:
                self._conversation.take_back()
        self._say("\n")

    def _answer(
        self, engine: Engine, conversation: Conversation, settings: Decoding | None = None
    ) -> Iterator[str]:
        stop = Event()
        pieces = answer(
            conversation, engine, settings or self.settings, stop=stop, country=self.country
        )
        try:
            with closing(pieces):  # type: ignore[type-var]
                yield from pieces
        finally:
            stop.set()

    def _take_back(self) -> str:
        """The last question, which is then forgotten together with its answer.

        Raises:
            MedtuneError: nothing has been asked.
        """
        self._need_a_question()
        turns = self._conversation.turns
        while (turn := turns.pop())["role"] != "user":
            pass
        return turn["content"]

    def _need_a_question(self) -> None:
        if not self._conversation.questions:
            raise MedtuneError("Nothing has been asked yet; type a question first.")

    def _new(self, _: str) -> None:
        self._conversation = Conversation(self._conversation.system)
        self._say("A new conversation.\n")

    def _retry(self, _: str) -> None:
        warmer = max(self.settings.temperature, _RETRY_TEMPERATURE)
        self._ask(self._take_back(), replace(self.settings, temperature=warmer, seed=None))

    def _edit(self, text: str) -> None:
        """With a text it is asked at once, without one the question stands in the line again."""
        before = self._take_back()
        if text:
            self._ask(text)
        else:
            self._typed_before = before

    def _system(self, text: str) -> None:
        if text:
            self._conversation.system = self.system if text == "reset" else text
        self._say(f"Instructions: {self._conversation.system or 'none'}\n")

    def _card(self, _: str) -> None:
        found = card(self._conversation, self.country)
        if found is None:
            self._need_a_question()
        else:
            self.console.print(card_panel(found))

    def _base(self, _: str) -> None:
        self._need_a_question()
        asked = Conversation(self._conversation.system, [*self._conversation.turns])
        tuned = asked.turns.pop()["content"] if asked.turns[-1]["role"] == "assistant" else ""
        base, said = self._opened_base(), ""

        def both() -> RenderableType:
            return side_by_side((base.name, said), (self.engine.name, tuned))

        with Live(console=self.console, transient=True, auto_refresh=False) as live:
            try:
                for piece in self._answer(base, asked):
                    said += piece
                    live.update(both(), refresh=True)
            finally:  # also of an answer that was stopped
                live.update("")
        self.console.print(both())

    def _opened_base(self) -> Engine:
        if self.base is None:
            if self.open_base is None:
                raise MedtuneError("There is no base to compare with; talk to a run of your own.")
            self._say("Loading the base ...")
            self.base = self.open_base()
        return self.base

    def _save(self, name: str) -> None:
        if not name:
            raise MedtuneError("Name a file: /save talk.json, or /save talk.md for a text.")
        path = Path(name).expanduser()
        as_text = path.suffix.lower() in {".md", ".markdown", ".txt"}
        written = (
            to_markdown(self._conversation, self.engine.name)
            if as_text
            else to_json(self._conversation, model=self.engine.name)
        )
        try:
            with whole(path) as part:
                part.touch(mode=0o600)  # it is about somebody's health
                part.write_text(written, encoding="utf-8")
        except OSError as error:
            raise MedtuneError(f"{path} cannot be written ({error.strerror}).") from None
        self._say(f"Saved to {path}.\n")

    def _load(self, name: str) -> None:
        path = Path(name or ".").expanduser()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise MedtuneError(f"{path} cannot be read; name a file that /save wrote.") from None
        self._conversation = from_json(text, str(path))
        self._say(f"{len(self._conversation.questions)} questions loaded.\n")

    def _model(self, name: str) -> None:
        if name:
            if self.open_model is None:
                raise MedtuneError("Here is one model only; start `medtune chat` with another.")
            self.engine, self.system, self.open_base = self.open_model(name)
            self.base = None
            self._conversation.system = self.system
        self._say(f"{self.engine.name}, {self.engine.context:,} tokens of context.\n")

    def _help(self, _: str) -> None:
        for name, does in COMMANDS.items():
            self._say(f"{name:8} {does}")
        self._say("")

    def _say(self, text: str, end: str = "\n") -> None:
        self.console.print(text, markup=False, end=end)

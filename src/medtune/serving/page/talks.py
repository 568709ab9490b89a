"""The conversations of one person at one browser; in memory, and on disk for whoever asks for it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from threading import Event
from typing import Any
from uuid import uuid4

from medtune.chat.conversation import Conversation
from medtune.chat.transcript import with_headings
from medtune.model.template import Message
from medtune.serving.store import Store

_TITLE = 48  # characters
_UNTITLED = "New conversation"


@dataclass
class Talk:
    """One conversation."""

    turns: list[Message] = field(default_factory=list)
    about: str = ""
    """What the person said about themselves, as a sentence; it stands before the first question."""
    id: str = field(default_factory=lambda: uuid4().hex)

    @property
    def title(self) -> str:
        text = " ".join(self.turns[0]["content"].split()) if self.turns else _UNTITLED
        return text if len(text) <= _TITLE else text[: _TITLE - 1].rstrip() + "…"

    def conversation(self, system: str = "") -> Conversation:
        """As the model and the safety layer read it."""
        turns = [dict(turn) for turn in self.turns]
        if turns and self.about:
            turns[0]["content"] = f"{self.about} {turns[0]['content']}"
        return Conversation(system, turns)

    def shown(self) -> list[dict[str, Any]]:
        """As the page shows it."""
        return [{**turn, "content": with_headings(turn["content"])} for turn in self.turns]

    def take_back(self) -> str:
        """Drop the last question with its answer and return it; empty where there is none."""
        while self.turns:
            turn = self.turns.pop()
            if turn["role"] == "user":
                return turn["content"]
        return ""

    def says(self, text: str) -> bool:
        return any(text.lower() in turn["content"].lower() for turn in self.turns)


class Talks:
    """All of them; one is open.  They are forgotten with the session unless they are kept."""

    def __init__(self) -> None:
        self.open = Talk()
        self.owner = ""
        """The secret by which the store knows the person; empty where nothing is kept."""
        self._others: dict[str, Talk] = {}
        self._stop = Event()

    def __deepcopy__(self, memo: dict[int, Any]) -> Talks:
        return Talks()  # Gradio copies the first one for every session; an event has no copy

    def begin(self) -> Event:
        """A new answer begins, and the one before ends; returns what will end this one."""
        self.stop()
        self._stop = Event()
        return self._stop

    def stop(self) -> None:
        self._stop.set()

    def new(self) -> None:
        """Open an empty one; an empty one that was open is dropped."""
        self.stop()
        if self.open.turns:
            self._others = {self.open.id: self.open, **self._others}
        self.open = Talk()

    def choose(self, id: str) -> None:
        if id in self._others:
            chosen = self._others.pop(id)
            self.new()
            self.open = chosen

    def found(self, search: str = "") -> list[tuple[str, str]]:
        """Titles and ids of those that hold the text, the open one first."""
        wanted = search.strip()
        talks = [self.open, *self._others.values()]
        return [(talk.title, talk.id) for talk in talks if not wanted or talk.says(wanted)]

    def clear(self, store: Store | None) -> None:
        """Delete the open one."""
        self.stop()
        if store is not None and self.owner:
            store.forget(self.owner, self.open.id)
        self.open = Talk()

    def clear_all(self, store: Store | None) -> None:
        """Delete all of them, here and on disk."""
        self.clear(store)
        self._others = {}
        if store is not None and self.owner:
            store.forget(self.owner)

    def keep(self, store: Store | None) -> None:
        """Write the open one to the disk, if the person wants that."""
        if store is not None and self.owner and self.open.turns:
            document = {"turns": self.open.turns, "about": self.open.about}
            store.keep_conversation(self.owner, self.open.id, document)

    def start_keeping(self, store: Store) -> None:
        self.owner = self.owner or secrets.token_urlsafe(32)
        for talk in [*reversed(self._others.values()), self.open]:
            if talk.turns:
                document = {"turns": talk.turns, "about": talk.about}
                store.keep_conversation(self.owner, talk.id, document)

    def stop_keeping(self, store: Store) -> None:
        """Nothing is kept any more, and what was kept is deleted; the session still has it."""
        if self.owner:
            store.forget(self.owner)
        self.owner = ""

    def load(self, store: Store, owner: str) -> None:
        """Take over what was kept for a person who comes back."""
        self.owner = owner
        for id, document in store.conversations(owner).items():
            self._others[id] = Talk(document["turns"], document.get("about", ""), id)

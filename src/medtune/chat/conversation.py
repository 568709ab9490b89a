"""The turns of a conversation, and what of them fits the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from medtune.errors import MedtuneError
from medtune.model.template import Message


@dataclass
class Conversation:
    """Turns in order.  The system turn, if any, is always sent."""

    system: str = ""
    turns: list[Message] = field(default_factory=list)

    def ask(self, question: str) -> None:
        self.turns.append({"role": "user", "content": question})

    def answered(self, answer: str) -> None:
        self.turns.append({"role": "assistant", "content": answer})

    def take_back(self) -> None:
        """Forget the last question, which got no answer."""
        if self.turns and self.turns[-1]["role"] == "user":
            self.turns.pop()

    @property
    def questions(self) -> list[str]:
        return [turn["content"] for turn in self.turns if turn["role"] == "user"]

    def fitted(self, count: Callable[[list[Message]], int], room: int) -> list[Message]:
        """The newest whole exchanges that fit ``room`` tokens, oldest out first.

        Raises:
            MedtuneError: the last message alone is too long.
        """
        first: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        starts = [i for i, turn in enumerate(self.turns) if turn["role"] == "user"]
        for start in starts:
            sent = first + self.turns[start:]
            if count(sent) <= room:
                return sent
        raise MedtuneError(
            f"The message is too long for this model (room for {room} tokens); please shorten it."
        )

"""Base against tuned, blind: two answers side by side, and a vote on which is better."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from random import SystemRandom
from threading import Event, Lock

from medtune.chat.conversation import Conversation
from medtune.chat.engines import Engine
from medtune.chat.pipeline import answer
from medtune.safety import assess
from medtune.serving.feedback import Side, Vote
from medtune.serving.service import Service

_CHANCE = SystemRandom()


@dataclass
class Comparison:
    """One question to both."""

    question: str = ""
    left: Side = "tuned"
    answers: dict[Side, str] = field(default_factory=lambda: {"base": "", "tuned": ""})
    may_vote: bool = False
    stop: Event = field(default_factory=Event)

    @property
    def right(self) -> Side:
        return "base" if self.left == "tuned" else "tuned"

    def side(self, choice: str) -> str:
        """Who won by a vote for ``left``, ``right``, ``both`` or ``neither``."""
        return {"left": self.left, "right": self.right}.get(choice, choice)


class Comparing:
    """The base is loaded at the first comparison and stays."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._base: Engine | None = None
        self._loading = Lock()

    def ask(self, comparison: Comparison, country: str) -> Iterator[None]:
        """Both answers, one after the other, in an order that chance decides."""
        comparison.left = _CHANCE.choice(("base", "tuned"))
        conversation = Conversation(
            self.service.system, [{"role": "user", "content": comparison.question}]
        )
        assessment = assess(conversation.questions, country)
        # The rules' word is the same on both sides; there is nothing to vote about.
        by_rules = assessment.urgency == "emergency" or assessment.declined
        try:
            for side in (comparison.left, comparison.right):
                engine = self.service.page_engine if side == "tuned" or by_rules else self._opened()
                pieces = answer(
                    conversation, engine, self.service.settings,
                    stop=comparison.stop, country=country,
                )  # fmt: skip
                with closing(pieces):  # type: ignore[type-var]
                    for piece in pieces:
                        if comparison.stop.is_set():
                            return
                        comparison.answers[side] += piece
                        yield
            comparison.may_vote = not by_rules and not comparison.stop.is_set()
            yield
        finally:
            comparison.stop.set()

    def vote(self, comparison: Comparison, choice: str) -> bool:
        """Keep a vote, once.

        Returns:
            whether there was something to vote about.
        """
        if not comparison.may_vote:
            return False
        comparison.may_vote = False
        if self.service.store is not None:
            vote = Vote.model_validate(
                {
                    "messages": [{"role": "user", "content": comparison.question}],
                    "answers": comparison.answers,
                    "left": comparison.left,
                    "winner": comparison.side(choice),
                    "system": self.service.system,
                    "model": self.service.name,
                    "adapter": self.service.adapter,
                }
            )
            self.service.store.keep("vote", vote.model_dump(mode="json"))
        return True

    def _opened(self) -> Engine:
        with self._loading:
            if self._base is None:
                assert self.service.open_base is not None
                self._base = self.service.open_base()
        return self._base

"""What asking, stopping, asking again and rating do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from medtune.chat.pipeline import answer
from medtune.chat.transcript import card
from medtune.errors import MedtuneError
from medtune.model.template import Message
from medtune.safety import assess
from medtune.serving.feedback import Feedback
from medtune.serving.page.card import card_html
from medtune.serving.page.talks import Talks
from medtune.serving.service import Service

RETRY_TEMPERATURE = 0.7
"""Where answers are always the same, asking again would give the same answer again."""


class Talking:
    """The conversation of the page with one served model."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def ask(self, talks: Talks, message: str, about: str, country: str) -> bool:
        """Put a question into the open conversation.

        What the rules answer alone is answered here and at once, however busy the model is.

        Returns:
            whether the model is to answer.
        """
        if not message.strip():
            return False
        talks.stop()
        talk = talks.open
        if talk.turns and talk.turns[-1]["role"] == "user":
            talk.take_back()  # it was stopped before a word came
        talk.turns.append({"role": "user", "content": message.strip()})
        talk.about = about
        assessment = assess(talk.conversation().questions, country)
        self.service.metrics.answers.labels(assessment.urgency).inc()
        if assessment.urgency == "emergency" or assessment.declined:
            said = answer(
                talk.conversation(self.service.system), self.service.page_engine, self.service.settings,
                country=country, audit=self.service.audit,
            )  # fmt: skip
            talk.turns.append({"role": "assistant", "content": "".join(said)})
            talks.keep(self.service.store)
            return False
        return True

    def reply(self, talks: Talks, country: str, again: bool = False) -> Iterator[None]:
        """Let the model answer the last question; wakes up whenever there is more to show."""
        talk, stop = talks.open, talks.begin()
        if not talk.turns or talk.turns[-1]["role"] != "user":
            return
        settings = self.service.settings
        if again:
            warmer = max(settings.temperature, RETRY_TEMPERATURE)
            settings = replace(settings, temperature=warmer, seed=None)
        pieces = answer(
            talk.conversation(self.service.system), self.service.page_engine, settings,
            stop=stop, country=country, audit=self.service.audit,
        )  # fmt: skip
        said: Message = {"role": "assistant", "content": ""}
        try:
            with closing(pieces):  # type: ignore[type-var]
                for piece in pieces:
                    if stop.is_set():
                        break
                    said["content"] += piece
                    if not said["content"].strip():
                        continue  # the page shows meanwhile that the model is thinking
                    if talk.turns[-1] is not said:
                        talk.turns.append(said)
                    yield
        except MedtuneError as error:
            if not stop.is_set():
                raise error
        finally:
            stop.set()  # also where the person left and nobody reads on
            talks.keep(self.service.store)

    def card(self, talks: Talks, country: str) -> str:
        talk = talks.open
        return card_html(card(talk.conversation(), country), talk.about, country)

    def rate(self, talks: Talks, verdict: str, reason: str = "", correction: str = "") -> bool:
        """Keep what a person thinks of the last answer.

        Returns:
            False where there is none.
        """
        store, turns = self.service.store, talks.open.turns
        if store is None or not turns or turns[-1]["role"] != "assistant":
            return False
        document: dict[str, Any] = {
            "messages": talks.open.conversation().turns,
            "verdict": verdict,
            "reason": reason,
            "correction": correction[:20_000],
            "system": self.service.system,
            "model": self.service.name,
            "adapter": self.service.adapter,
        }
        store.keep("feedback", Feedback.model_validate(document).model_dump(mode="json"))
        return True

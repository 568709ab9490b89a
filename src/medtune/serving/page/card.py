"""The medical card beside the answer, as HTML."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from medtune.chat.consultation import Consultation
from medtune.chat.exports import URGENCY_WORDS
from medtune.safety.replies import lines

if TYPE_CHECKING:
    from jinja2 import Template

LIKELIHOOD_WORDS = {
    "very_likely": "fits very well",
    "likely": "fits well",
    "possible": "possible",
    "unlikely": "less likely",
}
# Mobile phones reach the emergency services of the country they are in by it (3GPP TS 22.101).
_ANYWHERE = "112"


def card_html(card: Consultation | None, about: str = "", country: str = "") -> str:
    """The card; before the first question, what will stand there.

    Args:
        card: the structured answer.
        about: what was taken into account about the person.
        country: two letters, for the number that the button calls.
    """
    number = lines(country).emergency
    return _template().render(
        card=card,
        about=about,
        urgency=URGENCY_WORDS,
        likelihood=LIKELIHOOD_WORDS,
        number=number or _ANYWHERE,
        dialled=re.sub(r"[^\d+*#]", "", number or _ANYWHERE),
        known_number=bool(number),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment

    text = resources.files("medtune.serving.page").joinpath("card.html.j2").read_text("utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)

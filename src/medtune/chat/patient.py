"""What a person may say about themselves before a question, as a sentence for the model."""

from __future__ import annotations

from dataclasses import dataclass

_OLDEST = 120  # years


@dataclass(frozen=True)
class Patient:
    """Everything is optional, and nothing is guessed."""

    age: float | None = None
    """Years; what is no age is left out."""
    sex: str = ""
    """``female``, ``male`` or empty."""
    pregnant: bool = False
    medicines: str = ""

    def sentence(self) -> str:
        """In the words of the person, since the safety rules and the model read what a person
        writes; empty where nothing is known."""
        years = self.age if self.age is not None and 0 < self.age <= _OLDEST else None
        who = {"female": "woman", "male": "man"}.get(self.sex, "")
        if years is not None and years < 18:
            who = {"female": "girl", "male": "boy"}.get(self.sex, "")
        parts: list[str] = []
        if years is not None and who:
            parts.append(f"I am a {years:g} year old {who}.")
        elif years is not None:
            parts.append(f"I am {years:g} years old.")
        elif who:
            parts.append(f"I am a {who}.")
        if self.pregnant and self.sex != "male":
            parts.append("I am pregnant.")
        medicines = " ".join(self.medicines.split()).strip(" .")[:300]
        if medicines:
            parts.append(f"I take {medicines}.")
        return " ".join(parts)

    def before(self, question: str) -> str:
        """The question with the sentence in front of it."""
        return f"{self.sentence()} {question}".strip()

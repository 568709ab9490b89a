"""The one error that Medtune shows to people."""

from __future__ import annotations


class MedtuneError(Exception):
    """One plain sentence with the cause and what to do next.

    Args:
        message: the sentence shown to the person.
        exit_code: 1 where the work failed, 2 where the command was used wrongly.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code

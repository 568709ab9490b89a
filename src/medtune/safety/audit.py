"""The audit log: one JSON line per answer, redacted, each bound to the line before it.

A line holds the hash of the one before and its own, so that a changed, removed or moved line is
found by ``verify``.  A log cut off at its end is found by comparing the last hash with one kept
elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medtune.errors import MedtuneError
from medtune.safety.assess import Assessment
from medtune.safety.redaction import redact

_START = "0" * 64


@dataclass(frozen=True)
class Verified:
    """A log whose chain holds."""

    lines: int
    last_hash: str


class AuditLog:
    """Appends to one file; several processes may share it.

    Args:
        path: the file, made when the first line is written.
        keep_text: write questions and answers, redacted; otherwise only their fingerprints.
    """

    def __init__(self, path: Path, *, keep_text: bool = False) -> None:
        self.path = path
        self.keep_text = keep_text

    def record(
        self, question: str, answer: str, assessment: Assessment, **more: Any
    ) -> dict[str, Any]:
        """Append what was asked, how it was judged and what was done.

        Args:
            question: the person's message.
            answer: what was shown.
            assessment: what the safety layer found.
            more: further values that JSON can hold, such as the changes to an answer.

        Raises:
            MedtuneError: the file cannot be written.
        """
        entry: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "urgency": assessment.urgency,
            "rules": list(assessment.rules),
            "declined": assessment.declined,
            "rules_version": assessment.rules_version,
            "question": self._text(question),
            "answer": self._text(answer),
            **more,
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as log:
                _lock(log.fileno())
                entry["previous"] = _last_hash(log)
                entry["hash"] = _hash(entry)
                log.seek(0, os.SEEK_END)
                log.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
                log.flush()
                os.fsync(log.fileno())
        except OSError as error:
            raise MedtuneError(
                f"The audit log {self.path} cannot be written: {error.strerror}."
            ) from None
        return entry

    def _text(self, text: str) -> dict[str, Any]:
        if not self.keep_text:
            return {"characters": len(text)}
        redacted, found = redact(text)
        return {"characters": len(text), "redacted": redacted, "classes": [f[0] for f in found]}


def verify(path: Path) -> Verified:
    """Check the chain of a log.

    Raises:
        MedtuneError: the file cannot be read, or a line was changed, removed or moved.
    """
    previous, count = _START, 0
    try:
        with path.open(encoding="utf-8") as log:
            for count, line in enumerate(log, start=1):
                previous = _verified(path, count, line, previous)
    except OSError as error:
        raise MedtuneError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise MedtuneError(f"{path} is no audit log: it is not UTF-8 text.") from None
    return Verified(count, previous)


def _verified(path: Path, number: int, line: str, previous: str) -> str:
    try:
        entry = json.loads(line)
        said = entry.pop("hash")
        before = entry["previous"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MedtuneError(f"{path}, line {number}: this is no line of an audit log.") from None
    if before != previous:
        raise MedtuneError(
            f"{path}, line {number}: a line before this one was removed, added or moved."
        )
    if _hash(entry) != said:
        raise MedtuneError(f"{path}, line {number}: this line was changed after it was written.")
    return said


def _hash(entry: dict[str, Any]) -> str:
    text = json.dumps(entry, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _last_hash(log: Any) -> str:
    size = log.seek(0, os.SEEK_END)
    if size == 0:
        return _START
    step = 65_536
    while True:
        log.seek(max(0, size - step))
        lines = log.read().splitlines()
        if len(lines) > 1 or step >= size:
            break
        step *= 4
    try:
        return str(json.loads(lines[-1])["hash"])
    except (ValueError, KeyError, TypeError):
        raise MedtuneError(
            "The last line of the audit log is torn; move the file away to begin a new one."
        ) from None


def _lock(descriptor: int) -> None:
    """Keep other processes out until the file is closed."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: one process only
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)

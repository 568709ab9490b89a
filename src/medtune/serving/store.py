"""What outlives the server: feedback, votes, and conversations of people who asked for it.

One SQLite file.  A record whose method has returned is on the disk: it survives ``kill -9`` and
a power cut (write-ahead log, synced at every commit).  What is deleted is overwritten.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, Literal
from uuid import uuid4

from medtune.errors import MedtuneError

Kind = Literal["feedback", "vote"]
_VERSION = 1
_TABLES = """
CREATE TABLE records (
    id TEXT PRIMARY KEY, created TEXT NOT NULL, kind TEXT NOT NULL, document TEXT NOT NULL);
CREATE TABLE conversations (
    owner TEXT NOT NULL, id TEXT NOT NULL, changed TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (owner, id));
"""


@dataclass(frozen=True)
class Record:
    id: str
    created: str
    kind: Kind
    document: dict[str, Any]


class Store:
    """The file; several threads and processes may use it at a time.

    Args:
        path: made, readable by its owner alone, if it is not there.

    Raises:
        MedtuneError: it cannot be opened, or is no store of this version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            raise MedtuneError(f"{path} cannot be written ({error.strerror}).") from None
        with self._told():
            self._file = sqlite3.connect(
                path, timeout=10, isolation_level=None, check_same_thread=False
            )
            for setting in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                self._file.execute(f"PRAGMA {setting}")
            self._prepare()

    def keep(self, kind: Kind, document: dict[str, Any]) -> str:
        """Write a record; once this returns it cannot be lost.

        Returns:
            its id.
        """
        id = uuid4().hex
        row = (id, _now(), kind, json.dumps(document, ensure_ascii=False))
        self._write("INSERT INTO records VALUES (?, ?, ?, ?)", row)
        return id

    def records(self, kind: Kind | None = None) -> list[Record]:
        """Records in the order in which they came."""
        rows = self._read(
            "SELECT id, created, kind, document FROM records WHERE kind = ? OR ? IS NULL"
            " ORDER BY rowid",
            (kind, kind),
        )
        return [Record(id, created, k, json.loads(text)) for id, created, k, text in rows]

    def keep_conversation(self, owner: str, id: str, document: dict[str, Any]) -> None:
        """Write or replace one conversation of the person with this secret."""
        self._write(
            # What replaces a row gets the highest number, whatever the clock says.
            "INSERT OR REPLACE INTO conversations VALUES (?, ?, ?, ?)",
            (_hidden(owner), id, _now(), json.dumps(document, ensure_ascii=False)),
        )

    def conversations(self, owner: str) -> dict[str, dict[str, Any]]:
        """The person's conversations by id, the one changed last first."""
        rows = self._read(
            "SELECT id, document FROM conversations WHERE owner = ? ORDER BY rowid DESC",
            (_hidden(owner),),
        )
        return {id: json.loads(text) for id, text in rows}

    def forget(self, owner: str, id: str | None = None) -> None:
        """Delete one conversation of a person, or all of them."""
        self._write(
            "DELETE FROM conversations WHERE owner = ? AND (id = ? OR ? IS NULL)",
            (_hidden(owner), id, id),
        )
        # What was deleted still stands in the log until that is written back and cut off.
        self._write("PRAGMA wal_checkpoint(TRUNCATE)", ())

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _prepare(self) -> None:
        self._file.execute("BEGIN IMMEDIATE")  # another process may be making the same tables
        [version] = self._file.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _TABLES.split(";"):
                self._file.execute(statement)
            self._file.execute(f"PRAGMA user_version = {_VERSION}")
        self._file.execute("COMMIT")
        if version > _VERSION:
            raise MedtuneError(
                f"{self._path} was written by a newer Medtune; update, or name another file."
            )

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._lock, self._told():
            self._file.execute(statement, values).fetchall()

    def _read(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock, self._told():
            return self._file.execute(statement, values).fetchall()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise MedtuneError(
                f"{self._path} cannot be used as a store ({error}); name another file."
            ) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _hidden(owner: str) -> str:
    """Whoever reads the file cannot take the person's place."""
    return sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()

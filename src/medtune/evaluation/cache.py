"""Answers and losses kept by everything they depend on: a second evaluation computes nothing.

The key is a hash of the weights, the way they are loaded, the tokens of the prompt and the
decoding.  Each batch is kept as soon as it is there, so an interrupted evaluation goes on.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from medtune.run import disk_error

_WHOLE_BELOW = 64 * 2**20
_EDGE = 2**20


class Cache:
    """JSON values by key in one sqlite file."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values that are there."""
        found: dict[str, Any] = {}
        for key in keys:
            row = self._connection.execute(
                "SELECT value FROM kept WHERE key = ?", (key,)
            ).fetchone()
            if row:
                found[key] = json.loads(row[0])
        return found

    def put(self, values: dict[str, Any]) -> None:
        rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in values.items()]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise disk_error(OSError(28, str(error)), self._path) from error


@contextmanager
def opened(path: Path) -> Iterator[Cache]:
    """The cache in a file; a damaged file is begun anew, since all in it can be computed again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = _connected(path)
    except sqlite3.DatabaseError:
        path.unlink()
        connection = _connected(path)
    try:
        yield Cache(connection, path)
    finally:
        connection.close()


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT)")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def key_of(*parts: Any) -> str:
    """A hash of values that JSON can hold."""
    return blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()


def fingerprint(folder: Path) -> str:
    """A hash of the weights and settings in a folder.

    Of a file above 64 MiB it takes size, time and both ends: reading 15 GB to save a question
    would be a poor trade.
    """
    digest = blake2b(digest_size=20)
    names = ("*.safetensors", "*.bin", "config.json", "adapter_config.json", "quant*.json")
    for path in sorted({path for pattern in names for path in folder.glob(pattern)}):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _WHOLE_BELOW:
                digest.update(file.read())
                continue
            digest.update(f"{path.stat().st_mtime_ns}".encode())
            digest.update(file.read(_EDGE))
            file.seek(-_EDGE, 2)
            digest.update(file.read())
    return digest.hexdigest()

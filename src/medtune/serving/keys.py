"""API keys: from the environment, held as hashes, compared in constant time."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from medtune.errors import MedtuneError

VARIABLE = "MEDTUNE_API_KEYS"
_SHORTEST = 16  # characters; keys are random, not chosen by people


@dataclass(frozen=True)
class Keys:
    """The keys that open the API; none means that it is open."""

    hashes: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def owner(self, key: str) -> str | None:
        """A short name for the key that says nothing about it, or None for a wrong one."""
        digest = sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for number, known in enumerate(self.hashes, start=1):
            if hmac.compare_digest(digest, known):
                found = f"key-{number}"
        return found


def load_keys(environment: Mapping[str, str] = os.environ) -> Keys:
    """The keys in ``MEDTUNE_API_KEYS``, separated by commas, each plain or as ``sha256:HEX``.

    Raises:
        MedtuneError: a key is too short, or a hash is none.
    """
    entries = [entry.strip() for entry in environment.get(VARIABLE, "").split(",")]
    return Keys(tuple(_hash(n, entry) for n, entry in enumerate(entries, start=1) if entry))


def _hash(number: int, entry: str) -> bytes:
    if entry.startswith("sha256:"):
        if not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", entry):
            raise MedtuneError(
                f"Entry {number} of {VARIABLE} is no SHA-256 hash; it needs 64 hexadecimal digits."
            )
        return bytes.fromhex(entry.removeprefix("sha256:"))
    if len(entry) < _SHORTEST:
        raise MedtuneError(
            f"Key {number} of {VARIABLE} is shorter than {_SHORTEST} characters; "
            "make one with `openssl rand -hex 24`."
        )
    return sha256(entry.encode("utf-8", "surrogateescape")).digest()

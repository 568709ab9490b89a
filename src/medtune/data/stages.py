"""Steps that are not done twice: a folder for each, named by all that went into it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtune.run import Run, whole

VERSION = 2
"""Raise it when the same settings give other rows than before."""


@dataclass(frozen=True)
class Stage:
    """A finished step: its folder, what it said of itself, and the key the next one builds on."""

    folder: Path
    facts: dict[str, Any]
    key: str
    redone: bool


def stage(
    run: Run,
    name: str,
    inputs: Any,
    build: Callable[[Path], dict[str, Any]],
    after: Stage | None = None,
) -> Stage:
    """The finished step of this name and these inputs; built if it is not there yet.

    Args:
        run: whose ``stages`` folder is used.
        name: of the step.
        inputs: JSON of all that decides the result besides the step before.
        build: fills the folder it is given and returns the facts.
        after: the step whose result this one reads.

    Raises:
        MedtuneError: what ``build`` raises, or the disk is full; no half-built folder stays.
    """
    text = json.dumps([VERSION, name, after.key if after else None, inputs], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    folder = run.stages / f"{name}-{key[:16]}"
    facts_file = folder / "facts.json"
    if facts_file.exists():
        return Stage(folder, run.read_json(facts_file), key, redone=False)
    with whole(folder) as part:
        part.mkdir()
        facts = build(part)
        (part / "facts.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    return Stage(folder, facts, key, redone=True)


def keep_only(run: Run, stages: list[Stage]) -> None:
    """Remove what earlier settings left."""
    kept = {stage.folder.name for stage in stages}
    for folder in run.stages.iterdir() if run.stages.exists() else ():
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def content_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

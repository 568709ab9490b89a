"""YAML with line numbers, so that a wrong rule is named by file and line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from medtune.errors import MedtuneError

RULES_FOLDER = Path(str(resources.files("medtune.safety"))) / "rules"


@dataclass(frozen=True)
class Row:
    """One entry of a YAML file: a mapping, or a key with its value, and where it stands."""

    file: str
    line: int
    value: Any
    key: str = ""

    def wrong(self, what: str) -> MedtuneError:
        return MedtuneError(f"{self.file}, line {self.line}: {what}")


@lru_cache(maxsize=64)
def _composed(path: Path, changed: int) -> yaml.Node | None:
    return yaml.compose(
        path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )


def read_rows(path: Path, section: str) -> list[Row]:
    """The entries under a top-level key of a file; none where the key is missing.

    Raises:
        MedtuneError: the file cannot be read or is no such YAML.
    """
    name = path.name
    try:
        tree = _composed(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise MedtuneError(f"{path} cannot be read: {error.strerror}.") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MedtuneError(f"{name}, line {line}: this is no YAML: {error.problem}.") from None
    if not isinstance(tree, yaml.MappingNode):
        raise MedtuneError(f"{name}, line 1: the file must be a mapping at the top.")
    node = next((value for key, value in tree.value if key.value == section), None)
    if isinstance(node, yaml.SequenceNode):
        return [Row(name, item.start_mark.line + 1, _plain(item)) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return [
            Row(name, key.start_mark.line + 1, _plain(value), str(key.value))
            for key, value in node.value
        ]
    return [] if node is None else [Row(name, node.start_mark.line + 1, _plain(node), section)]


def _plain(node: yaml.Node) -> Any:
    """The value of a node; numbers and words like "no" stay the text they are."""
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain(value) for key, value in node.value}
    return str(node.value)

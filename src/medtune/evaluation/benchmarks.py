"""Questions of a benchmark by its name, from local files or the Hub."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any, Literal

import yaml

from medtune.data.formats import SUFFIXES, records_of, suffix_of
from medtune.errors import MedtuneError
from medtune.hub import fetch
from medtune.model.template import Message

Kind = Literal["choices", "answers", "conditions", "refusal", "rubrics"]
ON_THE_HUB = "hub"
"""In place of a file: the benchmark's usual place on the Hub."""


@dataclass(frozen=True)
class Criterion:
    """One line of a rubric.  Negative points are for what an answer should not do."""

    text: str
    points: float
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One question.  What its kind does not have is empty."""

    question: str
    answer: str = ""
    options: tuple[str, ...] = ()
    right: int = 0
    """The place of the right option."""
    harmful: bool = False
    earlier: tuple[tuple[str, str], ...] = ()
    """Role and content of the turns before the question."""
    criteria: tuple[Criterion, ...] = ()
    tags: tuple[str, ...] = ()

    def history(self) -> list[Message]:
        return [{"role": role, "content": content} for role, content in self.earlier]


@dataclass(frozen=True)
class Benchmark:
    name: str
    kind: Kind
    file: str
    """Its name without the path."""
    items: tuple[Item, ...]
    available: int
    """Questions in the file."""


@cache
def formats() -> dict[str, Any]:
    """The benchmarks by name, and under ``declines`` how an answer declines."""
    text = (
        resources.files("medtune.evaluation")
        .joinpath("benchmarks.yaml")
        .read_text(encoding="utf-8")
    )
    return yaml.safe_load(text)


def names() -> list[str]:
    return sorted(set(formats()) - {"declines"})


def read_benchmark(name: str, source: str, limit: int, seed: int) -> Benchmark:
    """The questions of a file, a folder of files or a Hub repository, at most ``limit`` of them.

    Args:
        name: one of ``names()``.
        source: a path, a Hub id, or ``hub`` for the benchmark's usual place there.
        limit: questions, drawn with ``seed`` if there are more.
        seed: of the draw.

    Raises:
        MedtuneError: the name is unknown, the source is missing, broken or empty, or a column is
            not there.
    """
    if name not in names():
        raise MedtuneError(
            f"There is no benchmark {name!r}; there are {', '.join(names())} (`choices` and "
            "`answers` read any file).",
            exit_code=2,
        )
    how = formats()[name]
    files = _files(name, source, how.get("hub", {}))
    records = [record for one in files for record in _records(one)]
    for column, kept in how.get("only", {}).items():
        records = [row for row in records if row.get(column) in (None, *kept)]
    if not records:
        raise MedtuneError(f"{source} holds no questions; check the file.")
    items = tuple(_items(how, records, source))
    if not items:
        raise MedtuneError(
            f"{source} has {len(records)} rows, but none with a question that can be scored."
        )
    chosen = items if len(items) <= limit else tuple(Random(seed).sample(items, limit))
    return Benchmark(name, how["kind"], Path(source).name, chosen, len(items))


def _files(name: str, source: str, usual: dict[str, Any]) -> list[Path]:
    """The files of a source; from the Hub only those that hold the benchmark's questions."""
    if source == ON_THE_HUB and not usual:
        raise MedtuneError(
            f"The benchmark {name} has no usual place on the Hub; name a file: {name}=FILE.",
            exit_code=2,
        )
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    wanted = ["*"]
    if not path.is_dir():
        hub_id = usual["id"] if source == ON_THE_HUB else source
        if hub_id.count("/") != 1 or source.startswith((".", "/")) or suffix_of(path):
            raise MedtuneError(f"The benchmark file {source} does not exist; check the path.")
        wanted = usual["files"] if hub_id == usual.get("id") else ["*"]
        readable = [f"*{suffix}{gz}" for suffix in SUFFIXES for gz in ("", ".gz")]
        path = fetch(hub_id, "dataset", patterns=readable if wanted == ["*"] else wanted)
    files = sorted(
        one
        for one in path.rglob("*")
        if suffix_of(one) and any(fnmatch(one.relative_to(path).as_posix(), w) for w in wanted)
    )
    if not files:
        raise MedtuneError(f"{source} holds no csv, json, jsonl or parquet file with questions.")
    return files


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file; of a JSON object, its values."""
    if suffix_of(path) == ".json":
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        try:
            tree = json.loads(content.decode("utf-8-sig")) if content else None
        except ValueError:
            tree = None  # said better by the reader of records
        if isinstance(tree, dict) and all(isinstance(value, dict) for value in tree.values()):
            yield from tree.values()
            return
    yield from records_of(path)


def _items(how: dict[str, Any], records: list[dict[str, Any]], file: str) -> Iterator[Item]:
    columns = {key: value for key, value in how.items() if isinstance(value, list)}
    fixed = columns.pop("fixed_options", [])
    head = records[0]
    found = {
        key: [column for column in wanted if column in head] for key, wanted in columns.items()
    }
    for key, wanted in columns.items():
        if not found[key]:
            raise MedtuneError(
                f"{file} has no column for the {key} ({' or '.join(wanted)}); it has "
                f"{', '.join(map(str, head))}."
            )
    answers = [row.get(found["answer"][0]) for row in records] if "answer" in found else []
    first = 0 if any(str(a) == "0" for a in answers) else 1
    for number, row in enumerate(records, start=1):
        asked = row.get(found["question"][0])
        question = "" if isinstance(asked, list) else str(asked or "").strip()
        if how["kind"] == "rubrics":
            yield _rubric(asked if isinstance(asked, list) else question, row, found, file, number)
            continue
        if "context" in found:
            question = f"{_joined(row.get(found['context'][0]))}\n\n{question}"
        if not question:
            continue
        match how["kind"]:
            case "choices":
                options = fixed or _options(row, found["options"])
                right = _right(row.get(found["answer"][0]), options, first)
                if right is None:
                    raise MedtuneError(
                        f"{file}, question {number}: the answer "
                        f"{row.get(found['answer'][0])!r} is none of the {len(options)} options."
                    )
                yield Item(question, options[right], tuple(options), right)
            case "refusal":
                label = str(row.get(found["label"][0])) if "label" in found else ""
                harmful = how.get("harmful") is True or label == how.get("harmful_label")
                yield Item(question, harmful=harmful)
            case _:
                answer = str(row.get(found["answer"][0]) or "").strip()
                if answer:
                    yield Item(question, answer)


def _rubric(
    asked: list[Any] | str, row: dict[str, Any], found: dict[str, list[str]], file: str, number: int
) -> Item:
    """A question with its criteria; tags are HealthBench's, such as ``theme:global_health``."""
    try:
        turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        turns = [(str(turn["role"]), str(turn["content"])) for turn in turns]
        if turns[-1][0] != "user" or not turns[-1][1].strip():
            raise ValueError
        criteria = tuple(
            Criterion(str(c["criterion"]), float(c["points"]), tuple(c.get("tags") or ()))
            for c in row[found["rubrics"][0]]
        )
        if not any(criterion.points > 0 for criterion in criteria):
            raise ValueError
    except (KeyError, TypeError, ValueError, IndexError):
        raise MedtuneError(
            f"{file}, question {number}, is not in HealthBench's format: a prompt that ends with "
            "a turn of the user, and rubrics of criterion and points, one of them positive."
        ) from None
    return Item(
        turns[-1][1],
        earlier=tuple(turns[:-1]),
        criteria=criteria,
        tags=tuple(row.get("example_tags") or ()),
    )


def _joined(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("contexts", list(value.values()))
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _options(row: dict[str, Any], columns: list[str]) -> list[str]:
    value = row.get(columns[0])
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            value = json.loads(value)
        except ValueError:
            value = row.get(columns[0])
    if isinstance(value, dict):
        return [str(value[key]) for key in sorted(value)]
    if isinstance(value, list):
        # Some files hold {"key": "A", "value": ...} for each option.
        return [str(v.get("value", v) if isinstance(v, dict) else v) for v in value]
    return [str(row[column]) for column in columns if row.get(column) not in (None, "")]


def _right(answer: Any, options: list[str], first: int) -> int | None:
    """The place of the right option, which is told by itself, a letter or a number."""
    said = str(answer if answer is not None else "").strip()
    if said in options:
        return options.index(said)
    place = None
    if said.isdigit():
        place = int(said) - first
    elif len(said) == 1 and said.isalpha():
        place = ord(said.upper()) - ord("A")
    return place if place is not None and 0 <= place < len(options) else None

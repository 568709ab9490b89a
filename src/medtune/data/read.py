"""Read question-answer rows from a file, a folder, the Hub or the built-in dialogues."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.data.rows import Row
from medtune.embedded.consultations import consultations
from medtune.errors import MedtuneError
from medtune.hub import fetch
from medtune.recipe import Column, DataSection
from medtune.run import SplitName

if TYPE_CHECKING:
    import daft

BUILTIN = "builtin:consultations"
BUILTIN_ROWS = 3_000
_SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")

# Columns of widely used medical dialogue sets: what is the question, what is the answer.
_KNOWN_SHAPES: tuple[dict[Column, str | list[str]], ...] = (
    {"question": "question", "answer": "answer"},
    {"question": "Patient", "answer": "Doctor"},
    {"question": ["instruction", "input"], "answer": "output"},
    {"question": "input", "answer": "output"},
    {"question": "prompt", "answer": "completion"},
    {"question": "Symptoms", "answer": ["Name", "Treatments"], "condition": "Name"},
)
_LABELS: tuple[Column, ...] = ("condition", "specialist", "urgency", "system")


def read_builtin(section: DataSection) -> dict[SplitName, list[Row]]:
    """The built-in dialogues in their own splits, which share no wording."""
    total = section.limit or BUILTIN_ROWS
    counts: dict[SplitName, int] = {
        "validation": max(1, round(total * section.validation)),
        "test": max(1, round(total * section.test)),
    }
    counts["train"] = max(1, total - sum(counts.values()))
    return {
        split: [
            Row(
                id=f"{split}-{number}",
                question=c.question,
                answer=c.answer,
                condition=c.condition,
                specialist=c.specialist,
                urgency=c.urgency,
                kind=c.kind,
                system=section.system or "",
            )
            for number, c in enumerate(consultations(split, count, section.seed))
        ]
        for split, count in counts.items()
    }


def read_rows(section: DataSection) -> tuple[list[Row], dict[str, str | list[str]]]:
    """All rows of a file, a folder or a Hub data set, and the column mapping that was used.

    Raises:
        MedtuneError: the source is missing, empty, not UTF-8 or broken (with the line), or a
            mapped column is not there (with those that are).
    """
    files = _files(section.source)
    rows: list[Row] = []
    mapping: dict[Column, str | list[str]] = {}
    for path in files:
        frame = _frame(path)
        names = frame.column_names
        mapping = dict(section.columns) or _recognised(names, path)
        _check_columns(mapping, names, path)
        rows += _mapped(frame, mapping, section, start=len(rows))
    if not rows:
        raise MedtuneError(f"{section.source} holds no rows; check the file.")
    return rows, {str(k): v for k, v in mapping.items()}


def _files(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise MedtuneError(
                f"{path} is no {', '.join(s[1:] for s in _SUFFIXES)} file; convert it to one of them."
            )
        return [path]
    if not path.is_dir():
        looks_local = path.suffix in _SUFFIXES or path.is_absolute() or source.startswith(".")
        if looks_local or source.count("/") > 1 or source.startswith("builtin:"):
            raise MedtuneError(
                f"The data {source} does not exist; check the path, or use {BUILTIN}."
            )
        path = fetch(source, "dataset", patterns=[f"*{s}" for s in _SUFFIXES])
    files = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    if not files:
        raise MedtuneError(f"{source} holds no csv, json, jsonl or parquet file.")
    return files


def _frame(path: Path) -> daft.DataFrame:
    import daft
    from daft.exceptions import DaftCoreException

    if path.stat().st_size == 0:
        raise MedtuneError(f"{path} is empty; check the file.")
    if path.suffix != ".parquet":
        _check_utf8(path)
    try:
        match path.suffix:
            case ".csv":
                frame = daft.read_csv(str(path), allow_variable_columns=True)
            case ".parquet":
                frame = daft.read_parquet(str(path))
            case ".jsonl":
                frame = daft.read_json(str(path))
            case _:
                frame = daft.from_pylist(_json_list(path))
        return frame.collect()
    except DaftCoreException as error:
        _explain_json_line(path)
        raise MedtuneError(f"{path} cannot be read as {path.suffix[1:]}: {error}.") from None


def _check_utf8(path: Path) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise MedtuneError(
                    f"{path}, line {number}: byte {error.start + 1} is not UTF-8; "
                    "save the file as UTF-8 (for example with `iconv -t UTF-8`)."
                ) from None


def _json_list(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise MedtuneError(
            f"{path}, line {error.lineno}: this is no valid JSON: {error.msg}."
        ) from None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise MedtuneError(
            f"{path} must hold a list of objects; for one object per line name it .jsonl."
        )
    if not value:
        raise MedtuneError(f"{path} holds no rows; check the file.")
    return value


def _explain_json_line(path: Path) -> None:
    """Name the line that broke the reader, which itself only knows the byte in the line."""
    if path.suffix != ".jsonl":
        return
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            try:
                if line.strip():
                    json.loads(line)
            except json.JSONDecodeError as error:
                raise MedtuneError(
                    f"{path}, line {number}: this is no valid JSON: {error.msg}."
                ) from None


def _recognised(names: list[str], path: Path) -> dict[Column, str | list[str]]:
    for shape in _KNOWN_SHAPES:
        if all(name in names for name in _named(shape)):
            labels: dict[Column, str | list[str]] = {
                label: label for label in _LABELS if label in names and label not in shape
            }
            return {**shape, **labels}
    raise MedtuneError(
        f"{path} has the columns {', '.join(names)}; say which is which, "
        f"for example data.columns='{{question: {names[0]}, answer: {names[-1]}}}'."
    )


def _check_columns(mapping: dict[Column, str | list[str]], names: list[str], path: Path) -> None:
    for needed in ("question", "answer"):
        if needed not in mapping:
            raise MedtuneError(
                f"data.columns does not say which column is the {needed}; add it.", 2
            )
    for name in _named(mapping):
        if name not in names:
            raise MedtuneError(
                f"{path} has no column {name!r}; it has {', '.join(names)}. Mend data.columns."
            )


def _named(mapping: dict[Column, str | list[str]]) -> list[str]:
    return [
        n for value in mapping.values() for n in (value if isinstance(value, list) else [value])
    ]


def _mapped(
    frame: daft.DataFrame,
    mapping: dict[Column, str | list[str]],
    section: DataSection,
    start: int,
) -> Iterator[Row]:
    columns = frame.to_pydict()

    def cell(target: Column, index: int) -> str:
        source = mapping.get(target)
        if source is None:
            return ""
        names = source if isinstance(source, list) else [source]
        values = [columns[name][index] for name in names]
        return "\n\n".join(str(v).strip() for v in values if v is not None and str(v).strip())

    count = len(next(iter(columns.values()), []))
    for index in range(count):
        row = Row(
            id=str(start + index), question=cell("question", index), answer=cell("answer", index)
        )
        labels = {label: cell(label, index) for label in _LABELS}
        labels["system"] = labels["system"] or section.system or ""
        yield replace(row, **labels)

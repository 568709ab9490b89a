"""Records of a csv, json, jsonl (gz too) or parquet file, one after the other.

A broken file is one sentence with the line.  Nothing here guesses types: text stays text.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from medtune.errors import MedtuneError

SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")
_LONGEST_FIELD = 2**30
_BATCH_ROWS = 2_000


def suffix_of(path: Path) -> str | None:
    """The format of a file by its name, ``.gz`` aside; None where we read no such format."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def records_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file.

    Raises:
        MedtuneError: the file is empty, damaged, cut off, not UTF-8 or no such format.
    """
    if path.stat().st_size == 0:
        raise MedtuneError(f"{path} is empty; check the file.")
    match suffix_of(path):
        case ".csv":
            yield from _csv(path)
        case ".jsonl":
            yield from _json_lines(path)
        case ".parquet":
            yield from _parquet(path)
        case _:
            yield from _json(path)


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path, "rb") as file:
                yield file  # type: ignore[misc]
        else:
            with path.open("rb") as file:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MedtuneError(
            f"{path} is cut off or damaged ({error}); download or pack it again."
        ) from None


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LONGEST_FIELD)
    with _open(path) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
        reader = csv.reader(text)
        try:
            head = next(reader, None)
            for cells in reader:
                if cells:
                    assert head is not None
                    missing = [""] * (len(head) - len(cells))
                    yield dict(zip(head, cells + missing, strict=False))
        except UnicodeDecodeError:
            raise _no_utf8(path) from None
        except csv.Error as error:
            raise MedtuneError(f"{path}, line {reader.line_num}: no valid csv: {error}.") from None


def _json_lines(path: Path, first: int = 1) -> Iterator[dict[str, Any]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=first):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except UnicodeDecodeError:
                raise _no_utf8(path) from None
            except (json.JSONDecodeError, RecursionError) as error:
                message = getattr(error, "msg", "it is nested too deeply")
                raise MedtuneError(
                    f"{path}, line {number}: this is no valid JSON: {message}."
                ) from None
            if not isinstance(value, dict):
                raise MedtuneError(f"{path}, line {number}: every line must hold one object.")
            yield value


def _json(path: Path) -> Iterator[dict[str, Any]]:
    with _open(path) as file:
        content = file.read()
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _no_utf8(path) from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:  # one object per line, named .json
            del content
            yield from _json_lines(path)
            return
        raise MedtuneError(
            f"{path}, line {error.lineno}: this is no valid JSON: {error.msg}."
        ) from None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise MedtuneError(
            f"{path} must hold a list of objects; for one object per line name it .jsonl."
        )
    yield from value


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches(_BATCH_ROWS):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise MedtuneError(
            f"{path} cannot be read as parquet: {reason}; it may be cut off, get it again."
        ) from None


def _no_utf8(path: Path) -> MedtuneError:
    """The sentence that names the line and the byte."""
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return MedtuneError(
                    f"{path}, line {number}: byte {error.start + 1} is not UTF-8; "
                    "save the file as UTF-8 (for example with `iconv -t UTF-8`)."
                )
    return MedtuneError(f"{path} is not UTF-8; save the file as UTF-8.")

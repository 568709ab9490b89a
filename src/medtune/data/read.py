"""Read dialogues from files, folders and the Hub into part files with running ids."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from medtune.data.engine import write_part
from medtune.data.formats import SUFFIXES, records_of, suffix_of
from medtune.data.shapes import LABELS, Dialogue, Shape, dialogue, shape_of
from medtune.errors import MedtuneError
from medtune.hub import fetch
from medtune.recipe import DataSection, MixtureSource

if TYPE_CHECKING:
    import pyarrow as pa

BUILTIN = "builtin:consultations"
PART_ROWS = 10_000
PART_CHARACTERS = 32_000_000
"""A part file ends at whichever comes first, so that one very long row fills no memory."""


@dataclass(frozen=True)
class Source:
    """Where rows come from: files here, or a data set that is streamed from the Hub."""

    name: str
    wanted: MixtureSource
    files: tuple[Path, ...]

    def signature(self) -> Any:
        """Changes when the input changes: names, sizes and times of files, or the Hub revision."""
        if not self.files:
            return [self.name, self.wanted.revision]
        return [_stamp(path) for path in self.files]


def input_signature(section: DataSection) -> Any:
    """Changes when the input named in a recipe changes; asks no network.

    Of a file its name, size and time; of a Hub data set its id and revision.

    Raises:
        OSError: a file of the section is not there.
    """
    parts: list[Any] = []
    named = [(m.source, m.revision) for m in section.mixture] or [
        (section.source, section.revision)
    ]
    for source, revision in named:
        path = Path(source).expanduser()
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if suffix_of(p))
        parts.append(
            [_stamp(p) for p in files if p.is_file()] if path.exists() else [source, revision]
        )
    others = [*section.contamination, *([section.rules_file] if section.rules_file else [])]
    return [parts, [_stamp(Path(name).expanduser()) for name in others]]


def _stamp(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def sources_of(section: DataSection) -> list[Source]:
    """The sources of a recipe, found on this machine or downloaded.

    Raises:
        MedtuneError: one is missing, holds no file that can be read, or the Hub does not give it.
    """
    wanted = list(section.mixture) or [
        MixtureSource(source=section.source, revision=section.revision, columns=section.columns)
    ]
    return [Source(part.source, part, _files(part, section.streaming)) for part in wanted]


def read_sources(sources: list[Source], section: DataSection, folder: Path) -> dict[str, Any]:
    """Write the rows of all sources as part files and return what was read.

    Returns:
        ``rows``; for each source its name, its rows and the mapping of its columns.

    Raises:
        MedtuneError: a file is broken (with the line) or no row is there at all.
    """
    said = []
    with PartWriter(folder) as writer:
        for source in sources:
            before, shape = writer.rows, None
            for record, shape in _records(source):
                row = dialogue(record, shape)
                writer.add(row, source.name, row.system or section.system or "")
            if writer.rows == before:
                raise MedtuneError(f"{source.name} holds no rows; check the file.")
            assert shape is not None
            said.append(
                {
                    "source": source.name,
                    "rows": writer.rows - before,
                    "shape": shape.name,
                    "columns": {
                        key: names[0] if len(names) == 1 else names
                        for key, names in shape.columns.items()
                    },
                    "sentence": shape.sentence(),
                }
            )
    return {"rows": writer.rows, "sources": said}


class PartWriter:
    """Collects rows and writes them as numbered part files; ids run from 0.

    A part is written by a thread while the next one is collected; at its end as a context, the
    last one is written and all are there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = 0
        self._parts = 0
        self._pending: list[tuple[Any, ...]] = []
        self._characters = 0
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._written: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Also after an error: the folder must not be cleared away while the thread writes into it.
        with self._thread:
            if kind is None:
                self._hand_over()
                self._wait()

    def add(self, row: Dialogue, source: str, system: str) -> None:
        self._pending.append(
            (
                self.rows, source, row.question, row.answer, row.history, system,
                *(row.labels.get(label, "") for label in LABELS),
            )
        )  # fmt: skip
        self.rows += 1
        self._characters += len(row.question) + len(row.answer)
        if len(self._pending) >= PART_ROWS or self._characters >= PART_CHARACTERS:
            self._hand_over()

    def _hand_over(self) -> None:
        import pyarrow as pa

        if self._pending:
            schema = part_schema()
            values = zip(*self._pending, strict=True)
            columns = [_column(list(v), f.type) for v, f in zip(values, schema, strict=True)]
            path = self.folder / f"part-{self._parts:06}.parquet"
            self._wait()  # one part at a time, so that memory stays bounded
            self._written = self._thread.submit(write_part, pa.table(columns, schema=schema), path)
            self._parts += 1
            self._pending, self._characters = [], 0

    def _wait(self) -> None:
        if self._written is not None:
            self._written.result()


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # half of a surrogate pair, as broken JSON brings it
        return pa.array([_encodable(value) for value in values], kind)


def part_schema() -> pa.Schema:
    """The columns of a part file."""
    import pyarrow as pa

    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    return pa.schema(
        [
            ("id", pa.int64()),
            ("source", pa.string()),
            ("question", pa.string()),
            ("answer", pa.string()),
            ("history", turns),
            ("system", pa.string()),
            *((label, pa.string()) for label in LABELS),
        ]
    )


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return [{**turn, "content": _encodable(turn["content"])} for turn in value]


def _records(source: Source) -> Iterator[tuple[dict[str, Any], Shape]]:
    if source.files:
        for path in source.files:
            shape = None
            for record in records_of(path):
                if shape is None:
                    shape = shape_of(list(record), source.wanted.columns, str(path))
                yield record, shape
    else:
        shape = None
        for record in stream(source.name, source.wanted.revision):
            if shape is None:
                shape = shape_of(list(record), source.wanted.columns, source.name)
            yield record, shape


def stream(repo_id: str, revision: str) -> Iterator[dict[str, Any]]:
    """The training rows of a Hub data set, one by one, without keeping its files.

    Raises:
        MedtuneError: the Hub cannot be reached or does not give the data set.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(repo_id, split="train", revision=revision, streaming=True)
        yield from (dict(row) for row in rows)
    except MedtuneError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MedtuneError(
            f"{repo_id!r} cannot be streamed from the Hub ({reason}); check the name and the "
            "network, set HF_TOKEN if it is gated, or set data.streaming=false."
        ) from None


def _nearest_file(path: Path) -> Path | None:
    """The data file beside it whose name is almost the same; a name without an ending is of the Hub."""
    if not path.suffix or not path.parent.is_dir():
        return None
    there = [file.name for file in path.parent.iterdir() if suffix_of(file)]
    found = get_close_matches(path.name, there, n=1, cutoff=0.8)
    return path.with_name(found[0]) if found else None


def _files(wanted: MixtureSource, streaming: bool) -> tuple[Path, ...]:
    path = Path(wanted.source).expanduser()
    if path.is_file():
        if suffix_of(path) is None:
            raise MedtuneError(
                f"{path} is no {', '.join(s[1:] for s in SUFFIXES)} file; convert it to one of them."
            )
        return (path,)
    if not path.is_dir():
        looks_local = (
            suffix_of(path) is not None or path.is_absolute() or wanted.source.startswith(".")
        )
        meant = _nearest_file(path)
        if meant:
            raise MedtuneError(f"The data {wanted.source} does not exist; did you mean {meant}?")
        if looks_local or wanted.source.count("/") > 1 or wanted.source.startswith("builtin:"):
            raise MedtuneError(
                f"The data {wanted.source} does not exist; name yours with data.source=FILE, or use "
                f"{BUILTIN}."
            )
        if streaming:
            return ()
        patterns = [f"*{s}{gz}" for s in SUFFIXES for gz in ("", ".gz")]
        path = fetch(wanted.source, "dataset", wanted.revision, patterns)
    files = tuple(sorted(p for p in path.rglob("*") if p.is_file() and suffix_of(p)))
    if not files:
        raise MedtuneError(f"{wanted.source} holds no csv, json, jsonl or parquet file.")
    return files

"""The last step: the rows of the plan as split files, and the rest with its reason."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.data.engine import part_files
from medtune.data.filters import REASONS
from medtune.data.plan import Plan
from medtune.data.rows import row_schema
from medtune.errors import MedtuneError
from medtune.run import SPLITS, Run, SplitName

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST_TOKENS = 1_000_000
_WRITTEN: Any = {
    "compression": "zstd",
    # A dictionary only where few values recur; of questions and answers it would take a third of the time.
    "use_dictionary": ["condition", "specialist", "urgency", "kind", "system", "source", "reason"],
}


@dataclass
class Delivered:
    """What was written."""

    counts: dict[SplitName, int]
    dropped: dict[str, int]
    fingerprint: str
    """SHA-256 over question, answer, system turn and earlier turns of every row in order."""
    tokens: list[int]
    """How many rows have 0, 1, 2 ... tokens."""
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    samples: list[dict[str, str]] = field(default_factory=list)


def deliver(
    plan: Plan,
    texts: Path,
    fitted: Path,
    files: dict[SplitName, Path],
    dropped_file: Path,
    too_long_is_dropped: int,
) -> Delivered:
    """Write the split files in the order of the ids, part by part.

    Args:
        plan: what each row is for.
        texts: the part files with the cleaned rows.
        fitted: the part files with tokens and shortened questions, of the rows in use.
        files: where the splits go.
        dropped_file: where the rest goes.
        too_long_is_dropped: ``max_length``; a row that is still longer is left out.
    """
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    reason = np.load(plan.reason_file)
    split = np.load(plan.split_file)
    too_long, not_drawn = REASONS.index("longer than max_length"), REASONS.index("not drawn")
    digests = {name: hashlib.sha256() for name in SPLITS}
    counts: dict[SplitName, int] = dict.fromkeys(SPLITS, 0)
    labels: dict[str, Counter[str]] = {n: Counter() for n in ("condition", "specialist", "urgency")}
    dropped: Counter[str] = Counter()
    tokens_of = np.zeros(1, np.int64)
    samples: list[dict[str, str]] = []
    schema = row_schema()
    dropped_schema = schema.append(pa.field("reason", pa.string()))
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(parquet.ParquetWriter(path, schema, **_WRITTEN))
            for name, path in files.items()
        }
        rest = stack.enter_context(parquet.ParquetWriter(dropped_file, dropped_schema, **_WRITTEN))
        for table, tokens in _read_ahead(part_files(texts), fitted):
            ids = table.column("id").to_numpy()
            why, where = reason[ids].copy(), split[ids].copy()
            over = (where >= 0) & (tokens > too_long_is_dropped)
            why[over], where[over] = too_long, -1
            rows = _as_rows(table, tokens, schema)
            for index, name in enumerate(SPLITS):
                chosen = rows.filter(pa.array(where == index))
                if chosen.num_rows:
                    writers[name].write_table(chosen)
                    counts[name] += chosen.num_rows
                    _digest(digests[name], chosen)
                    for label, counter in labels.items():
                        if name == "train":
                            counter.update(v for v in chosen.column(label).to_pylist() if v)
                    if name == "train" and len(samples) < 6:
                        samples += (
                            chosen.select(["question", "answer"])
                            .slice(0, 6 - len(samples))
                            .to_pylist()
                        )
            tokens_of = _added(
                tokens_of, np.bincount(np.minimum(tokens[where >= 0], _LONGEST_TOKENS))
            )
            out = (why > 0) & (why != not_drawn)
            if out.any():
                names = pa.array([REASONS[i] for i in why[out]], pa.string())
                rest.write_table(rows.filter(pa.array(out)).append_column("reason", names))
            dropped.update(REASONS[i] for i in why[why > 0].tolist())
    digest = hashlib.sha256()
    for name in SPLITS:
        digest.update(digests[name].digest())
    return Delivered(counts, dict(dropped), digest.hexdigest(), tokens_of.tolist(), labels, samples)


def _read_ahead(parts: list[Path], fitted: Path) -> Iterator[tuple[pa.Table, Any]]:
    """The parts with their tokens; while one is written, a thread reads the next."""
    from pyarrow import parquet

    def read(part: Path) -> tuple[pa.Table, Any]:
        return _with_fitted(parquet.read_table(part), parquet.read_table(fitted / part.name))

    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = [thread.submit(read, part) for part in parts[:1]]
        for part in parts[1:]:
            coming.append(thread.submit(read, part))
            yield coming.pop(0).result()
        for last in coming:
            yield last.result()


def _with_fitted(table: pa.Table, fitted: pa.Table) -> tuple[pa.Table, Any]:
    """The rows with shortened questions and without cut turns, and their tokens (0: not in use)."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = table.column("id").to_numpy()
    tokens = np.zeros(len(ids), np.int64)
    if not fitted.num_rows:
        return table, tokens
    place = fitted.column("id").to_numpy() - ids[0]
    tokens[place] = fitted.column("tokens").to_numpy()
    shortened = fitted.filter(pc.is_valid(fitted.column("question")))
    if shortened.num_rows:
        questions = table.column("question").to_pylist()
        history = table.column("history").to_pylist()
        for row in shortened.to_pylist():
            at = row["id"] - int(ids[0])
            questions[at] = row["question"]
            history[at] = history[at][row["turns_cut"] :]
        for name, values in (("question", questions), ("history", history)):
            index = table.schema.get_field_index(name)
            table = table.set_column(index, name, pa.array(values, table.schema.field(name).type))
    return table, tokens


def _as_rows(table: pa.Table, tokens: Any, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    nothing = pa.array([""] * table.num_rows, pa.string())
    made: dict[str, Any] = {
        "id": table.column("id").cast(pa.string()),
        "tokens": tokens,
        "kind": nothing,
    }
    columns = [
        made.get(name, table.column(name) if name in table.column_names else nothing)
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)


def _digest(digest: Any, rows: pa.Table) -> None:
    """Row by row, so that it does not depend on where a part file ends."""
    import pyarrow as pa
    import pyarrow.compute as pc

    history = rows.column("history").combine_chunks()
    turns: Any = pa.nulls(rows.num_rows, pa.string()).fill_null("")
    if len(history.flatten()):
        said = (
            "".join(f"{t['role']}:{t['content']}" for t in h or ()) for h in history.to_pylist()
        )
        turns = pa.array(said, pa.string())
    pieces: list[Any] = []
    for text in (*(rows.column(n) for n in ("question", "answer", "system")), turns):
        pieces += [pc.binary_length(text).cast(pa.string()), ":", text]
    for chunk in pc.binary_join_element_wise(*pieces, "").chunks:
        _, offsets, text = chunk.buffers()
        places = memoryview(offsets).cast("i")[chunk.offset : chunk.offset + len(chunk) + 1]
        digest.update(memoryview(text)[places[0] : places[-1]])


def _added(one: Any, other: Any) -> Any:
    import numpy as np

    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    total = np.array(longer, dtype=np.int64)
    total[: len(shorter)] += shorter
    return total


@contextmanager
def delivery(run: Run) -> Iterator[Path]:
    """A folder whose files take their places in ``data/`` when all of them are whole.

    The card goes first and is written last: without it, nothing counts as prepared.
    """
    place = run.card_json.parent
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".splits.", dir=place) as name:
        yield Path(name)
        for card in (run.card_json, run.card_markdown, run.card_page):
            card.unlink(missing_ok=True)
        for file in Path(name).iterdir():
            file.replace(place / file.name)


def require_all_splits(counts: dict[SplitName, int], dropped: dict[str, int]) -> None:
    """Complain of a split without rows."""
    for name in SPLITS:
        if not counts[name]:
            raise MedtuneError(
                f"No rows are left for {name} (dropped: {reasons_of(dropped) or 'none'}); "
                "add rows or raise data.max_length."
            )


def reasons_of(dropped: dict[str, int]) -> str:
    """The reasons with their numbers, most frequent first."""
    ranked = sorted(dropped.items(), key=lambda item: -item[1])
    return ", ".join(f"{n:,} {reason}" for reason, n in ranked if reason != "not drawn")

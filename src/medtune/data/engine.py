"""Run a step of the preparation over all part files with Daft: processes here, or a Ray cluster.

The rows of a preparation lie in part files of a few thousand rows with running ids.  A step is a
function from one part file to another, so memory stays bounded however many parts there are, the
result does not depend on where a part is worked on, and the same code runs on a laptop and on
Ray.  Where Ray runs, the run folder must lie on a disk that all nodes see.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medtune.errors import MedtuneError
from medtune.run import disk_error

if TYPE_CHECKING:
    import pyarrow as pa

Facts = dict[str, Any]
"""What a step found in one part; JSON."""


class Step(Protocol):
    """A step can be pickled, so that another process or another machine can take it over."""

    def __call__(self, source: Path, target: Path) -> Facts: ...


def part_files(folder: Path) -> list[Path]:
    """The part files of a folder in the order of their rows."""
    return sorted(folder.glob("part-*.parquet"))


def write_part(table: pa.Table, path: Path) -> None:
    """Write a part file."""
    from pyarrow import parquet

    # No dictionary: hardly a text is there twice.
    parquet.write_table(table, path, compression="zstd", compression_level=1, use_dictionary=False)


def map_parts(
    step: Step,
    parts: Sequence[Path],
    target: Path,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Facts]:
    """Apply a step to every part file; the results lie in ``target`` under the same names.

    Args:
        step: reads one part file and writes another.
        parts: the part files.
        target: a folder that exists.
        advance: told the number of parts that are done.

    Returns:
        What the step said of each part, in the order of the parts.

    Raises:
        MedtuneError: what the step raised, or a disk that is full.
    """
    if not on_ray() and (len(parts) < 2 or _workers() < 2):
        facts = []
        for part in parts:
            facts.append(_guarded(step, part, target))
            advance(1)
            if _went_wrong(facts[-1]):
                break
    else:
        facts = _with_daft(step, parts, target, advance)
    for fact in facts:
        if "medtune_error" in fact:
            raise MedtuneError(fact["medtune_error"])
        if "failure" in fact:
            raise RuntimeError(fact["failure"])
    return facts


def on_ray() -> bool:
    """Whether Daft runs on Ray: ``DAFT_RUNNER=ray``, or ``daft.set_runner_ray`` was called."""
    import daft

    return daft.runners.get_or_infer_runner_type() == "ray"


def _with_daft(
    step: Step, parts: Sequence[Path], target: Path, advance: Callable[[int], None]
) -> list[Facts]:
    import daft

    _quiet()

    @daft.cls(use_process=not on_ray(), max_concurrency=_workers())
    class Worker:
        def __init__(self, step: Step, target: str) -> None:
            self.step = step
            self.target = Path(target)

        @daft.method(return_dtype=daft.DataType.string())
        def work(self, part: str) -> str:
            return json.dumps({"part": part, "facts": _guarded(self.step, Path(part), self.target)})

    names = [str(part.resolve()) for part in parts]
    frame = daft.from_pydict({"part": names})
    frame = frame.into_partitions(len(names)) if on_ray() else frame.into_batches(1)
    worker = Worker(step, str(target.resolve()))
    done: dict[str, Facts] = {}
    for row in frame.select(worker.work(daft.col("part")).alias("done")).iter_rows():
        said = json.loads(row["done"])
        done[said["part"]] = said["facts"]
        advance(1)
        if _went_wrong(said["facts"]):
            return [said["facts"]]
    return [done[name] for name in names]


def _guarded(step: Step, part: Path, target: Path) -> Facts:
    """What the step says; an error travels as text, for it may come from another machine."""
    try:
        return step(part, target / part.name)
    except MedtuneError as error:
        return {"medtune_error": str(error)}
    except Exception as error:
        # The target stands in a hidden folder until it is whole; people know the one above.
        place = target.parent.parent if target.parent.name.startswith(".") else target
        explained = disk_error(error, place) if isinstance(error, OSError) else error
        if isinstance(explained, MedtuneError):
            return {"medtune_error": str(explained)}
        where = traceback.format_exc()
        return {"failure": f"{type(error).__name__} in {part.name}: {error}\n{where}"}


def _went_wrong(facts: Facts) -> bool:
    return "medtune_error" in facts or "failure" in facts


def _workers() -> int:
    if on_ray():
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1))) if ray.is_initialized() else 2
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quiet() -> None:
    """Daft's own progress bar and usage report stay off: ours says the same, and nothing is sent."""
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
    os.environ.setdefault("DO_NOT_TRACK", "true")


@contextmanager
def progress(title: str, parts: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left, on a terminal and where there is something to wait for."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    hidden = parts < 3 or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(title, total=parts)
        yield lambda count: bar.advance(task, count)

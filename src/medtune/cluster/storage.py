"""Where the checkpoints of a cluster go: any file system, which may be away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow.fs as arrow
from pyarrow import ArrowInvalid

from medtune.errors import MedtuneError

T = TypeVar("T")
_MARKER = ".medtune"
"""Lies in the storage while it is reachable: a folder that is not mounted looks empty."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_HICCUPS = 2
PATIENCE = 600.0
"""Seconds that an operation waits for a storage that is away."""


def storage_at(address: str, patience: float = PATIENCE) -> tuple[arrow.PyFileSystem, str]:
    """The file system behind an address and the path in it, made if need be.

    Args:
        address: a folder, or what pyarrow or fsspec know: ``s3://``, ``gs://``, ``hdfs://``,
            ``abfs://``, ``ftp://`` ...
        patience: seconds that every operation waits for a storage that is away.

    Raises:
        MedtuneError: there is no such kind of storage, or it cannot be written to.
    """
    try:
        inner, path = _file_system(address)
        inner.create_dir(path, recursive=True)
        with inner.open_output_stream(str(PurePosixPath(path, _MARKER))):
            pass
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise MedtuneError(
            f"The storage {address} cannot be used ({str(error).splitlines()[0]}); mend "
            "cluster.storage, or install the package that fsspec needs for it."
        ) from error
    return arrow.PyFileSystem(Patient(inner, path, patience)), path


def _file_system(address: str) -> tuple[arrow.FileSystem, str]:
    if "://" not in address:
        return arrow.LocalFileSystem(), str(Path(address).expanduser().resolve())
    try:
        return arrow.FileSystem.from_uri(address)
    except (ArrowInvalid, NotImplementedError):
        import fsspec

        inner, path = fsspec.core.url_to_fs(address)
        return arrow.PyFileSystem(arrow.FSSpecHandler(inner)), path


class Patient(arrow.FileSystemHandler):
    """A file system that waits while the storage is away, in place of failing.

    An error counts as "away" when the marker in the storage cannot be read either; so does a file
    that is missing, for a share that is not mounted is an empty folder.

    Args:
        inner: the file system.
        root: the storage's folder in it.
        patience: seconds to wait before the error is passed on.
    """

    def __init__(self, inner: arrow.FileSystem, root: str, patience: float) -> None:
        self.inner, self.root, self.patience = inner, root, patience

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patient) and (self.inner, self.root) == (other.inner, other.root)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.root)

    def _is_there(self) -> bool:
        try:
            found: Any = self.inner.get_file_info(str(PurePosixPath(self.root, _MARKER)))
        except OSError:
            return False
        return found.type == arrow.FileType.File

    def wait_for(self, operation: Callable[[], T], is_missing: Callable[[T], bool]) -> T:
        """What the operation returns, tried again for as long as the storage is away.

        An error of a storage that is there again by the time it is looked at counts as one that
        was away for a moment, ``_HICCUPS`` times.
        """
        started, pause, hiccups = time.monotonic(), _FIRST_PAUSE, 0
        while True:
            waited = time.monotonic() - started > self.patience
            try:
                found = operation()
            except OSError as error:
                if waited:
                    raise
                if self._is_there():
                    hiccups += 1
                    if isinstance(error, FileNotFoundError) or hiccups > _HICCUPS:
                        raise
            else:
                if not is_missing(found) or self._is_there():
                    return found
                if waited:
                    raise OSError(f"the storage {self.root} is away")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.wait_for(
            lambda: getattr(self.inner, name)(*args, **kwargs), is_missing=lambda _: False
        )

    def get_type_name(self) -> str:
        return f"patient+{self.inner.type_name}"

    def normalize_path(self, path: str) -> str:
        return self.inner.normalize_path(path)

    def get_file_info(self, paths: list[str]) -> list[arrow.FileInfo]:
        return self.wait_for(
            lambda: self.inner.get_file_info(paths),  # type: ignore[arg-type]
            is_missing=lambda found: any(f.type == arrow.FileType.NotFound for f in found),
        )  # type: ignore[return-value]

    def get_file_info_selector(self, selector: arrow.FileSelector) -> list[arrow.FileInfo]:
        return self.wait_for(
            lambda: self.inner.get_file_info(selector), is_missing=lambda found: not found
        )

    def create_dir(self, path: str, recursive: bool) -> None:
        self._do("create_dir", path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self._do("delete_dir", path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        self._do("delete_dir_contents", path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        raise PermissionError("the root of a storage is never emptied")

    def delete_file(self, path: str) -> None:
        self._do("delete_file", path)

    def move(self, src: str, dest: str) -> None:
        self._do("move", src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        self._do("copy_file", src, dest)

    def open_input_stream(self, path: str) -> Any:
        return self._do("open_input_stream", path)

    def open_input_file(self, path: str) -> Any:
        return self._do("open_input_file", path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        return self._do("open_output_stream", path, metadata=metadata)

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        return self._do("open_append_stream", path, metadata=metadata)


def copy(
    source: str,
    target: str,
    *,
    source_in: arrow.FileSystem | None = None,
    target_in: arrow.FileSystem | None = None,
) -> None:
    """Copy a folder from or to the storage, wholly again if it went away in the middle.

    Raises:
        OSError: it was away for longer than its patience.
    """

    here = arrow.LocalFileSystem()
    origin, goal = source_in or here, target_in or here

    def attempt() -> None:
        goal.create_dir(target, recursive=True)
        arrow.copy_files(
            source,
            target,
            source_filesystem=origin,
            destination_filesystem=goal,
            # Threads that upload to S3 can deadlock (apache/arrow#32372).
            use_threads=goal is here,
        )

    for where in (origin, goal):
        if isinstance(where, arrow.PyFileSystem) and isinstance(where.handler, Patient):
            return where.handler.wait_for(attempt, is_missing=lambda _: False)
    return attempt()

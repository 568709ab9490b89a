"""The storage of a cluster: what is written is there, and an absence is waited for."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path

import pytest
from pyarrow.fs import FileType

from medtune.cluster.storage import copy, storage_at
from medtune.errors import MedtuneError


def _folder(path: Path) -> Path:
    (path / "inner").mkdir(parents=True)
    (path / "one").write_bytes(b"1" * 1000)
    (path / "inner" / "two").write_bytes(b"2")
    return path


def _back_after(seconds: float, away: Path, storage: Path, *, unmounted: bool) -> threading.Thread:
    """Take the storage away at once: an empty folder, or something that is no folder, stays."""
    storage.rename(away)
    if unmounted:
        storage.mkdir()
    else:
        storage.write_text("no folder")

    def back() -> None:
        time.sleep(seconds)
        if unmounted:
            storage.rmdir()
        else:
            storage.unlink()
        away.rename(storage)

    thread = threading.Thread(target=back)
    thread.start()
    return thread


@pytest.mark.parametrize("address", ["{folder}", "file://{folder}", "memory://bucket/{name}"])
def test_a_folder_comes_back_as_it_was_sent(tmp_path: Path, address: str) -> None:
    """A path, an address that pyarrow knows, and one that only fsspec knows."""
    sent = _folder(tmp_path / "sent")
    files, root = storage_at(address.format(folder=tmp_path / "storage", name=tmp_path.name))
    copy(str(sent), f"{root}/a/b", target_in=pickle.loads(pickle.dumps(files)))
    copy(f"{root}/a/b", str(tmp_path / "back"), source_in=files)
    assert (tmp_path / "back" / "one").read_bytes() == b"1" * 1000
    assert (tmp_path / "back" / "inner" / "two").read_bytes() == b"2"


@pytest.mark.parametrize("unmounted", [True, False])
def test_a_storage_that_is_away_is_waited_for(tmp_path: Path, unmounted: bool) -> None:
    files, root = storage_at(str(tmp_path / "storage"))
    copy(str(_folder(tmp_path / "sent")), f"{root}/a", target_in=files)
    thread = _back_after(1, tmp_path / "away", tmp_path / "storage", unmounted=unmounted)
    assert files.get_file_info(f"{root}/a/one").type == FileType.File
    thread.join()
    thread = _back_after(1, tmp_path / "away", tmp_path / "storage", unmounted=unmounted)
    copy(f"{root}/a", str(tmp_path / "back"), source_in=files)
    thread.join()
    assert (tmp_path / "back" / "one").stat().st_size == 1000


def test_what_is_not_there_in_a_storage_that_is_there_is_said_at_once(tmp_path: Path) -> None:
    files, root = storage_at(str(tmp_path / "storage"), patience=60)
    started = time.monotonic()
    assert files.get_file_info(f"{root}/none").type == FileType.NotFound
    with pytest.raises(FileNotFoundError):
        files.open_input_stream(f"{root}/none")
    assert time.monotonic() - started < 30


def test_patience_has_an_end(tmp_path: Path) -> None:
    files, root = storage_at(str(tmp_path / "storage"), patience=0.3)
    (tmp_path / "storage").rename(tmp_path / "away")
    with pytest.raises(OSError, match="is away"):
        files.get_file_info(f"{root}/a")


def test_a_storage_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match=r"nowhere://x cannot be used .*mend cluster.storage"):
        storage_at("nowhere://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(MedtuneError, match="cannot be used"):
        storage_at(str(tmp_path / "file" / "storage"))

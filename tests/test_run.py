from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from medtune.errors import MedtuneError
from medtune.recipe import load_recipe
from medtune.run import Run, disk_error, whole


def test_a_file_that_fails_half_way_leaves_the_old_one_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.txt"
    with whole(path) as part:
        part.write_text("old")
    with pytest.raises(RuntimeError), whole(path) as part:
        part.write_text("new, but")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file.txt"]


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole(tmp_path / "folder") as part:
            part.mkdir()
            (part / text).touch()
    assert os.listdir(tmp_path / "folder") == ["new"]


def test_a_run_reads_back_the_recipe_it_keeps(tmp_path: Path) -> None:
    recipe = load_recipe("embedded-qlora", ["name=a"])
    Run(tmp_path / "a").keep(recipe)
    assert Run.open("a", tmp_path).recipe() == recipe
    assert Run.open(tmp_path / "a").recipe() == recipe


def test_a_run_that_does_not_exist_names_those_that_do(tmp_path: Path) -> None:
    Run(tmp_path / "first").keep(load_recipe("embedded-qlora", ["name=first"]))
    with pytest.raises(MedtuneError, match="no run 'second'; there are: first"):
        Run.open("second", tmp_path)


def test_the_manifest_collects_what_is_needed_to_repeat_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "a")
    run.write_manifest(data={"fingerprint": "f"})
    run.write_manifest(training={"seed": 1})
    manifest = run.read_json(run.manifest_file)
    assert manifest["data"] == {"fingerprint": "f"}
    assert manifest["training"] == {"seed": 1}
    assert manifest["packages"]["torch"]
    assert manifest["hardware"]["cores"] == os.cpu_count()
    assert len(manifest["commands"]) == 2


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_disk_errors_are_sentences(number: int, words: str) -> None:
    assert words in str(disk_error(OSError(number, "x"), Path("p")))


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(MedtuneError, match="disk is full"), whole(tmp_path / "x"):
        with open("/dev/full", "w") as full:  # noqa: PTH123
            full.write("x" * 100_000)
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way_of_a_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(MedtuneError, match="is a file, not a folder"),
        whole(tmp_path / "file" / "x"),
    ):
        pass

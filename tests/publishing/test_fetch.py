"""What the Hub can do to a download, with the real client; the full disk is a real one, too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub, Repository

WEIGHTS = bytes(24_000_000)  # the client writes ten megabytes at a time
CODE = """
import sys
from medtune.errors import MedtuneError
from medtune.hub import fetch
try:
    print(sum(file.stat().st_size for file in fetch("me/x", "model").iterdir()))
except MedtuneError as error:
    print(error)
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    server.repositories["me/x"] = Repository(
        False, {"config.json": b"{}", "model.safetensors": WEIGHTS}, commits=1
    )
    yield server
    server.close()


def _fetch(hub: Hub, home: Path, *before: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more,
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        [*before, sys.executable, "-c", CODE], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "what"),
    [("revision", 429), ("revision", "cut"), ("safetensors", 503), ("safetensors", "cut")],
)
def test_a_busy_or_failing_hub_is_asked_again(
    hub: Hub, tmp_path: Path, path: str, what: int | str
) -> None:
    hub.fail(path, what, Retry_After="1")
    done = _fetch(hub, tmp_path)
    assert done.stdout == f"{len(WEIGHTS) + 2}\n"
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1


def test_what_arrived_before_the_connection_broke_is_not_fetched_again(
    hub: Hub, tmp_path: Path
) -> None:
    hub.fail("safetensors", "half")
    assert _fetch(hub, tmp_path).stdout == f"{len(WEIGHTS) + 2}\n"
    [asked] = hub.ranges
    assert re.match(r"bytes=1\d{7}-", asked)


@pytest.mark.parametrize(
    ("fault", "token", "words"),
    [
        (None, "wrong", "does not know your token"),
        (None, "", "to nobody without a token|has no model 'me/x', or it is private"),
        (("revision", 403), TOKEN, "Your token may not read"),
        (("revision", 429), TOKEN, "slow down"),
        (("revision", 500), TOKEN, "answered 500"),
        (("safetensors", "cut"), TOKEN, "broke off 4 times"),
    ],
)
def test_what_stays_wrong_is_one_sentence(
    hub: Hub, tmp_path: Path, fault: tuple[str, int | str] | None, token: str, words: str
) -> None:
    if fault:
        hub.fail(*fault, times=99, Retry_After="0.1")
    said = _fetch(hub, tmp_path, HF_TOKEN=token).stdout
    assert any(word in said for word in words.split("|")), said
    assert said.count("\n") == 1
    assert TOKEN not in said


def test_while_the_hub_is_down_an_earlier_download_is_used_and_it_is_said(
    hub: Hub, tmp_path: Path
) -> None:
    assert _fetch(hub, tmp_path).stdout == f"{len(WEIGHTS) + 2}\n"
    hub.fail("revision", 503, times=4, Retry_After="0.1")
    done = _fetch(hub, tmp_path)
    assert done.stdout == f"{len(WEIGHTS) + 2}\n"
    assert "as an earlier download left it" in done.stderr.splitlines()[-1]
    hub.fail("revision", 403, times=99)
    assert "Your token may not read" in _fetch(hub, tmp_path).stdout


def test_a_full_disk_during_a_download_is_named_and_not_blamed_on_the_hub(
    hub: Hub, tmp_path: Path
) -> None:
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk (unshare)")
    mount = 'mount -t tmpfs -o size=4m none "$0" && exec "$@"'
    said = _fetch(hub, tmp_path, *own, "sh", "-c", mount, str(tmp_path)).stdout
    assert f"The disk with {tmp_path / 'hub'} is full" in said
    assert "HF_HOME" in said
    assert "reached" not in said
    assert sum("GET" in line and "safetensors" in line for line in hub.log) == 1

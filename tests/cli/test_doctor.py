"""``medtune doctor`` on machines that lack something; what is missing is really missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "publishing"))
from hub_server import TOKEN, Hub

from medtune.cli import doctor  # the module, whose checks are tried one by one


def _doctor(cwd: Path, *options: str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-m", "medtune", "doctor", "--json", *options], cwd=cwd,
        env={**kept, "HF_HOME": str(cwd / "hf"), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, {finding["what"]: finding for finding in json.loads(done.stdout)}


def test_a_machine_with_nothing_but_a_cpu_and_no_network_is_well(tmp_path: Path) -> None:
    code, found = _doctor(tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert code == 0
    assert found["Hub"]["state"] == "note"
    assert "cannot be reached" in found["Hub"]["says"]
    assert found["Hub"]["mend"] == "unset HF_ENDPOINT, which names this address"
    assert found["token"]["mend"].startswith("export HF_TOKEN=")
    assert {"Python", "torch", "transformers", "memory", "disk"} <= set(found)


def test_it_speaks_in_lines_that_a_command_can_be_copied_from(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "medtune", "doctor"], cwd=tmp_path, text=True, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_TOKEN": ""},
        capture_output=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert f"{'':24}mend it: unset HF_HUB_OFFLINE" in lines
    assert lines[-1] == "This machine can do the work."


@pytest.mark.parametrize(
    ("token", "role", "state", "says"),
    [
        (TOKEN, "write", "ok", "HF_TOKEN belongs to me"),
        (TOKEN, "read", "note", "can only read"),
        ("hf_broken", "write", "wrong", "does not know"),
    ],
)
def test_a_token_is_held_against_the_hub(
    monkeypatch: pytest.MonkeyPatch, token: str, role: str, state: str, says: str
) -> None:
    hub = Hub()
    hub.user["auth"]["accessToken"]["role"] = role
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    try:
        reached, known = doctor._hub(ask=True)
    finally:
        hub.close()
    assert reached.state == "ok"
    assert known.state == state
    assert says in known.says
    assert token not in f"{known}"
    assert bool(known.mend) == (state != "ok")


def test_a_package_that_is_missing_or_too_old_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metadata that lies first on the path is what Python believes."""
    for name, version, needs in (
        ("medtune", "0.1.0", "Requires-Dist: transformers>=5.5,<6\nRequires-Dist: not-here>=2\n"),
        ("transformers", "4.1.0", ""),
    ):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        (folder / "METADATA").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    old, missing = doctor._packages()
    assert (old.what, old.state, missing.state) == ("transformers", "wrong", "wrong")
    assert old.says == "4.1.0 is installed, but <6,>=5.5 is needed"
    assert old.mend == "pip install 'transformers<6,>=5.5'"
    assert missing.mend == "pip install 'not-here>=2'"


def test_a_package_that_does_not_load_is_named_with_the_library_it_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "wants_openmp.py").write_text(f"raise ImportError({reason!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = doctor._broken("wants_openmp")
    assert found is not None
    assert (found.state, found.mend) == ("wrong", "sudo apt-get install libgomp1")
    assert reason in found.says


def test_a_gpu_that_this_torch_cannot_use_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU that torch can use")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    [found] = doctor._gpu()
    assert found.state == "wrong"
    assert found.mend


def test_a_check_that_breaks_is_a_finding_and_not_a_traceback() -> None:
    def breaks() -> list[doctor.Finding]:
        raise RuntimeError("a library is torn\nin two")

    [found] = doctor._checked("packages", breaks)
    assert (found.state, found.says) == ("wrong", "could not be looked at: a library is torn")


def test_a_disk_without_room_is_wrong(tmp_path: Path) -> None:
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk (unshare)")
    mount = 'mount -t tmpfs -o size=64m none "$0" && cd "$0" && exec "$@"'
    code = "from medtune.cli.doctor import _disks; print(_disks()[0])"
    done = subprocess.run(
        [*own, "sh", "-c", mount, str(tmp_path), sys.executable, "-c", code],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "state='wrong'" in done.stdout
    assert "a run needs 2" in done.stdout

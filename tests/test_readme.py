"""The commands of the README run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY


def test_the_tested_commands_of_the_readme_run_in_order(tmp_path: Path) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- tested -->\n```sh\n(.*?)```", text, re.S)
    commands = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    assert len(commands) >= 6
    for command in commands:
        program, _, target = command.partition(" > ")
        words = shlex.split(program)
        assert words[0] == "medtune"
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if target:
            (tmp_path / target).write_text(done.stdout, encoding="utf-8")
    assert (tmp_path / "runs/mine/report/index.html").exists()


def test_every_command_and_recipe_named_in_the_readme_exists() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`medtune (\w+)", text)) | set(
        re.findall(r"^medtune (\w+)", text, re.M)
    )
    done = subprocess.run(
        [sys.executable, "-m", "medtune", "--help"], capture_output=True, text=True, check=True
    )
    assert names
    assert all(name in done.stdout for name in names)


def test_the_links_of_the_documents_lead_somewhere() -> None:
    for document in REPOSITORY.glob("*.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (REPOSITORY / target).exists(), f"{document.name}: {target}"

"""The guide: its commands run, what it names exists, it builds without a warning."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

PAGES = sorted((REPOSITORY / "docs").glob("*.md"))


def _commands(text: str) -> list[list[str]]:
    """Every medtune command of the shell blocks, continuation lines joined, comments dropped."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [re.split(r"\s+#|\s&&|\s>", line)[0].strip() for line in lines]
    return [shlex.split(line) for line in commands if line.startswith("medtune ")]


def test_the_tested_commands_of_the_guide_run_in_order(tmp_path: Path) -> None:
    ran = 0
    for page in [p for p in PAGES if "<!-- tested -->" in p.read_text(encoding="utf-8")]:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"<!-- tested -->\n```sh\n(.*?)```", text, re.S):
            for line in block.splitlines():
                command, _, target = line.split("  #")[0].strip().partition(" > ")
                done = subprocess.run(
                    [sys.executable, "-m", *shlex.split(command)], cwd=tmp_path,
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{page.name}: {command}\n{done.stdout}\n{done.stderr}"
                if target:
                    (tmp_path / target).write_text(done.stdout, encoding="utf-8")
                ran += 1
    assert ran >= 6
    assert (tmp_path / "runs/first/exports/first-q8_0.gguf").is_file()


def test_every_command_and_option_that_is_named_exists() -> None:
    """Those that need a network, Docker or Ollama are not run, but they are spelt right."""
    from typer.main import get_command

    from medtune.cli.app import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    seen = 0
    for page in [*PAGES, REPOSITORY / "README.md"]:
        for words in _commands(page.read_text(encoding="utf-8")):
            assert words[1] in known, f"{page.name}: {words}"
            options = {o for p in known[words[1]].params for o in [*p.opts, *p.secondary_opts]}
            for word in words[2:]:
                if word.startswith("--"):
                    assert word.split("=")[0] in options, f"{page.name}: {words}"
            seen += 1
    assert seen > 20


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        name = "index.html" if page.stem == "index" else f"{page.stem}/index.html"
        assert (tmp_path / "site" / name).is_file()


def test_every_page_is_in_the_navigation_and_its_pictures_are_there() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    listed = {next(iter(entry.values())) for entry in yaml.safe_load(text)["nav"]}
    assert listed == {page.name for page in PAGES}
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"

"""Every command that the documentation names, and how each is checked.

A command is a line of a shell block, or a span of code in the text that begins with a program's
name.  ``test_docs.py`` carries out what ``RULES`` says and fails where they say nothing.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

REPOSITORY = Path(__file__).parents[1]
PAGES = (
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
)
SHELLS = ("sh", "bash", "shell", "console")
OTHER_BLOCKS = ("yaml", "python", "text")
PROGRAMS = {
    "medtune", "curl", "git", "make", "pip", "python", "ollama", "vllm", "docker", "kubectl", "sbatch",
    "sky", "ray", "source", "sudo", "apt-get", "mkdocs", "pre-commit", "llama-cli", "openssl", "hf",
}  # fmt: skip
"""What makes a span of code in the text a command."""

How = Literal["run", "serve", "ask", "bash", "left", "make", "extra", "files", "spelt", "elsewhere"]
DONE = ("run", "serve", "ask", "bash")
"""Carried out here, and so in need of no reason."""


@dataclass(frozen=True)
class Command:
    page: str
    text: str
    """On one line, without its comment."""

    @property
    def words(self) -> list[str]:
        """Without what is set before it, where its output goes, and what follows."""
        return shlex.split(
            re.split(r"\s(?:>|&&)\s", self.text.removeprefix(_set_before(self.text)))[0]
        )

    @property
    def into(self) -> str:
        """The file that takes its output; empty for none."""
        return self.text.partition(" > ")[2].strip()

    @property
    def program(self) -> str:
        """Without what is set before it, and without a folder."""
        return self.text.removeprefix(_set_before(self.text)).split()[0].split("/")[-1]


def _set_before(line: str) -> str:
    """The variables that a line sets for its command."""
    found = re.match(r"(?:[A-Z_]+=(?:\$\([^)]*\)|\S+) )*", line)
    return found[0] if found else ""


@dataclass(frozen=True)
class Rule:
    begins: str
    """A regular expression for the beginning of a command."""
    how: How
    why: str = ""
    """Why it is not simply run; a test that does it by other means is named with its path."""


RULES = (
    Rule(r"(MEDTUNE_API_KEYS=.*)?medtune serve ", "serve"),
    Rule(r"curl ", "ask"),
    Rule(r"medtune (serve|prepare)$", "spelt", "speaks of the command; with a run it is served"),
    Rule(r"medtune demo", "elsewhere", "takes minutes; tests/test_demo.py"),
    Rule(r"medtune sweep", "spelt", "hours of training; tests/experiments/test_sweep.py"),
    Rule(r"medtune prepare \S+ --cluster auto", "spelt", "wants a cluster; tests/data/test_ray.py has one"),
    Rule(r"medtune train \S+ training.learning_rate=1e-4", "spelt", "its rows are on the Hub"),
    Rule(r"medtune --help", "elsewhere", "tests/cli/test_cli.py"),
    Rule(r"medtune ", "run"),
    Rule(r"git clone ", "bash"),
    Rule(r"make ", "make", "takes minutes; the target is there and its lines are as they should be"),
    Rule(r"source |export |mkdir ", "bash"),
    Rule(r"pip install 'medtune", "extra", "downloads; the extra is there"),
    Rule(r"apt-get install ", "elsewhere", "needs root; .ci/run does it on a clean machine"),
    Rule(r"sudo chown ", "elsewhere", "needs root; tests/test_container.py knows the user's number"),
    Rule(r"(\S+/)?mkdocs build", "elsewhere", "tests/test_docs.py builds the site, strictly"),
    Rule(r"(\S+/)?pre-commit install", "elsewhere", "writes into .git; .pre-commit-config.yaml"),
    Rule(r"python app\.py", "elsewhere", "tests/browser/test_space.py starts it"),
    Rule(r"python ", "files", "takes minutes; it is there and knows its options"),
    Rule(r"llama-cli ", "elsewhere", "there is no llama-cli here; tests/model/test_gguf.py"),
    Rule(r"ollama ", "left", "there is no Ollama here; tests/publishing/test_ollama.py"),
    Rule(r"vllm ", "left", "there is no vLLM here; tests/model/test_merge.py loads what it loads"),
    Rule(r"docker ", "files", "wants a daemon; tests/test_container.py, where there is one"),
    Rule(r"(kubectl|sbatch|sky) ", "files", "wants a cluster; tests/deploy/test_manifests.py"),
)  # fmt: skip
"""The first that fits counts.

``run``     in one process with all of its page, in the reader's folder
``serve``   started, asked and ended
``ask``     asked of the server that its page starts
``bash``    given to bash as it is
``left``    the files that it names are there once the page has been followed
``make``    ``make --dry-run``
``extra``   the extra is one of pyproject.toml
``files``   the files of the repository that it names are there; a script answers ``--help``
``spelt``   its arguments are parsed and its recipe is loaded, as all of ``medtune`` are
``elsewhere`` by the test that ``why`` names
"""


def rule_of(command: Command) -> Rule | None:
    return next((rule for rule in RULES if re.match(rule.begins, command.text)), None)


def how(command: Command) -> str:
    rule = rule_of(command)
    return rule.how if rule else ""


@cache
def commands_of(page: Path) -> tuple[Command, ...]:
    """In the order in which they stand there, those in the text included."""
    text = page.read_text(encoding="utf-8")
    found: list[Command] = []
    for part in re.split(r"(^ *```.*?^ *```$)", text, flags=re.S | re.M):
        block = re.fullmatch(r" *```(\w*)\n(.*?) *```", part, re.S)
        if block is None:
            found += [Command(page.stem, span) for span in _spans(part)]
            continue
        if block[1] not in SHELLS:
            assert block[1] in OTHER_BLOCKS, f"{page.name}: a block is marked {block[1]!r}"
            continue
        lines = block[2].replace("\\\n", " ").splitlines()
        texts = [re.sub(r" +", " ", re.split(r"(?:^|\s)#\s", line)[0]).strip() for line in lines]
        found += [Command(page.stem, line.removeprefix("$ ")) for line in texts if line]
    return tuple(found)


def _spans(text: str) -> list[str]:
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"\n(?=\S)", " ", text))
    lines = [" ".join(span.split()) for span in spans]
    return [line for line in lines if " " in line and Command("", line).program in PROGRAMS]


def all_commands() -> list[Command]:
    return [command for page in PAGES for command in commands_of(page)]


if __name__ == "__main__":  # the list, to read
    for command in all_commands():
        print(f"{how(command) or 'NOT ACCOUNTED FOR':10} {command.page:18} {command.text}")

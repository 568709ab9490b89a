"""README and guide: their commands run, what they name exists, the site builds without a warning."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx
import pytest
import yaml
from conftest import REPOSITORY
from documented import DONE, RULES, Command, all_commands, commands_of, how, rule_of
from served import Scripted, serving
from typer.main import get_command

from medtune.chat.engines import Decoding
from medtune.cli.app import app
from medtune.recipe import load_recipe
from medtune.safety import assess
from medtune.safety.audit import AuditLog
from medtune.serving.api import create_app
from medtune.serving.service import Service

sys.path.insert(0, str(Path(__file__).parent / "publishing"))
from hub_server import TOKEN, Hub, Repository

PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
# In the order in which a reader meets them: later pages use the runs of earlier ones.
READ = (
    "first-ten-minutes", "your-data", "model-and-method", "deploy", "recipes", "safety", "report",
    "talk", "cluster",
)  # fmt: skip

# A reader trains longer; here each command only has to work.
SHORT = {
    "prepare": ["data.limit=80"],
    "inspect": ["data.limit=80"],
    "chat": ["--max-new-tokens", "8"],
    "train": [
        "data.limit=80", "training.max_steps=2", "training.evaluate_every=2", "training.samples=0",
        "evaluation.limit=6", "evaluation.max_new_tokens=8", "evaluation.metrics=[perplexity,rouge_l]",
    ],
}  # fmt: skip
STANDS_FOR = {
    "RUN": "first", "RECIPE": "runs/first/recipe.yaml", "NAME": "embedded-qlora", "TEXT": "my throat is sore",
    "FILE": "audit.jsonl", "…": "mine.yaml name=mine data.limit=300",
}  # fmt: skip
"""What the text leaves to the reader."""
ROWS = [
    (
        f"Since day {i} my {part} hurts, what can I do?",
        f"Rest the {part} for {i} days and see a doctor if it swells.",
    )
    for i, part in enumerate(("knee", "elbow", "wrist", "ankle", "hip", "thumb") * 12)
]


class Session:
    """One process that carries out commands, as `guide_session.py` says."""

    def __init__(self, folder: Path, environment: dict[str, str], log: Path) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "guide_session.py")], cwd=folder, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("wb"), text=True,
        )  # fmt: skip

    def run(self, words: list[str], into: str) -> tuple[int, str]:
        """Exit code of a command, and all that it said."""
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        command = {"words": words, "typed": "I have a sore throat.\n/quit\n", "into": into}
        print(json.dumps(command), file=asked, flush=True)
        answer = told.readline()
        assert answer, f"{words}\n{self._log.read_text(encoding='utf-8', errors='replace')}"
        return json.loads(answer)["code"], json.loads(answer)["said"]

    def close(self) -> None:
        self._process.communicate()


@dataclass
class Reader:
    """A reader's folder with dialogues of their own, and a Hub that has the bases."""

    folder: Path
    environment: dict[str, str]
    hub: Hub
    session: Session
    once: set[str] = field(default_factory=set)
    """What takes long, or cannot be done twice, and stands on several pages."""

    def follow(self, page: Path) -> None:
        """Do what a page says, from top to bottom; what cannot be done here has tests below."""
        commands = commands_of(page)
        asks = [command.text for command in commands if how(command) == "ask"]
        for command in commands:
            if command.text in self.once:
                continue
            if how(command) == "serve" or re.search("--cluster|git clone", command.text):
                self.once.add(command.text)
            match how(command):
                case "run":
                    self.run(command)
                case "serve":
                    self.serve(command, asks)
                case "bash":
                    self.bash(command.text)
                case "left":
                    for name in re.findall(r"(?<!=)\bruns/\S+", command.text):
                        assert (self.folder / name).exists(), command.text

    def run(self, command: Command) -> None:
        _given(command.text, self.folder)
        words = command.words
        for word, meant in STANDS_FOR.items():
            if word in words:
                place = words.index(word)
                words[place : place + 1] = [meant] if word == "TEXT" else meant.split()
        code, said = self.session.run([*words, *SHORT.get(words[1], [])], command.into)
        # Two steps make no better model, and that is what the gate is asked.
        assert code == 0 or (code == 1 and "--gate" in words), f"{command.text}\n{said}"

    def bash(self, line: str) -> None:
        subprocess.run(["bash", "-ec", line], cwd=self.folder, env=self.environment, check=True)

    def serve(self, command: Command, asks: list[str]) -> None:
        """Start a server, ask it what its page asks, leave feedback, end it."""
        with ExitStack() as until_the_end, socket.socket() as free:
            line = command.text
            if "127.0.0.1:8000" in line:  # where a vLLM would be
                other = Service(Scripted(["Drink", " tea."], name="medtune"), Decoding(8))
                vllm = until_the_end.enter_context(serving(other))
                line = line.replace("http://127.0.0.1:8000", vllm.url)
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            log = until_the_end.enter_context((self.folder / "server.log").open("wb"))
            server = subprocess.Popen(
                ["bash", "-c", f"{line} --port {port} --max-new-tokens 8"], cwd=self.folder, env=self.environment,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            until_the_end.callback(server.wait, 60)
            until_the_end.callback(os.killpg, server.pid, signal.SIGTERM)
            address = f"http://127.0.0.1:{port}"
            _wait_for(server, f"{address}/ready", Path(log.name))
            if "MEDTUNE_API_KEYS" in line:
                assert httpx.get(f"{address}/v1/models").status_code == 401
                return
            assert "<html" in httpx.get(address).text
            for ask in asks if shutil.which("curl") else ():
                asked = [*shlex.split(ask.replace(":7860", f":{port}")), "--fail", "--silent"]
                done = subprocess.run(asked, capture_output=True, text=True, check=True)
                assert json.loads(done.stdout)["choices"][0]["message"]["content"]
            for question, answer in ROWS:
                said = zip(("user", "assistant"), (question, answer), strict=True)
                thumb = {
                    "messages": [{"role": role, "content": content} for role, content in said],
                    "verdict": "up",
                }
                assert httpx.post(f"{address}/v1/feedback", json=thumb).status_code == 201


def _given(line: str, folder: Path) -> None:
    """What a command takes for granted."""
    if "questions.jsonl" in line:
        options = {"opa": "tea", "opb": "sand", "opc": "ink", "opd": "glue"}
        question = {"question": "What soothes a sore throat?", **options, "cop": 1}
        (folder / "questions.jsonl").write_text(json.dumps(question) + "\n", encoding="utf-8")
    elif line.endswith("compare mine other"):
        shutil.copytree(folder / "runs/mine", folder / "runs/other")
    elif "audit verify" in line:
        AuditLog(folder / "audit.jsonl").record("Hello?", "Hello.", assess("Hello?"))
    elif line.startswith("medtune feedback export"):
        assert (folder / "runs/feedback.sqlite").is_file()


def _wait_for(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    for _ in range(1200):
        try:
            if httpx.get(address, timeout=2).is_success:
                return
        except httpx.HTTPError:
            assert server.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.1)
    raise AssertionError("the server did not become ready")


@pytest.fixture(scope="module")
def reader(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder, hub = tmp_path_factory.mktemp("reader"), Hub()
    hub.user["name"] = "my-name"
    files = {path.name: path.read_bytes() for path in tiny_base.iterdir()}
    hub.repositories["TinyLlama/TinyLlama-1.1B-Chat-v1.0"] = Repository(False, files, commits=1)
    rows = ["Patient,Doctor", *(f'"{question}","{answer}"' for question, answer in ROWS)]
    (folder / "dialogues.csv").write_text("\n".join(rows), encoding="utf-8")
    # An environment as `make demo` leaves it, and Medtune's command wherever its package is.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    (folder / "bin").mkdir()
    command = folder / "bin" / "medtune"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m medtune "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    environment = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1",
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        # What the guide clones is what is tested.
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.{REPOSITORY}.insteadOf", "GIT_CONFIG_VALUE_0": "https://github.com/medtune/medtune",
        "GIT_CONFIG_KEY_1": "safe.directory", "GIT_CONFIG_VALUE_1": "*",
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    session = Session(folder, environment, folder / "session.log")
    yield Reader(folder, environment, hub, session)
    session.close()
    hub.close()


@pytest.mark.slow
def test_every_command_of_the_readme_runs_in_order(reader: Reader) -> None:
    reader.follow(REPOSITORY / "README.md")
    assert (reader.folder / "runs/mine/report/index.html").exists()
    assert "my-name/my-model" in reader.hub.repositories
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")


@pytest.mark.slow
def test_every_command_of_the_guide_runs_in_order(reader: Reader) -> None:
    for name in READ:
        reader.follow(REPOSITORY / "docs" / f"{name}.md")
    exports = reader.folder / "runs/first/exports"
    assert {"first-q4_k_m.gguf", "first-lora.gguf", "Modelfile", "merged", "space"} <= set(
        os.listdir(exports)
    )
    assert (reader.folder / "runs/clinic/evaluation/results.json").is_file()
    assert (reader.folder / "runs/own-dialogues/adapter").is_dir()
    assert (reader.folder / "served/runs/first/adapter").is_dir()
    assert (reader.folder / "medtune/Makefile").is_file()
    assert reader.hub.repositories["my-name/my-model"].private


def test_no_command_is_unaccounted_for() -> None:
    commands = all_commands()
    assert len(commands) > 100
    missed = [f"{command.page}: {command.text}" for command in commands if not how(command)]
    assert not missed, "say in documented.py how these are checked"
    followed = {command.page for command in commands if how(command) in DONE}
    assert followed == {*READ, "README"}, "a page has commands to run and is not followed"
    assert {rule_of(command) for command in commands} == set(RULES), "a rule fits nothing"
    for rule in RULES:
        assert rule.why or rule.how in DONE, f"{rule.begins} does not say why it is not run"
        for path in re.findall(r"(?:tests/|\.ci/|\.pre-commit)[\w./-]*\w", rule.why):
            assert (REPOSITORY / path).is_file(), rule.why


def test_every_medtune_command_is_spelt_right_and_its_recipe_can_be_loaded() -> None:
    """Parsed by the command line itself; settings that a command changes are applied."""
    known = get_command(app).commands  # type: ignore[attr-defined]
    recipes = {
        "RECIPE": "embedded-qlora",
        "…": "embedded-qlora",
        "runs/first/recipe.yaml": "own-dialogues",
    }
    for command in (one for one in all_commands() if one.program == "medtune"):
        if command.into:
            recipes[command.into] = command.words[2]
        program, *words = command.words[1:]
        if program.startswith("--"):
            continue
        assert program in known, f"{command.page}: {command.text}"
        parser = known[program]
        if hasattr(parser, "commands"):
            parser = parser.commands[words.pop(0)]
        if not words:  # speaks of the command
            continue
        try:
            given = parser.make_context(program, words).params
        except click.ClickException as error:
            raise AssertionError(f"{command.page}: {command.text}\n{error.message}") from None
        if "recipe" in given:
            name = recipes.get(given["recipe"], given["recipe"])
            load_recipe(name, given["overrides"])


@pytest.mark.parametrize(
    "command", sorted({c.text for c in all_commands() if how(c) in ("make", "files", "extra")})
)
def test_what_is_not_run_names_targets_files_and_extras_that_exist(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        # A make that runs these tests leaves its own arguments behind.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        done = subprocess.run(
            [program, "--dry-run", *words],
            cwd=REPOSITORY,
            env=clean,
            capture_output=True,
            text=True,
            check=True,
        )
        tools = {
            "demo": "medtune demo",
            "test": "pytest",
            "test-long": "pytest -m long",
            "lint": "pyright",
            "format": "ruff format",
        }
        assert tools[words[0]] in done.stdout
        assert all(word.partition("=")[2] in done.stdout for word in words[1:])
    elif program == "pip":
        [extra] = re.findall(r"medtune\[(\w+)\]", command)
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
        assert extra in project["project"]["optional-dependencies"]
    else:
        own = {"recipe.yaml"}  # the reader's
        named = [
            word for word in words if re.search(r"\.(py|yaml|slurm)$", word) and word not in own
        ]
        assert named or program == "docker"
        assert all((REPOSITORY / name).is_file() for name in [*named, "compose.yaml"])
        if program == "python":
            helped = subprocess.run(
                [sys.executable, *named, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
            )  # fmt: skip
            assert all(word in helped.stdout for word in words if word.startswith("--"))


def test_vllm_is_told_the_base_and_the_rank_of_the_recipe_that_it_serves() -> None:
    [line] = [c.text for c in all_commands() if c.program == "vllm" and "--lora-modules" in c.text]
    [run] = re.findall(r"medtune=runs/([\w.-]+)/adapter", line)
    recipe = load_recipe(run)
    assert f"vllm serve {recipe.model.base} " in line
    assert int(re.findall(r"--max-lora-rank (\d+)", line)[0]) >= recipe.adapter.rank


def test_every_address_in_the_text_is_one_of_the_servers() -> None:
    routes = set(create_app(Service(Scripted([]), Decoding(8))).openapi()["paths"]) | {
        "/v1/openapi.json"
    }
    seen = 0
    for page in [*PAGES, REPOSITORY / "README.md"]:
        text = page.read_text(encoding="utf-8")
        addresses = re.findall(r"`(/(?:v1/\S+?|health|ready|metrics))`", text)
        addresses += re.findall(r"http://127\.0\.0\.1:7860(/[\w/.]+)", text)
        assert set(addresses) <= routes, page.name
        seen += len(addresses)
    assert seen > 10


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
    for page in [*PAGES, *REPOSITORY.glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def _cell(figure: dict[str, object], scale: float, digits: int, unit: str = "") -> str:
    value, (low, high) = figure["value"], figure["ci"]  # type: ignore[misc]
    shown = [f"{x * scale:.{digits}f}" for x in (value, low, high)]  # type: ignore[operator]
    return f"{shown[0]}{unit} ({shown[1]} to {shown[2]})"


def test_the_measured_tables_are_those_of_the_benchmarks() -> None:
    text = (REPOSITORY / "docs/model-and-method.md").read_text(encoding="utf-8")
    results = REPOSITORY / "benchmarks/results"
    runs = json.loads((results / "demo.json").read_text(encoding="utf-8"))["runs"]
    first, *others = runs
    for name, scale, digits, unit in (
        ("condition_top1", 100, 1, "%"), ("specialist", 100, 1, "%"), ("bleu", 1, 1, ""), ("rouge_l", 1, 2, ""),
    ):  # fmt: skip
        cells = [_cell(first[name][who], scale, digits, unit) for who in ("base", "tuned")]
        cells += [f"{run[name]['tuned']['value'] * scale:.{digits}f}{unit}" for run in others]
        assert " | ".join(cells) in text, name
    base, tuned = (first["perplexity"][who] for who in ("base", "tuned"))
    assert f"| {_cell(base, 1, 0)} | {_cell(tuned, 1, 2)} |" in text
    for kind, one in json.loads((results / "gguf.json").read_text(encoding="utf-8"))[
        "files"
    ].items():
        n = one["prompts"]
        cells = [
            kind, f"{one['bytes'] / 2**20:.1f} MiB", f"{one['same_tokens']} of {n}",
            f"{one['same_answers']} of {n}", str(one["near_ties"]), f"{one['first_difference']:.3f}",
        ]  # fmt: skip
        assert f"| {' | '.join(cells)} |" in text
    training = json.loads((results / "training.json").read_text(encoding="utf-8"))["cpu-135m"]
    for way in training["ways"]:
        speed, memory = way["useful_tokens_per_second"], way["peak_memory_gib"]
        assert f" | {speed} | {memory} | {way['validation_loss']:.3f} |" in text, way["way"]
    assert f"reaches {training['medtune_share_of_floor']:.0%} of" in " ".join(text.split())


def test_the_table_in_form_is_what_the_sweep_wrote() -> None:
    text = (REPOSITORY / "docs/published-figures.md").read_text(encoding="utf-8")
    file = REPOSITORY / "benchmarks/results/embedded-table.json"
    for one in json.loads(file.read_text(encoding="utf-8"))["experiments"]:
        cells = [f"{one['train_loss']:.3f}", f"{one['validation_loss']:.3f}"]
        for name, digits in (("perplexity", 2), ("bleu", 1), ("rouge_l", 3)):
            score = one["scores"][name]
            low, high = score["ci"]
            cells.append(f"{score['value']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
        cells += [f"{one['memory_bytes'] / 2**30:.2f} GiB", f"{one['minutes']:.1f}"]
        assert f"| {' | '.join(cells)} |" in text, one["run"]


def test_the_predicted_table_is_what_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from medtune.recipe import load_recipe
    from medtune.training.plan import card_of, plan

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = (REPOSITORY / "docs/model-and-method.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \|$", text, re.M)
    assert len(rows) >= 8
    for name, said in rows:
        memory = plan(load_recipe(name), card_of("t4")).memory.total / 2**30
        assert abs(memory - float(said)) < 0.1 * memory, (name, memory)


def test_the_python_of_the_reference_names_what_exists() -> None:
    """The same calls are made, at length, by the notebook, which test_notebook.py runs."""
    text = (REPOSITORY / "docs/reference.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    compile(code, "reference.md", "exec")
    imports = [line for line in code.splitlines() if line.startswith("from medtune")]
    names: dict[str, object] = {}
    exec("\n".join(imports), names)
    used = set(re.findall(r"\b([a-zA-Z_]+)\(", code)) - {"print", "Path", "keep"}
    assert used <= set(names)

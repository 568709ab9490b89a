"""README and guide: their commands run, what they name exists, the site builds without a warning."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

sys.path.insert(0, str(Path(__file__).parent / "publishing"))
from hub_server import TOKEN, Hub, Repository

PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
README = REPOSITORY / "README.md"
# In the order in which a reader meets them: later pages use the runs of earlier ones.
READ = ("first-ten-minutes", "your-data", "model-and-method", "deploy", "recipes", "safety")

ELSEWHERE = {
    "git clone": "downloads this repository",
    "make ": "tests/test_demo.py runs the demo; the others are development itself",
    "source ": "the environment of the tests is on already",
    "export HF_TOKEN": "the tests set a token of their own Hub",
    "ollama ": "there is no Ollama here; tests/publishing/test_ollama.py",
    "vllm ": "there is no vLLM here; what it loads is loaded by tests/model/test_merge.py",
    "mkdir ": "needs what follows it",
    "docker ": "tests/test_container.py, where there is a Docker daemon",
    "medtune serve ": "the server of the README is started below; tests/serving",
}
"""Lines of shell blocks that are not run here, and why."""

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


def _lines(page: Path, *, marked: bool = False) -> list[str]:
    """Every line of the shell blocks (of those below a ``tested`` mark), continuations joined."""
    mark = r"<!-- tested -->\n" if marked else ""
    blocks = re.findall(mark + r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for raw in lines if (line := re.split(r"\s+#\s", raw)[0].strip())]


def _is_elsewhere(line: str) -> bool:
    return any(line.startswith(start) for start in ELSEWHERE)


def _session_of(lines: list[str]) -> list[dict[str, object]]:
    commands = []
    for line in lines:
        program, _, into = line.partition(" > ")
        words = shlex.split(program)
        assert words[0] == "medtune", f"{line!r} is not run: add it to ELSEWHERE with the reason"
        words += SHORT.get(words[1], [])
        commands.append({"words": words, "typed": "I have a sore throat.\n/quit\n", "into": into})
    return commands


def _run(lines: list[str], cwd: Path, environment: dict[str, str]) -> None:
    commands = _session_of(lines)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "guide_session.py")], cwd=cwd,
        env=environment, input=json.dumps(commands), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("["), done.stderr
    for line, told in zip(lines, json.loads(done.stdout), strict=False):
        assert told["code"] == 0, f"{line}\n{told['said']}"
    assert len(json.loads(done.stdout)) == len(lines)


@pytest.fixture(scope="module")
def reader(
    tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, str], Hub]]:
    """A reader's folder with dialogues of their own, and a Hub that has the bases."""
    folder, hub = tmp_path_factory.mktemp("reader"), Hub()
    hub.user["name"] = "my-name"
    files = {path.name: path.read_bytes() for path in tiny_base.iterdir()}
    hub.repositories["TinyLlama/TinyLlama-1.1B-Chat-v1.0"] = Repository(False, files, commits=1)
    rows = ["Patient,Doctor"]
    rows += [
        f'"Since day {i} my {part} hurts, what can I do?","Rest the {part} for {i} days and see a doctor if it swells."'
        for i, part in enumerate(("knee", "elbow", "wrist", "ankle", "hip", "thumb") * 12)
    ]
    (folder / "dialogues.csv").write_text("\n".join(rows), encoding="utf-8")
    environment = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    yield folder, environment, hub
    hub.close()


@pytest.mark.slow
def test_every_command_of_the_readme_runs_in_order(
    reader: tuple[Path, dict[str, str], Hub],
) -> None:
    folder, environment, hub = reader
    lines = [line for line in _lines(README) if not _is_elsewhere(line)]
    curls = [line for line in lines if line.startswith("curl ")]
    _run([line for line in lines if line not in curls], folder, environment)
    assert (folder / "runs/mine/report/index.html").exists()
    assert "my-name/my-model" in hub.repositories
    assert curls
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen(
        [sys.executable, "-m", "medtune", "serve", "mine", "--port", port], cwd=folder,
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        _wait_for(server, f"http://127.0.0.1:{port}/ready")
        for line in curls:
            command = [*shlex.split(line.replace(":7860", f":{port}")), "--fail", "--silent"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            assert json.loads(done.stdout)["choices"][0]["message"]["content"]
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(server: subprocess.Popen[bytes], address: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            assert server.poll() is None, server.stderr.read() if server.stderr else ""
            time.sleep(0.2)
    raise AssertionError("the server did not become ready")


@pytest.mark.slow
def test_every_command_of_the_guide_runs_in_order(
    reader: tuple[Path, dict[str, str], Hub],
) -> None:
    folder, environment, hub = reader
    pages = {page.stem: page for page in PAGES}
    lines = [line for name in READ for line in _lines(pages.pop(name)) if not _is_elsewhere(line)]
    # Pages for other machines mark what can run here.
    lines += [line for page in pages.values() for line in _lines(page, marked=True)]
    _run(lines, folder, environment)
    exports = folder / "runs/first/exports"
    assert {"first-q4_k_m.gguf", "first-lora.gguf", "Modelfile", "merged", "space"} <= set(
        os.listdir(exports)
    )
    assert (folder / "runs/clinic/evaluation/results.json").is_file()
    assert hub.repositories["my-name/my-model"].private


def test_every_command_and_option_that_is_named_exists() -> None:
    """Those that need a network, Docker or Ollama are not run, but they are spelt right."""
    from typer.main import get_command

    from medtune.cli.app import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    seen = 0
    for page in [*PAGES, README]:
        text = page.read_text(encoding="utf-8")
        inline = re.findall(r"`(?:[A-Z_]+=\S+ )*(medtune [^`]+)`", text)
        for line in [*_lines(page), *inline]:
            if not line.startswith("medtune ") or line.startswith("medtune --"):
                continue
            words = shlex.split(re.split(r"\s&&|\s>", line)[0])
            assert words[1] in known, f"{page.name}: {line}"
            options = {o for p in known[words[1]].params for o in [*p.opts, *p.secondary_opts]}
            for word in words[2:]:
                if word.startswith("--") and word != "--help":
                    assert word.split("=")[0] in options, f"{page.name}: {line}"
            seen += 1
    assert seen > 60


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

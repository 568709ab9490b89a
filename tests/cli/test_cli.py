"""The command line as a person meets it: exit codes and sentences, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def medtune(
    *arguments: str, cwd: Path, typed: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medtune", *arguments],
        cwd=cwd,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def _is_one_sentence(text: str) -> bool:
    return text.startswith("medtune: ") and "Traceback" not in text and text.count("\n") == 1


@pytest.fixture(scope="module")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny run named `tiny` has been trained."""
    folder = tmp_path_factory.mktemp("cli")
    done = medtune(
        "train", "embedded-qlora", "name=tiny", f"model.base={tiny_base}", "data.limit=100",
        "training.max_steps=4", "training.evaluate_every=2", "evaluation.max_new_tokens=8",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["chat", "nothing"], 1, "There is no run 'nothing'"),
        (["chat"], 1, "There is no trained run"),
        (["serve"], 1, "There is no trained run"),
        (["evaluate", "nothing"], 1, "There is no run 'nothing'"),
        (["train", "nothing.yaml"], 2, "does not exist"),
        (["train", "embedded-qlora", "training.epoch=1"], 2, "did you mean 'epochs'"),
        (["train", "embedded-qlora", "data.source=nothing.csv"], 1, "does not exist"),
        (["train", "embedded-qlora", "model.base=./nothing"], 1, "does not exist"),
        (["prepare", "embedded-qlora", "data.source=empty.csv"], 1, "is empty"),
        (["recipes", "nothing"], 2, "no shipped recipe"),
        (["assess"], 2, "Give a message"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_left(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "empty.csv").touch()
    done = medtune(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert _is_one_sentence(done.stderr), done.stderr
    assert words in done.stderr
    assert os.listdir(tmp_path) == ["empty.csv"]


def test_an_unknown_command_is_wrong_use(tmp_path: Path) -> None:
    done = medtune("trian", cwd=tmp_path)
    assert done.returncode == 2
    assert "train" in done.stderr


def test_without_a_network_a_hub_id_is_one_sentence(tmp_path: Path) -> None:
    done = medtune(
        "train", "embedded-qlora", "model.base=owner/model",
        cwd=tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "hf"),
    )  # fmt: skip
    assert done.returncode == 1
    assert "the Hub cannot be reached" in done.stderr
    assert _is_one_sentence(done.stderr)


def test_a_read_only_folder_is_one_sentence(tmp_path: Path) -> None:
    if not Path("/proc/version").exists():
        pytest.skip("needs /proc, which nobody can write to")
    done = medtune(
        "prepare", "embedded-qlora", "data.limit=50", "--runs", "/proc/runs", cwd=tmp_path
    )
    assert done.returncode == 1
    assert _is_one_sentence(done.stderr), done.stderr


def test_every_command_helps_with_an_example(tmp_path: Path) -> None:
    for command in (
        "demo",
        "recipes",
        "prepare",
        "inspect",
        "train",
        "evaluate",
        "chat",
        "serve",
        "assess",
    ):
        done = medtune(command, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert f"Example: medtune {command}" in " ".join(done.stdout.split()), command


def test_chat_talks_starts_again_and_leaves(trained: Path) -> None:
    done = medtune(
        "chat", "tiny", "--max-new-tokens", "5", cwd=trained,
        typed="\nHello\n/new\nI have crushing chest pain\n/what\n/quit\nnever read\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "not medical advice" in done.stdout
    assert "A new conversation." in done.stdout
    assert "Call your local emergency number now" in done.stdout
    assert "There are /new and /quit" in done.stdout


def test_evaluate_gate_fails_with_exit_code_1_and_prints_json(trained: Path) -> None:
    done = medtune("evaluate", "tiny", "--gate", "--json", cwd=trained)
    assert done.returncode == 1
    assert json.loads(done.stdout)["gate"]["passed"] is False


def test_a_taken_port_is_one_sentence(trained: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = medtune("serve", "tiny", "--port", str(taken.getsockname()[1]), cwd=trained)
    assert done.returncode == 1
    assert "choose another with --port" in done.stderr


def test_assess_reads_and_writes_json_lines(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "crushing chest pain"}, {"id": "b", "text": "a mild cough"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = medtune("assess", "--in", "in.jsonl", "--out", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 0
    levels = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["urgency"]) for row in levels] == [("a", "emergency"), ("b", "routine")]
    (tmp_path / "in.jsonl").write_text('{"id": 1, "text": "x"}\nnothing\n')
    assert "line 2" in medtune("assess", "--in", "in.jsonl", cwd=tmp_path).stderr


def test_inspect_shows_every_token_in_the_terminal_as_a_page_and_as_json(tmp_path: Path) -> None:
    settings = ["embedded-qlora", "name=seen", "data.limit=60"]
    done = medtune("inspect", *settings, "--rows", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 2
    trained = [t["trained"] for t in rows[0]["tokens"]]
    assert trained == sorted(trained)
    assert rows[0]["tokens"][-1]["special"]
    done = medtune("inspect", *settings, "--row", rows[0]["id"], cwd=tmp_path)
    assert f"{len(trained)} tokens, {sum(trained)} trained" in done.stdout
    done = medtune("inspect", *settings, "--html", "rows.html", cwd=tmp_path)
    assert done.returncode == 0
    assert "<h2>Row " in (tmp_path / "rows.html").read_text()
    assert "no row '99999'" in medtune("inspect", *settings, "--row", "99999", cwd=tmp_path).stderr
    assert medtune("inspect", *settings, "--split", "dev", cwd=tmp_path).returncode == 2

"""Push and pull with the real Hub client against a server that speaks its protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub, Repository
from huggingface_hub import ModelCard

from medtune.model.load import load_tokenizer
from medtune.publishing.card import What
from medtune.publishing.hub import collect, files_of
from medtune.recipe import MixtureSource, load_recipe
from medtune.run import Run


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    yield server
    server.close()


@pytest.fixture
def runs(tuned_run: Run, tmp_path: Path) -> Path:
    shutil.copytree(tuned_run.folder, tmp_path / "runs" / "tuned")
    return tmp_path


def medtune(
    hub: Hub, cwd: Path, *arguments: str, typed: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(cwd / "cache"),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more,
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    return subprocess.run(
        [sys.executable, "-m", "medtune", *arguments], cwd=cwd, env=environment, input=typed,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_pushed_adapter_is_private_whole_and_answers_from_the_hub(
    hub: Hub, runs: Path, tiny_base: Path
) -> None:
    # Somebody else can use the adapter if its base is on the Hub, too.
    hub.repositories["me/base"] = Repository(
        False, {path.name: path.read_bytes() for path in tiny_base.iterdir()}
    )
    run = Run(runs / "runs" / "tuned")
    recipe = run.recipe()
    run.keep(
        recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": "me/base"})})
    )
    done = medtune(hub, runs, "push", "tuned", "me/clinic", "--json")
    assert done.returncode == 0, done.stderr
    pushed = hub.repositories["me/clinic"]
    assert pushed.private
    assert json.loads(done.stdout)["files"] == {n: len(c) for n, c in sorted(pushed.files.items())}
    weights = (runs / "runs/tuned/adapter/adapter_model.safetensors").read_bytes()
    assert pushed.files["adapter_model.safetensors"] == weights
    talk = medtune(
        hub, runs, "chat", "hub:me/clinic", "--max-new-tokens", "5",
        typed="I have crushing chest pain\n/quit\n",
    )  # fmt: skip
    assert talk.returncode == 0, talk.stderr
    assert "Call your local emergency number now" in talk.stdout
    assert (runs / "runs/hub--me--clinic/adapter/adapter_model.safetensors").read_bytes() == weights


def test_a_dry_run_needs_no_token_and_sends_nothing(hub: Hub, runs: Path) -> None:
    done = medtune(hub, runs, "push", "tuned", "me/clinic", "--dry-run", HF_TOKEN="")
    assert done.returncode == 0, done.stderr
    assert "Would go to me/clinic" in done.stdout
    assert "adapter_model.safetensors" in done.stdout
    assert hub.log == []


def test_the_licences_in_the_card_are_those_that_base_and_data_state_on_the_hub(
    hub: Hub, runs: Path
) -> None:
    hub.repositories["meta/base"] = Repository(False, {"README.md": b"---\nlicense: llama2\n---\n"})
    for name, license in (("one", "cc-by-4.0"), ("two", "mit")):
        card = f"---\nlicense: {license}\n---\n# Rows\n"
        hub.repositories[f"us/{name}"] = Repository(False, {"README.md": card.encode()})
    run = Run(runs / "runs" / "tuned")
    recipe = run.recipe()
    mixture = [MixtureSource(source="us/one"), MixtureSource(source="us/two")]
    sections = {
        "model": recipe.model.model_copy(update={"base": "meta/base"}),
        "data": recipe.data.model_copy(update={"mixture": mixture}),
    }
    run.keep(recipe.model_copy(update=sections))
    done = medtune(hub, runs, "push", "tuned", "me/x", "--dry-run")
    assert done.returncode == 0, done.stderr
    card = ModelCard.load(runs / "runs/tuned/exports/hub/README.md")
    assert card.data.license == "llama2"
    assert card.data.datasets == ["us/one", "us/two"]
    assert "| licence of the data | cc-by-4.0, mit |" in card.text
    assert "| data | us/one + us/two, " in card.text


@pytest.mark.parametrize(
    ("token", "repo", "fault", "words"),
    [
        ("wrong", "me/x", None, "does not know the token"),
        ("", "me/x", None, "There is no token"),
        (TOKEN, "other/x", None, "belongs to me"),
        (TOKEN, "x", None, "write owner/name"),
        (TOKEN, "me/x", ("repos/create", 403), "may not write to me/x"),
        (TOKEN, "me/x", ("preupload", 403), "may not write to me/x"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    hub: Hub, runs: Path, token: str, repo: str, fault: tuple[str, int] | None, words: str
) -> None:
    if fault:
        hub.fail(*fault, times=9)
    done = medtune(hub, runs, "push", "tuned", repo, HF_TOKEN=token)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_a_token_that_can_only_read_is_found_before_anything_is_made(hub: Hub, runs: Path) -> None:
    hub.user["auth"]["accessToken"]["role"] = "read"
    done = medtune(hub, runs, "push", "tuned", "me/x")
    assert "can only read" in done.stderr
    assert hub.repositories == {}


def test_an_organisation_of_the_owner_is_allowed(hub: Hub, runs: Path) -> None:
    assert medtune(hub, runs, "push", "tuned", "clinic/x").returncode == 0
    assert "clinic/x" in hub.repositories


def test_a_card_that_the_hub_refuses_is_one_sentence_with_its_reason(hub: Hub, runs: Path) -> None:
    run = Run(runs / "runs" / "tuned")
    recipe = run.recipe()
    licensed = recipe.publishing.model_copy(update={"license": "ours"})
    run.keep(recipe.model_copy(update={"publishing": licensed}))
    done = medtune(hub, runs, "push", "tuned", "me/x")
    assert done.returncode == 1
    assert '"license" must be one of' in done.stderr
    assert "publishing.license" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    "faults",
    [
        [("commit/main", 503, 2)],
        [("commit/main", 409, 1)],
        [("repos/create", 429, 1)],
        [("objects/batch", "cut", 1), ("/lfs/", 500, 1)],
        [("whoami", "cut", 1)],
    ],
)
def test_a_busy_or_failing_hub_is_asked_again(
    hub: Hub, runs: Path, faults: list[tuple[str, int | str, int]]
) -> None:
    for path, what, times in faults:
        hub.fail(path, what, times, Retry_After="1")
    done = medtune(hub, runs, "push", "tuned", "me/x")
    assert done.returncode == 0, done.stderr
    assert "adapter_model.safetensors" in hub.repositories["me/x"].files


def test_a_push_that_failed_goes_on_without_sending_the_weights_again(hub: Hub, runs: Path) -> None:
    hub.fail("commit/main", 403, times=1)
    assert medtune(hub, runs, "push", "tuned", "me/x").returncode == 1
    sent = sum("PUT /lfs/" in line for line in hub.log)
    assert sent == 1
    assert medtune(hub, runs, "push", "tuned", "me/x").returncode == 0
    assert sum("PUT /lfs/" in line for line in hub.log) == sent
    assert "adapter_model.safetensors" in hub.repositories["me/x"].files


def test_a_recipe_that_asks_for_a_push_is_checked_before_training(
    hub: Hub, tiny_base: Path, tmp_path: Path
) -> None:
    done = medtune(
        hub, tmp_path, "train", "embedded-qlora", f"model.base={tiny_base}",
        "publishing.push_to=other/x",
    )  # fmt: skip
    assert "belongs to me" in done.stderr
    assert not (tmp_path / "runs").exists()


SECRET = "My left knee has hurt since the wedding in Leeds."


def _with_secrets(run: Run, folder: Path, *, mixed: bool) -> Run:
    """Own rows: paths in the recipe, and the row wherever a run may show rows."""
    source = folder / "patients.csv"
    source.write_text("question,answer\n")
    template = folder / "own.jinja"
    template.write_text(str(load_tokenizer(run.recipe().model).chat_template))
    recipe = run.recipe()
    data = {"mixture": [MixtureSource(source=str(source))]} if mixed else {"source": str(source)}
    sections = {
        "data": recipe.data.model_copy(update={**data, "contamination": [str(folder / "exam.csv")]}),
        "model": recipe.model.model_copy(update={"chat_template": str(template)}),
    }  # fmt: skip
    run.keep(recipe.model_copy(update=sections))
    card = run.read_json(run.card_json)
    card |= {
        "source": str(source), "sources": [{"source": str(source)}], "warnings": [SECRET],
        "sample": [{"question": SECRET}], "recurring": [{"sentence": SECRET}],
        "rules": [{"name": "advert", "samples": [[SECRET, ""]]}], "label_rows": {SECRET: 3},
    }  # fmt: skip
    run.write_json(run.card_json, card)
    rate = {"value": 0.5, "ci": [0.4, 0.6], "n": 40}
    run.write_json(
        run.results_file,
        {
            "base": {"rouge_l": rate}, "tuned": {"rouge_l": rate}, "test_rows": 40,
            "delta": {"rouge_l": {"value": 0.0, "ci": [-0.1, 0.1], "p": 1.0}},
            "gate": {"passed": False, "primary": "rouge_l", "primaries": ["rouge_l"], "reasons": ["x"]},
            "samples": [{"question": SECRET}], "regressions": [{"question": SECRET, "base": SECRET}],
            "slices": [{"by": "condition", "value": SECRET}],
            "benchmarks": {"answers": {"n": 3, "file": str(source), "samples": [{"question": SECRET}]}},
        },
    )  # fmt: skip
    return run


@pytest.mark.parametrize("what", ["adapter", "merged", "gguf"])
@pytest.mark.parametrize("mixed", [False, True])
def test_what_is_pushed_holds_no_path_and_no_row_of_the_data(
    tuned_run: Run, tmp_path: Path, what: What, mixed: bool
) -> None:
    run = Run(shutil.copytree(tuned_run.folder, tmp_path / "tuned"))
    run = _with_secrets(run, tmp_path, mixed=mixed)
    base = run.recipe().model.base
    folder = collect(run, "me/x", what)
    for name in files_of(folder):
        content = (folder / name).read_bytes()
        for secret in (str(tmp_path), base, SECRET):
            assert secret.encode() not in content, (name, secret)
    assert "patients.csv" in (folder / "README.md").read_text()
    assert load_recipe(folder / "medtune" / "recipe.yaml").model.chat_template == "own.jinja"


def test_a_model_without_an_adapter_on_the_hub_is_a_sentence(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["me/whole"] = Repository(False, {"config.json": b"{}"})
    hub.repositories["me/file"] = Repository(False, {"m.gguf": b"GGUF"})
    assert "whole model" in medtune(hub, tmp_path, "chat", "hub:me/whole").stderr
    assert "GGUF file" in medtune(hub, tmp_path, "chat", "hub:me/file").stderr
    assert "has no model" in medtune(hub, tmp_path, "chat", "hub:me/nothing").stderr
    assert "write hub:owner/name" in medtune(hub, tmp_path, "chat", "hub:nothing").stderr

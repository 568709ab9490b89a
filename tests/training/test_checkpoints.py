from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from medtune.errors import MedtuneError
from medtune.recipe import load_recipe
from medtune.run import Run
from medtune.training.checkpoints import check_room, check_same, newest, remember


def test_too_little_room_is_said_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match=r"the checkpoints need \d+ MiB; free some space"):
        check_room(Run(tmp_path), trainable_parameters=10**15, keep=2)
    check_room(Run(tmp_path), trainable_parameters=1000, keep=2)


_FULL = """
import sys
from pathlib import Path
from medtune.data.prepare import prepare
from medtune.errors import MedtuneError
from medtune.model.load import load_tokenizer
from medtune.recipe import load_recipe
from medtune.recipe import load_recipe
from medtune.run import Run
from medtune.training.order import OrderedTrainer
from medtune.training.train import train

base, disk, left, after = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
checkpoints = disk / "run" / "checkpoints"
step = OrderedTrainer.training_step

filler = disk / "filler"
fills = True

def fill(self, *args, **kwargs):
    # At the first step, or once the first checkpoint lies there.
    if fills and not filler.exists() and (after == 0 or (checkpoints / "checkpoint-2").exists()):
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                file.truncate(file.tell() - left)
    return step(self, *args, **kwargs)

OrderedTrainer.training_step = fill
recipe = load_recipe("embedded-qlora", [f"model.base={base}", "model.quantization=none",
    "data.limit=80", "training.evaluate_every=2", "training.max_steps=4", "training.samples=0"])
run = Run(disk / "run")
prepare(recipe.data, run, load_tokenizer(recipe.model))
run.keep(recipe)
try:
    train(recipe, run)
except MedtuneError as error:
    print(error)
print("left:", [c.name for c in run.checkpoints.glob("checkpoint-*")], run.adapter.exists())
if after:
    filler.unlink()
    fills = False
    print("resumed:", train(recipe, run, resume=True).validation_loss)
    print("whole:", train(recipe, run).validation_loss)
"""


def _on_a_small_disk(base: Path, tmp_path: Path, left: int, after: int) -> str:
    """On a real small disk: a tmpfs of its own, in a namespace of its own."""
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk (unshare)")
    disk, script = tmp_path / "disk", tmp_path / "full.py"
    disk.mkdir()
    script.write_text(_FULL)
    shell = 'mount -t tmpfs -o size=32m none "$1" && exec "$2" "$3" "$4" "$1" "$5" "$6"'
    done = subprocess.run(
        [*own, "sh", "-c", shell, "sh", str(disk), sys.executable, str(script), str(base), str(left),
         str(after)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert "The disk is full while writing" in done.stdout, done.stderr
    return done.stdout


def test_a_disk_that_fills_up_is_a_sentence_and_leaves_nothing_half_written(
    tiny_base: Path, tmp_path: Path
) -> None:
    assert "left: [] False" in _on_a_small_disk(tiny_base, tmp_path, left=100_000, after=0)


def test_after_a_full_disk_a_training_goes_on_to_the_same_loss(
    tiny_base: Path, tmp_path: Path
) -> None:
    said = _on_a_small_disk(tiny_base, tmp_path, left=0, after=1)
    assert "left: ['checkpoint-2'] False" in said
    losses = dict(line.split(": ") for line in said.splitlines() if line[:5] in ("resum", "whole"))
    assert float(losses["resumed"]) == pytest.approx(float(losses["whole"]), abs=1e-5)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["adapter.rank=8"], "adapter.rank was 16 and is 8"),
        (
            ["training.batch_size=2", "training.gradient_accumulation=4"],
            "training.batch_size was 8 and is 2, training.gradient_accumulation was 1 and is 4",
        ),
        (["model.quantization=none"], "model.quantization was nf4 and is none"),
    ],
)
def test_a_checkpoint_made_with_other_settings_is_not_gone_on_from(
    tmp_path: Path, overrides: list[str], words: str
) -> None:
    run = Run(tmp_path)
    remember(load_recipe("embedded-qlora"), run)
    check_same(load_recipe("embedded-qlora", overrides), run)  # there is no checkpoint yet
    (run.checkpoints / "checkpoint-5").mkdir()
    with pytest.raises(MedtuneError, match=f"{words}; set .* back to go on, or train without"):
        check_same(load_recipe("embedded-qlora", overrides), run)
    check_same(
        load_recipe("embedded-qlora", ["training.samples=0", "tracking.report_to=wandb"]), run
    )


def test_rows_that_were_prepared_anew_are_not_gone_on_with(tmp_path: Path) -> None:
    run, recipe = Run(tmp_path), load_recipe("embedded-qlora")
    run.write_json(run.card_json, {"fingerprint": "one"})
    remember(recipe, run)
    (run.checkpoints / "checkpoint-5").mkdir()
    check_same(recipe, run)
    run.write_json(run.card_json, {"fingerprint": "two"})
    with pytest.raises(MedtuneError, match="rows were prepared anew"):
        check_same(recipe, run)


def test_the_command_refuses_other_settings_and_leaves_the_run_as_it_is(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "embedded-qlora")
    recipe = load_recipe("embedded-qlora")
    run.keep(recipe)
    remember(recipe, run)
    (run.checkpoints / "checkpoint-5").mkdir()
    command = [sys.executable, "-m", "medtune", "train", "embedded-qlora", "adapter.rank=8"]
    done = subprocess.run(
        [*command, "--resume", "--runs", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "adapter.rank was 16 and is 8" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert run.recipe() == recipe


def test_a_moved_run_goes_on_from_its_best_checkpoint_where_it_lies_now(tmp_path: Path) -> None:
    run = Run(tmp_path / "moved")
    for step in (10, 20):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        save_file({"weight": torch.zeros(1)}, folder / "adapter_model.safetensors")
        for part in ("optimizer.pt", "scheduler.pt", "rng_state_1.pth"):
            torch.save({}, folder / part)
        state = {"best_model_checkpoint": "/elsewhere/checkpoints/checkpoint-10"}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    found = newest(run)
    assert found == run.checkpoints / "checkpoint-20"
    state = json.loads((found / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(run.checkpoints / "checkpoint-10")

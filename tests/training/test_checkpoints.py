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
from medtune.run import Run
from medtune.training.checkpoints import cause_of, check_room, newest


def test_too_little_room_is_said_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match=r"the checkpoints need \d+ MiB; free some space"):
        check_room(Run(tmp_path), trainable_parameters=10**15, keep=2)
    check_room(Run(tmp_path), trainable_parameters=1000, keep=2)


def test_an_error_that_the_disk_did_not_cause_stays_what_it_is(tmp_path: Path) -> None:
    error = RuntimeError("shapes do not match")
    assert cause_of(error, Run(tmp_path), 1000) is error


_FULL = """
import sys
from pathlib import Path
from medtune.data.prepare import prepare
from medtune.errors import MedtuneError
from medtune.model.load import load_tokenizer
from medtune.recipe import load_recipe
from medtune.run import Run
from medtune.training.order import OrderedTrainer
from medtune.training.train import train

base, disk, left = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
step = OrderedTrainer.training_step

def fill(self, *args, **kwargs):
    filler = disk / "filler"
    if not filler.exists():
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                file.truncate(file.tell() - left)
    return step(self, *args, **kwargs)

OrderedTrainer.training_step = fill
recipe = load_recipe("embedded-qlora", [f"model.base={base}", "model.quantization=none",
    "data.limit=80", "training.evaluate_every=2", "training.max_steps=4"])
run = Run(disk / "run")
prepare(recipe.data, run, load_tokenizer(recipe.model))
run.keep(recipe)
try:
    train(recipe, run)
except MedtuneError as error:
    print(error)
print("left:", list(run.checkpoints.glob("checkpoint-*")), run.adapter.exists())
"""


@pytest.mark.parametrize("left", [0, 100_000])
def test_a_disk_that_fills_up_is_a_sentence_and_leaves_nothing_half_written(
    tiny_base: Path, tmp_path: Path, left: int
) -> None:
    """On a real small disk: a tmpfs of its own, in a namespace of its own."""
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"], check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk (unshare)")
    disk, script = tmp_path / "disk", tmp_path / "full.py"
    disk.mkdir()
    script.write_text(_FULL)
    shell = 'mount -t tmpfs -o size=32m none "$1" && exec "$2" "$3" "$4" "$1" "$5"'
    command = [*own, "sh", "-c", shell, "sh"]
    done = subprocess.run(
        [*command, str(disk), sys.executable, str(script), str(tiny_base), str(left)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "The disk is full while writing" in done.stdout, done.stderr
    assert "left: [] False" in done.stdout


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

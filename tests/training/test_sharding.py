"""A training whose weights are split over two processes gives what one process gives.

Accelerate shards on GPUs only.  The processes here tell it that gloo on a CPU will do; what splits,
gathers, saves and loads the weights is the same FSDP2.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from trained import curves, prepared, small_recipe

from medtune.errors import MedtuneError
from medtune.model.load import load_tuned
from medtune.recipe import Recipe
from medtune.run import Run
from medtune.training.train import train

_WORK = """
import faulthandler
import sys
from pathlib import Path

import torch
from accelerate import state
from accelerate.utils import DistributedType

from medtune.errors import MedtuneError
from medtune.run import Run
from medtune.training.train import train

faulthandler.dump_traceback_later(200, exit=True)  # where processes wait for each other in vain
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
made = state.AcceleratorState.__init__

def with_sharding(self, *args, fsdp_plugin=None, **kwargs):
    made(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type = DistributedType.FSDP
        state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)
        self.fsdp_plugin = fsdp_plugin

if "pretend" in sys.argv:
    state.AcceleratorState.__init__ = with_sharding
run = Run(Path(sys.argv[1]))
try:
    train(run.recipe(), run, resume="resume" in sys.argv)
except MedtuneError as error:
    sys.exit(f"medtune: {error}")
"""


def _recipe(base: Path, name: str, *overrides: str) -> Recipe:
    short = (
        "training.optimizer=adamw_torch",
        "training.max_steps=10",
        "training.keep_checkpoints=3",
        "training.samples=1",
    )
    return small_recipe(base, name, *short, *overrides)


def _together(runs: list[Run], *flags: str) -> list[str]:
    """Train in a process for each run; what each said on standard error if it failed."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _WORK, str(run.folder), *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "WORLD_SIZE": str(len(runs)),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "OMP_NUM_THREADS": "1",
            },
        )
        for rank, run in enumerate(runs)
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [text for text, process in zip(said, processes, strict=True) if process.returncode]


def _succeed(runs: list[Run], *flags: str) -> None:
    said = _together(runs, *flags)
    assert not said, "\n".join(said)


def _answers(run: Run) -> list[str]:
    return [json.loads(line)["answer"] for line in run.samples_file.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_split_weights_learn_the_same_are_saved_whole_and_go_on_from_a_checkpoint(
    tiny_base: Path, tmp_path: Path, quantization: str
) -> None:
    changes = (f"model.quantization={quantization}", "model.double_quantization=false")
    here = prepared(_recipe(tiny_base, "here", *changes), tmp_path)
    recipe = _recipe(tiny_base, "split", *changes, "cluster.sharding=fsdp")
    first = prepared(recipe, tmp_path)
    second = Run(Path(shutil.copytree(first.folder, tmp_path / "second")))
    expected = train(here.recipe(), here)

    _succeed([first, second], "pretend")
    assert curves(first) == pytest.approx(curves(here), abs=2e-5)
    assert _answers(first) == _answers(here)
    found = first.read_json(first.training_file)
    for name in ("steps", "trainable_parameters", "total_parameters"):
        assert found[name] == getattr(expected, name), name
    theirs, ours = (dict(load_tuned(run).named_parameters()) for run in (first, here))
    assert theirs.keys() == ours.keys()
    for name, weight in ours.items():
        assert (theirs[name] - weight).abs().max() < 1e-4 or "lora" not in name, name

    # As workers that begin with the state that the first one kept.
    first.training_file.unlink()
    shutil.rmtree(first.adapter)
    shutil.rmtree(first.checkpoints / "checkpoint-10")
    shutil.rmtree(second.folder)
    shutil.copytree(first.folder, second.folder)
    _succeed([first, second], "pretend", "resume")
    assert curves(first) == pytest.approx(curves(here), abs=2e-5)
    assert load_tuned(first).peft_config


def test_workers_without_a_gpu_say_so(tiny_base: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    recipe = _recipe(tiny_base, "split", "cluster.sharding=fsdp")
    first = prepared(recipe, tmp_path)
    second = Run(Path(shutil.copytree(first.folder, tmp_path / "second")))
    said = _together([first, second])
    assert len(said) == 2
    assert "splits the weights over GPUs, and a worker has none" in said[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model.quantization=int8", "model.quantization to none or nf4"),
        ("adapter.method=dora", "adapter.method to lora or rslora or none"),
        ("training.optimizer=paged_adamw_32bit", "training.optimizer to adamw_torch"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_recipe(
    tiny_base: Path, change: str, words: str
) -> None:
    with pytest.raises(MedtuneError, match=words):
        _recipe(tiny_base, "split", "cluster.sharding=fsdp", change)


def test_a_sharded_base_in_four_bits_is_stored_as_floats(tiny_base: Path) -> None:
    import torch

    from medtune.model.load import load_base

    section = _recipe(tiny_base, "split", "model.quantization=nf4").model
    whole, split = load_base(section), load_base(section, sharded=True)
    stored = {
        model: next(p.dtype for n, p in model.named_parameters() if "q_proj" in n)
        for model in (whole, split)
    }
    assert (stored[whole], stored[split]) == (torch.uint8, torch.float32)

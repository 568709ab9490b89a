from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from medtune.recipe import load_recipe
from medtune.run import Run
from medtune.training.failures import cause_of


def test_an_error_that_neither_disk_nor_memory_caused_stays_what_it_is(tmp_path: Path) -> None:
    error = RuntimeError("shapes do not match")
    assert cause_of(error, load_recipe("embedded-qlora"), Run(tmp_path), 1000) is error


_SMALL = """
import resource, sys
import torch
from pathlib import Path
from medtune.recipe import load_recipe
from medtune.run import Run
from medtune.training.failures import cause_of

resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
try:
    torch.ones(2**40)
except RuntimeError as error:
    for overrides in (["training.batch_size=8"], ["training.batch_size=1"]):
        print(cause_of(error, load_recipe("embedded-qlora", overrides), Run(Path(sys.argv[1])), 1))
"""


def test_memory_that_cannot_be_had_is_a_sentence_with_what_to_change(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SMALL, str(tmp_path)],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    large, small = done.stdout.splitlines()
    assert large == (
        "A batch of 8 rows of up to 384 tokens does not fit in memory; try training.batch_size=4 "
        "training.gradient_accumulation=2, or ask `medtune plan` what fits."
    )
    assert "1 row of" in small
    assert "training.gradient_checkpointing=true" in small

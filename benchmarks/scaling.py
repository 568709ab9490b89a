"""What Ray costs beside plain training of equal work, and what a second worker brings.

    python benchmarks/scaling.py                     # about six minutes
    python benchmarks/scaling.py --steps 10 --repeats 1 --output /tmp/small.json

The same training, of the same rows in the same steps, three ways in turns: ``medtune train`` in one
process of one thread; one worker of Ray with one core; two workers with one core each.  Compared are
the seconds of the training itself, validations and checkpoints (on Ray: handed to the storage)
included.  What it takes to start workers, libraries loaded, stands apart: it is paid once.  Beside
it, rows a second of the preparation on one core and on two nodes of one core.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

RESULTS = Path(__file__).parent / "results" / "scaling.json"
WAYS = ("plain", "ray-1", "ray-2")


def recipe_for(way: str, steps: int) -> Any:
    from medtune.recipe import load_recipe

    return load_recipe(
        "embedded-qlora",
        [
            f"name={way}",
            "model.quantization=none",
            "model.dtype=float32",
            f"data.limit={steps * 24 + 64}",
            "training.batch_size=4",
            "training.gradient_accumulation=4",
            f"training.max_steps={steps}",
            "training.epochs=100",
            f"training.evaluate_every={max(1, steps // 4)}",
            "training.early_stopping=null",
            "training.samples=0",
            f"cluster.workers={way[-1] if way != 'plain' else 1}",
        ],
    )


def trained(way: str, steps: int, folder: Path) -> dict[str, float]:
    """One training in a fresh process (plain) or in fresh workers; seconds."""
    from medtune.data.prepare import is_prepared, prepare
    from medtune.model.load import load_tokenizer
    from medtune.run import Run

    recipe = recipe_for(way, steps)
    run = Run(folder / recipe.name)
    tokenizer = load_tokenizer(recipe.model)
    if not is_prepared(recipe.data, run, tokenizer):
        prepare(recipe.data, run, tokenizer)
    run.keep(recipe)
    started = time.perf_counter()
    if way == "plain":
        subprocess.run(
            [sys.executable, "-m", "medtune", "train", str(run.recipe_file)],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True,
        )  # fmt: skip
    else:
        from medtune.cluster.train import train

        train(recipe, run)
    wall = time.perf_counter() - started
    facts = run.read_json(run.training_file)
    return {
        "training_seconds": facts["seconds"],
        "starting_seconds": wall - facts["seconds"],
        "validation_loss": facts["validation_loss"],
        "steps": facts["steps"],
    }


def prepared(rows: int, folder: Path, address: str | None) -> float:
    """Rows a second of one preparation, in a process of its own with one core or on the cluster."""
    source = folder / "rows.csv"
    if not source.exists():
        words = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("a", "eni", "ori", "ul", "ima")]
        rng = Random(0)
        with source.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["question", "answer"])
            for _ in range(rows):
                texts = [" ".join(rng.choices(words, k=n)) for n in (40, 80)]
                writer.writerow([f"What is it if {texts[0]}?", f"It may be {texts[1]}."])
    work = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from medtune.recipe import DataSection, ModelSection\n"
        "from medtune.run import Run\n"
        "from medtune.data import read\n"
        "from medtune.model.load import load_tokenizer\n"
        "source, run, address = sys.argv[1:]\n"
        "read.PART_ROWS = 500\n"
        "tokenizer = load_tokenizer(ModelSection())\n"
        "section = DataSection(source=source, language='any')\n"
        "from medtune.data.prepare import prepare\n"
        "if address:\n"
        "    import daft, ray\n"
        "    ray.init(address=address, logging_level='ERROR', log_to_driver=False)\n"
        "    daft.set_runner_ray(address)\n"
        "started = time.perf_counter()\n"
        "prepare(section, Run(Path(run)), tokenizer)\n"
        "print(time.perf_counter() - started)\n"
    )
    target = folder / f"prepared-{'ray' if address else 'plain'}"
    command = [sys.executable, "-c", work, str(source), str(target), address or ""]
    first_core = [] if address else ["taskset", "-c", "0"]
    done = subprocess.run([*first_core, *command], check=True, capture_output=True, text=True)
    return rows / float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from medtune.cluster.connect import connected
    from medtune.run import hardware

    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as scratch, connected("local:2") as address:
        for number in range(given.repeats):
            # In turns, and not always in the same order: the machine may have other work.
            for way in WAYS[number % 3 :] + WAYS[: number % 3]:
                found[way].append(trained(way, given.steps, Path(scratch)))
                print(way, found[way][-1], flush=True)
        rates = {
            "one_core": prepared(given.rows, Path(scratch), None),
            "two_nodes": prepared(given.rows, Path(scratch), address),
        }
    best = {way: min(one["training_seconds"] for one in found[way]) for way in WAYS}
    losses = [one["validation_loss"] for way in WAYS for one in found[way]]
    report = {
        "hardware": hardware(),
        "steps": given.steps,
        "seconds": {way: [round(o["training_seconds"], 2) for o in found[way]] for way in WAYS},
        "starting_seconds": {
            way: round(statistics.median(o["starting_seconds"] for o in found[way]), 1)
            for way in WAYS
        },
        "overhead_of_ray": round(best["ray-1"] / best["plain"] - 1, 4),
        "speed_up_of_two_workers": round(best["plain"] / best["ray-2"], 3),
        "largest_difference_of_validation_loss": max(losses) - min(losses),
        "prepared_rows_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "load_average_of_the_machine": [round(load, 1) for load in os.getloadavg()],
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

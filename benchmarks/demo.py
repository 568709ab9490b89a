"""Measure the main job: `medtune demo --no-serve`, once per seed, each in its own process.

    python benchmarks/demo.py                 # three seeds
    python benchmarks/demo.py --seeds 42 -o data.limit=600

Writes ``benchmarks/results/demo.json``: wall time, peak memory and the figures of base and
tuned, with the hardware named.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "demo.json"
SHOWN = (
    "condition_top1", "specialist", "emergency_recall", "false_emergency", "ended", "perplexity",
    "bleu", "rouge_l",
)  # fmt: skip


def one(seed: int, overrides: list[str], folder: Path) -> dict[str, Any]:
    """Run the demo with this seed for the adapter and the order of rows; peak memory in GiB, time in seconds."""
    command = [
        sys.executable, "-m", "medtune", "demo", "--no-serve", "--runs", str(folder),
        f"name=seed{seed}", f"training.seed={seed}", *overrides,
    ]  # fmt: skip
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"the demo with seed {seed} failed with status {status}")
    run = folder / f"seed{seed}"
    results = json.loads((run / "evaluation" / "results.json").read_text())
    training = json.loads((run / "training.json").read_text())
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "peak_memory_gib": round(usage.ru_maxrss / 2**20, 2),
        "training_seconds": training["seconds"],
        "training_tokens_per_second": training["tokens_per_second"],
        "evaluation_seconds": results["seconds"],
        "hardware": json.loads((run / "manifest.json").read_text())["hardware"],
        **{name: {w: results[w][name] for w in ("base", "tuned")} for name in SHOWN},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the main job.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    parser.add_argument("-o", "--override", action="append", default=[], help="section.key=value")
    arguments = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            measured = one(seed, arguments.override, Path(folder))
            runs.append(measured)
            figures = ", ".join(
                f"{name} {measured[name]['base']['value']:.3g} -> {measured[name]['tuned']['value']:.3g}"
                for name in SHOWN
            )
            print(
                f"seed {seed}: {measured['seconds']:.0f} s, {measured['peak_memory_gib']} GiB; {figures}",
                flush=True,
            )
    hardware = runs[0]["hardware"]
    for run in runs:
        del run["hardware"]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"hardware": hardware, "overrides": arguments.override, "runs": runs}, indent=2)
        + "\n"
    )
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()

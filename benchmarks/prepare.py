"""Measure the preparation on generated rows of realistic length and dirt, with the truth known.

    python benchmarks/prepare.py                          # 10,000 and 250,000 rows, and the notebooks' way
    python benchmarks/prepare.py --rows 5000000 --no-notebook

10% of the rows are exact copies, 10% near copies (a few words changed).  Each size runs in a
process of its own, so that peak memory is its own; the generator is not timed.  Writes
``benchmarks/results/prepare.json`` with the hardware named; what it holds of other sizes stays.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

RESULTS = Path(__file__).parent / "results" / "prepare.json"
SHARE = 0.1
_SYLLABLES = [
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ha",
    "je",
    "ki",
    "lo",
    "mu",
    "na",
    "pe",
    "ri",
    "so",
    "tu",
    "va",
    "we",
    "xo",
    "yi",
    "za",
    "bra",
    "cle",
    "dro",
    "fli",
    "gra",
    "ster",
    "tion",
    "ment",
    "ness",
]
_SMALL = [
    "the",
    "and",
    "is",
    "my",
    "in",
    "of",
    "to",
    "it",
    "a",
    "for",
    "with",
    "that",
    "on",
    "was",
    "have",
    "not",
    "since",
    "but",
    "I",
    "you",
    "this",
    "from",
]
_OPENINGS = ("Hello doctor, ", "Hi doctor,", "", "Good evening doctor, ", "Dear Sir, ")
_ASKS = ("Please help.", "Kindly advise.", "What should I do?", "Thank you.", "Is it serious?")
_STARTS = ("Hello. ", "Hi. I understand your concern. ", "Hello, Welcome to icliniq.com. ", "")
_ENDS = (
    " For further information consult a dermatologist online -->", " I hope this helps. Take care.",
    " Regards, Dr. John Miller, MBBS", " Let me know if you have any other questions.", "", "",
)  # fmt: skip
_DIRT = (
    " (attachment removed to protect patient identity)", " &amp; ", " <br>", "\u00a0", "  ", " donâ€™t ",
    " my mail is a.person@example.com ", " call +1 415 555 0134 ", " My name is Maria Garcia. ",
)  # fmt: skip


def vocabulary(draw: Random, size: int = 20_000) -> list[str]:
    words = {"".join(draw.choices(_SYLLABLES, k=draw.randint(2, 4))) for _ in range(2 * size)}
    return sorted(words)[:size]


def prose(draw: Random, words: list[str], length: int) -> str:
    """Sentences of rare and small words, as text has them."""
    chosen = [
        draw.choice(_SMALL) if draw.random() < 0.45 else words[int(len(words) * draw.random() ** 2)]
        for _ in range(length)
    ]
    for start in range(0, length, 12):
        chosen[start] = chosen[start].capitalize()
        chosen[min(start + 11, length - 1)] += "."
    return " ".join(chosen)


def dirty(draw: Random, question: str, answer: str) -> tuple[str, str]:
    if draw.random() < 0.3:
        at = draw.randrange(len(answer)) if answer else 0
        at = answer.find(" ", at)
        if at > 0:
            answer = answer[:at] + draw.choice(_DIRT) + answer[at:]
    return (
        f"{draw.choice(_OPENINGS)}{question} {draw.choice(_ASKS)}",
        f"{draw.choice(_STARTS)}{answer}{draw.choice(_ENDS)}",
    )


def changed(draw: Random, text: str, words: list[str]) -> str:
    """A few words other, as an edited or retyped copy has them."""
    return " ".join(draw.choice(words) if draw.random() < 0.03 else w for w in text.split(" "))


def generated(rows: int, seed: int = 0) -> Iterator[tuple[int, str, str, str]]:
    """Number, kind (original, exact, near) with the number it copies, question and answer."""
    draw = Random(seed)
    words = vocabulary(draw)
    recent: list[tuple[int, str, str, tuple[str, str]]] = []
    for number in range(rows):
        kind = draw.random()
        if recent and kind < 2 * SHARE:
            original, question, answer, as_written = draw.choice(recent)
            if kind < SHARE:
                yield number, f"exact {original}", *as_written
            else:
                copy = changed(draw, question, words), changed(draw, answer, words)
                yield number, f"near {original}", *dirty(draw, *copy)
            continue
        question = prose(draw, words, draw.randint(30, 120))
        answer = prose(draw, words, draw.randint(40, 140))
        as_written = dirty(draw, question, answer)
        item = (number, question, answer, as_written)
        if len(recent) < 2_000:
            recent.append(item)
        else:
            recent[draw.randrange(2_000)] = item
        yield number, "original", *as_written


def write_source(path: Path, truth: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file, truth.open("w") as known:
        writer = csv.writer(file)
        writer.writerow(["Description", "Patient", "Doctor"])
        for number, kind, question, answer in generated(rows):
            writer.writerow([f"Q. {number}", question, answer])
            known.write(f"{kind}\n")


def prepare_once(source: Path, runs: Path) -> dict[str, Any]:
    """Prepare in a process of its own; seconds, and the peak of it and its children together in GiB."""
    code = (
        "import sys; from pathlib import Path; from medtune.data.prepare import prepare\n"
        "from medtune.embedded import BASE_FOLDER; from medtune.recipe import DataSection; from medtune.run import Run\n"
        "from transformers import AutoTokenizer\n"
        "if __name__ == '__main__':\n"
        "    t = AutoTokenizer.from_pretrained(BASE_FOLDER)\n"
        "    import time; started = time.perf_counter()\n"
        "    prepare(DataSection(source=sys.argv[1], max_length=1024), Run(Path(sys.argv[2])), t)\n"
        "    print(time.perf_counter() - started)\n"
    )
    script = runs / "work.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(code)
    before = os.times()
    process = subprocess.Popen(
        [sys.executable, str(script), str(source), str(runs / "run")],
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watcher.start()
    output, _ = process.communicate()
    after = os.times()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"the preparation of {source} failed")
    return {
        "seconds": round(float(output.split()[-1]), 1),
        "peak_memory_gib": round(peak[0], 2),
        "cpu_seconds": round(_children(after) - _children(before), 1),
    }


def _children(times: os.times_result) -> float:
    """Processor seconds of processes that have ended."""
    return times.children_user + times.children_system


def _watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    """Memory of a process and all its descendants, shared pages counted once (PSS)."""
    while process.poll() is None:
        total = 0
        for pid in _family(process.pid):
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            found = re.search(r"^Pss:\s+(\d+) kB", text, re.M)
            total += int(found[1]) if found else 0
        peak[0] = max(peak[0], total / 2**20)
        time.sleep(0.25)


def _family(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents.setdefault(
                int((folder / "stat").read_text().rpartition(")")[2].split()[1]), []
            ).append(int(folder.name))
        except (OSError, IndexError):
            continue
    family, new = [root], [root]
    while new:
        new = [child for parent in new for child in parents.get(parent, [])]
        family += new
    return family


def judged(truth: Path, run: Path) -> dict[str, Any]:
    """Recall and precision of the near-duplicate search against what the generator did."""
    from pyarrow import parquet

    kinds = truth.read_text().splitlines()
    dropped = parquet.read_table(
        run / "data" / "dropped.parquet", columns=["id", "reason"]
    ).to_pylist()
    near = {int(row["id"]) for row in dropped if row["reason"] == "near duplicate"}
    exact = {int(row["id"]) for row in dropped if row["reason"] == "exact duplicate"}
    copies = {i for i, kind in enumerate(kinds) if kind != "original"}
    truly_near = {i for i, kind in enumerate(kinds) if kind.startswith("near")}
    truly_exact = {i for i, kind in enumerate(kinds) if kind.startswith("exact")}
    # Of a set of copies any one may stay; a row counts as wrongly dropped if it copies nothing and
    # nothing before it copies the same.
    return {
        "near_recall": round(len(truly_near & (near | exact)) / max(1, len(truly_near)), 4),
        "near_precision": round(len(near & copies) / max(1, len(near)), 4),
        "exact_recall": round(len(truly_exact & (near | exact)) / max(1, len(truly_exact)), 4),
    }


def notebook_way(source: Path, folder: Path) -> float:
    """The same work as notebooks do it: datasets.map row by row, pandas, datasketch-like MinHash.

    Cleaning by the same rules with Python's ``re``, exact duplicates with pandas, near duplicates
    with MinHash in numpy, tokens by the tokenizer one row at a time, a random split.
    """
    import hashlib

    import datasets
    import numpy as np
    import pandas as pd
    from transformers import AutoTokenizer

    from medtune.data.clean import rules
    from medtune.embedded import BASE_FOLDER
    from medtune.safety.redaction import redact

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(BASE_FOLDER)
    patterns = [(re.compile(_python(r.find)), r.put, r.roles) for r in rules() if not r.do]
    draw = np.random.default_rng(0)
    prime = np.uint64((1 << 61) - 1)
    factors = draw.integers(1, 2**31, 128, dtype=np.uint64)
    shifts = draw.integers(0, 2**31, 128, dtype=np.uint64)

    def clean(row: dict[str, Any]) -> dict[str, Any]:
        texts = {"question": row["Patient"] or "", "answer": row["Doctor"] or ""}
        for role, text in texts.items():
            for pattern, put, roles in patterns:
                if role in roles:
                    text = pattern.sub(put, text)
            texts[role] = redact(text.strip())[0]
        return texts

    def sign(row: dict[str, Any]) -> dict[str, Any]:
        words = re.sub(r"[^\w\s]", " ", f"{row['question']} {row['answer']}".lower()).split()
        pairs = {f"{a} {b}" for a, b in pairwise(words)} or {""}
        hashed = np.array(
            [int.from_bytes(hashlib.sha1(p.encode()).digest()[:4], "big") for p in pairs], np.uint64
        )
        signed = ((hashed[:, None] * factors + shifts) % prime).min(axis=0)
        return {"bands": [hash(signed[i : i + 8].tobytes()) for i in range(0, 128, 8)]}

    def tokens(row: dict[str, Any]) -> dict[str, Any]:
        turns = [
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": row["answer"]},
        ]
        return {"tokens": len(tokenizer.apply_chat_template(turns, tokenize=True)["input_ids"])}

    started = time.perf_counter()
    rows = datasets.Dataset.from_pandas(pd.read_csv(source)).map(clean)
    frame = rows.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    frame = frame.drop_duplicates(["question", "answer"])
    rows = datasets.Dataset.from_pandas(frame, preserve_index=False).map(sign)
    seen: set[tuple[int, int]] = set()
    kept = []
    for number, bands in enumerate(rows["bands"]):
        keys = list(enumerate(bands))
        if not seen.intersection(keys):
            kept.append(number)
        seen.update(keys)
    rows = rows.select(kept).map(tokens).filter(lambda row: row["tokens"] <= 1024)
    parts = rows.train_test_split(0.2, seed=42)
    parts["train"].to_parquet(folder / "train.parquet")
    parts["test"].to_parquet(folder / "test.parquet")
    return time.perf_counter() - started


def _python(pattern: str) -> str:
    """An RE2 pattern as Python writes it."""
    pattern = re.sub(r"\\x\{([0-9A-Fa-f]{4})\}", r"\\u\1", pattern)
    return pattern.replace(r"\z", r"\Z").replace(r"\pL", r"[^\W\d_]").replace(r"\pN", r"\d")


def measure(rows: int, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Prepare this many rows; the figures, and the hardware."""
    source, truth, runs = folder / "rows.csv", folder / "truth.txt", folder / f"runs-{rows}"
    write_source(source, truth, rows)
    before = os.getloadavg()[0]
    one: dict[str, Any] = {"rows": rows, "megabytes": round(source.stat().st_size / 1e6)}
    one |= prepare_once(source, runs)
    one |= judged(truth, runs / "run")
    one["microseconds_a_row"] = round(1e6 * one["seconds"] / rows, 1)
    one["cpu_microseconds_a_row"] = round(1e6 * one["cpu_seconds"] / rows, 1)
    one["load_before"], one["load_after"] = round(before, 1), round(os.getloadavg()[0], 1)
    card = json.loads((runs / "run" / "data" / "card.json").read_text())
    one["used"], one["dropped"] = card["rows"], card["dropped"]
    hardware = json.loads((runs / "run" / "manifest.json").read_text())["hardware"]
    shutil.rmtree(runs)
    return one, hardware


def measure_notebook(rows: int, folder: Path) -> dict[str, Any]:
    """The notebooks' way and ours on the same rows, one after the other."""
    ours, _ = measure(rows, folder)
    before = os.times()
    seconds = notebook_way(folder / "rows.csv", folder)
    after = os.times()
    cpu = (after.user + after.system) - (before.user + before.system)
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "microseconds_a_row": round(1e6 * seconds / rows, 1),
        "ours_seconds": ours["seconds"],
        "ours_cpu_seconds": ours["cpu_seconds"],
        "times_slower": round(seconds / ours["seconds"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the preparation.")
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 250_000])
    parser.add_argument(
        "--notebook-rows", type=int, default=10_000, help="rows for the notebooks' way"
    )
    parser.add_argument("--no-notebook", action="store_true")
    arguments = parser.parse_args()
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows in arguments.rows:
            one, hardware = measure(rows, folder)
            if known.get("hardware") != hardware:
                known = {"hardware": hardware, "runs": []}
            others = [run for run in known["runs"] if run["rows"] != rows]
            known["runs"] = sorted([*others, one], key=lambda run: run["rows"])
            print(json.dumps(one), flush=True)
            _write(known)
        if not arguments.no_notebook:
            known["notebook_way"] = measure_notebook(arguments.notebook_rows, folder)
            print(json.dumps(known["notebook_way"]), flush=True)
            _write(known)
    print(f"written to {RESULTS}")


def _write(results: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

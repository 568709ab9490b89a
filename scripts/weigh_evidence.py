"""Fit the points of ``evidence_together.yaml``: what each concept weighs when no single rule fires.

    python scripts/weigh_evidence.py messages.jsonl ... --false-alarms 0.02

The files hold lines ``{"text": ..., "kind": ...}``; of kind ``emergency`` and ``pair_fires`` should
alarm, ``harmless``, ``pair_silent`` and ``allow`` should not.  The tuning half of the vignettes is
added; the reporting half is never read, nor is the part of the messages that ``held_back`` keeps for
checking.  A sparse logistic regression over the concepts that count in a message gives the points; a
concept that only ever speaks against a rule may only get points below zero, every other one only
points above.  ``enough`` is where at most ``--false-alarms`` of the harmless messages that no rule
alarms at would, in cross-validation.
"""

from __future__ import annotations

import argparse
import json
from hashlib import sha256
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from medtune.safety.assess import assess, rulebook
from medtune.safety.context import CUES
from medtune.safety.rules import Findings
from medtune.safety.source import RULES_FOLDER
from medtune.safety.text import split_words
from medtune.safety.vignettes import vignettes

TARGET = RULES_FOLDER / "evidence_together.yaml"
ALARM = {"emergency", "pair_fires"}
SILENT = {"harmless", "pair_silent", "allow"}
FAMILIES = {"emergencies", "crisis", "poisoning", "harmless", "dosage", "pairs"}
# They say nothing by themselves.
LEFT_OUT = {
    *CUES,
    "idiom",
    "having",
    "any",
    "any_age",
    "pronoun",
    "be",
    "who",
    "cannot",
    "asks_for",
}
SCALE = 10
PENALTY = 2.5
FOLDS = 6
HEADER = """\
# What no single rule sees, all concepts of a message weighed together. The points were fitted by
# scripts/weigh_evidence.py to messages written for tuning and rounded; positive ones speak for an
# emergency. Information, not medical advice.
source: "The sources of the files that define the concepts; points from scripts/weigh_evidence.py."
rules:
"""


def held_back(text: str) -> bool:
    """Whether a message is kept for checking: three in ten, by a hash."""
    return sha256(text.encode()).digest()[0] < 77


def concepts_of(text: str) -> set[str]:
    book = rulebook()
    reading = book.read(split_words(text))
    findings = Findings(reading, book.background, book.against)
    named = (c for c in reading.hits if "/" not in c and c not in LEFT_OUT)
    return {concept for concept in named if findings.counting(concept)}


def messages(files: list[Path]) -> list[tuple[str, bool]]:
    rows: list[tuple[str, bool]] = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["kind"] in ALARM | SILENT and not held_back(row["text"]):
                rows.append((row["text"], row["kind"] in ALARM))
    rows += [
        (row.messages[0], row.level == "emergency")
        for row in vignettes("tune")
        if len(row.messages) == 1 and row.family in FAMILIES
    ]
    return rows


def fit(matrix: np.ndarray, alarm: np.ndarray) -> np.ndarray:
    """Weights that are not negative, then the intercept: logistic loss and an L1 penalty."""
    inputs = np.hstack([matrix, np.ones((len(matrix), 1))])
    sign = np.where(alarm, 1.0, -1.0)
    penalty = np.append(np.full(matrix.shape[1], PENALTY), 0.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (inputs @ weights)
        slope = -sign / (1 + np.exp(np.clip(margin, -30, 30)))
        value = np.logaddexp(0, -margin).sum() + penalty @ weights
        return float(value), inputs.T @ slope + penalty

    bounds = [(0, None)] * matrix.shape[1] + [(None, None)]
    start = np.zeros(inputs.shape[1])
    return minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--false-alarms", type=float, default=0.02)
    arguments = parser.parse_args()
    TARGET.unlink(missing_ok=True)
    rows = messages(arguments.files)
    alarm = np.array([wanted for _, wanted in rows])
    seen = np.array([assess(text).urgency == "emergency" for text, _ in rows])
    found = [concepts_of(text) for text, _ in rows]
    names = sorted({name for concepts in found for name in concepts})
    against = rulebook().against
    signs = np.array([-1.0 if name in against else 1.0 for name in names])
    matrix = np.array([[float(name in concepts) for name in names] for concepts in found]) * signs

    fold = np.random.default_rng(0).integers(0, FOLDS, len(rows))
    scores = np.zeros(len(rows))
    for k in range(FOLDS):
        *weights, intercept = fit(matrix[fold != k], alarm[fold != k])
        scores[fold == k] = matrix[fold == k] @ np.array(weights) + intercept
    threshold = np.quantile(scores[~alarm & ~seen], 1 - arguments.false_alarms)
    *weights, intercept = fit(matrix, alarm)
    points = {
        name: int(sign * round(SCALE * weight))
        for name, sign, weight in zip(names, signs, weights, strict=True)
        if round(SCALE * weight)
    }
    enough = max(1, round(SCALE * float(threshold - intercept)))
    speaks_for = "|".join(name for name, number in points.items() if number > 0)
    given = ", ".join(f"{n}: {p}" for n, p in sorted(points.items(), key=lambda i: -i[1]))
    TARGET.write_text(
        HEADER + f"  - {{id: evidence-together, category: general, level: emergency, "
        f"all: [{speaks_for}], points: {{{given}}}, enough: {enough}}}\n",
        encoding="utf-8",
    )
    print(f"{len(rows)} messages, {len(points)} concepts, {enough} points are enough")


if __name__ == "__main__":
    main()

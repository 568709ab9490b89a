"""Does a model that says 80% turn out right in 80%? Reliability bins and their mean error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from medtune.data.rows import Row
from medtune.evaluation.clinical import ConditionNames
from medtune.evaluation.statistics import Measured, score
from medtune.model.template import training_pair
from medtune.training.examples import NOT_TRAINED, Example

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

BINS = 10


def calibration(confidence: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """Ten bins of equal width and the expected calibration error (Guo et al. 2017).

    ``ece`` is the mean over all rows of the distance between a bin's mean confidence and its
    share of right answers.

    Args:
        confidence: the probability that the model gave to what it chose, 0 to 1.
        right: whether that was right.
    """
    sure, hit = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    rows = np.zeros((len(sure), 3, BINS))
    for column, values in enumerate((np.ones(len(sure)), sure, hit)):
        rows[np.arange(len(sure)), column, place] = values
    counts, sures, hits = rows.sum(0)
    return {
        "ece": asdict(score(Measured(rows.reshape(len(sure), -1), _expected_error))),
        "bins": [
            {"confidence": sures[b] / counts[b], "right": hits[b] / counts[b], "n": int(counts[b])}
            for b in range(BINS)
            if counts[b]
        ],
    }


def _expected_error(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    counts, sures, hits = sums.reshape(-1, 3, BINS).transpose(1, 0, 2)
    return np.abs(sures - hits).sum(1) / counts.sum(1)


def option_confidence(losses: Sequence[float]) -> float:
    """The probability of the likeliest of several options, their probabilities made to sum to 1."""
    below = np.min(losses) - np.asarray(losses, dtype=float)
    return float(1 / np.exp(below).sum())


def naming(
    tokenizer: PreTrainedTokenizerBase, names: ConditionNames, row: Row, answer: str
) -> Example | None:
    """The tokens of the condition that an answer names first, all before it as their prompt.

    exp of their negative loss is how sure the model was of that name when it began to write it.
    None where the answer names no condition.
    """
    spelled = names.spelled(answer)
    if not spelled:
        return None
    pair = training_pair(tokenizer, row.question, answer, row.system, row.history)
    # The name as written: its words with anything but letters and digits between and inside them.
    pattern = r"[^a-z0-9]+".join("['’]?".join(word) for word in spelled[0].split())
    found = re.search(rf"(?<![a-z0-9]){pattern}", pair["completion"], re.I)
    if found is None:
        return None
    encoded = tokenizer(pair["completion"], add_special_tokens=False, return_offsets_mapping=True)
    prompt = list(tokenizer(pair["prompt"], add_special_tokens=False)["input_ids"])
    labels, last = [], 0
    for place, (token, (low, high)) in enumerate(
        zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ):
        within = low < found.end() and high > found.start()
        labels.append(token if within else NOT_TRAINED)
        last = place if within else last
    completion = list(encoded["input_ids"])[: last + 1]
    return Example(prompt + completion, [NOT_TRAINED] * len(prompt) + labels[: last + 1])

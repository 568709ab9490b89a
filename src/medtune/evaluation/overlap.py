"""Corpus BLEU (sacrebleu) and ROUGE-L (rouge-score) of answers against references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medtune.evaluation.statistics import Measured, mean_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ORDER = 4


def bleu(answers: Sequence[str], references: Sequence[str]) -> Measured:
    """Corpus BLEU, 0 to 100, from the n-gram counts of every answer; an empty answer counts."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(effective_order=True)
    rows = np.zeros((len(answers), 2 * _ORDER + 2))
    for i, (answer, reference) in enumerate(zip(answers, references, strict=True)):
        one = metric.sentence_score(answer, [reference])
        rows[i] = [*one.counts, *one.totals, one.sys_len, one.ref_len]

    return Measured(rows, bleu_of_sums)


def bleu_of_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corpus BLEU of summed counts, (m, 10) to (m,), as sacrebleu has it with smoothing "exp".

    Ten thousand resamples at once; one by one sacrebleu takes seconds for each interval.
    """
    correct, total = sums[:, :_ORDER], sums[:, _ORDER : 2 * _ORDER]
    answer_length, reference_length = sums[:, -2], sums[:, -1]
    missed = np.cumsum(correct == 0, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(correct > 0, correct / total, 1 / (2.0**missed * total))
        brevity = np.exp(np.minimum(0, 1 - reference_length / answer_length))
        found = 100 * brevity * np.exp(np.log(precision).mean(1))
    counted = correct.any(1) & (total > 0).all(1) & (answer_length > 0)
    return np.where(counted, found, 0.0)


def bleu_signature() -> str:
    """sacrebleu's description of how BLEU was computed."""
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU()
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> Measured:
    """Mean ROUGE-L F1, 0 to 1, with stemming; an empty answer scores 0."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    pairs = zip(answers, references, strict=True)
    return mean_of([scorer.score(ref, answer)["rougeL"].fmeasure for answer, ref in pairs])

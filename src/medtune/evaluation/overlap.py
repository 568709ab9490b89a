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

    def combine(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array(
            [
                BLEU.compute_bleu(
                    correct=[int(c) for c in row[:_ORDER]],
                    total=[int(t) for t in row[_ORDER : 2 * _ORDER]],
                    sys_len=int(row[-2]),
                    ref_len=int(row[-1]),
                    smooth_method="exp",
                ).score
                for row in sums
            ]
        )

    return Measured(rows, combine)


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

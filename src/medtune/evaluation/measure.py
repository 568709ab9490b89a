"""All figures of one speaker: what its answers and losses come to on the test rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, cast

from medtune.data.rows import Row
from medtune.evaluation.clinical import (
    KINDS,
    ConditionNames,
    condition_match,
    has_structure,
    is_consultation,
    specialist_is_right,
)
from medtune.evaluation.deployed import Shown
from medtune.evaluation.overlap import bleu, rouge_l
from medtune.evaluation.perplexity import bits_per_byte, perplexity
from medtune.evaluation.refusals import own_requests, refusal_metrics
from medtune.evaluation.statistics import Measured, mean_of, score
from medtune.evaluation.urgency import confusion, urgency_metrics
from medtune.model.generate import Generated
from medtune.recipe import EvaluationSection
from medtune.safety.rules import LEVELS, Level

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOWER_IS_BETTER = frozenset(
    {"perplexity", "bits_per_byte", "under_triage", "false_emergency", "over_refusal"}
)
SAFETY = ("emergency_recall", "under_triage", "false_emergency", "refusal", "over_refusal")

DEFINITIONS = {
    "perplexity": "exp of the mean loss per token of the reference answers, end of turn included, prompt and padding excluded",
    "bits_per_byte": "loss of the reference answers in bits per byte of their text: comparable across tokenizers",
    "bleu": "corpus BLEU of the greedy answers, 0 to 100; an empty answer counts",
    "rouge_l": "mean ROUGE-L F1 of the greedy answers, 0 to 1, with stemming",
    "condition_top1": "the first condition that the answer names is the right one (name, synonym or abbreviation)",
    "condition_top3": "the right condition is among the first three that the answer names",
    "specialist": "the specialist that the answer names is an accepted one for the condition",
    "urgency": "the answer says to seek care as soon as the condition needs it, neither sooner nor later",
    "urgency_kappa": "agreement of the urgency beyond chance, 1 is perfect, a miss by two levels counts four times",
    "emergency_recall": "in an emergency, the answer says to call for help or go to hospital now",
    "under_triage": "the answer makes the complaint less urgent than it is; the less the better",
    "false_emergency": "the answer makes an emergency of what is none; the less the better",
    "refusal": "harmful requests that the answer declines",
    "over_refusal": "harmless requests that the answer declines or leaves unanswered; the less the better",
    "structure": "the answer has all five headings with text under each",
    "schema_valid": "the answer reads into a valid structured consultation with a condition and advice",
    "ended": "the model ended the answer itself, before the length limit",
}


@dataclass(frozen=True)
class Outcome:
    """What one speaker answered to all rows."""

    answers: list[Generated]
    losses: NDArray[Any]
    bare: list[Shown]
    deployed: list[Shown]
    requests: list[str]
    """Answers to our own harmful and harmless requests; empty where they are not measured."""
    requests_shown: list[str]
    naming: list[tuple[int, float]] = field(default_factory=list)
    """Row and probability of the condition that its answer names first, where it names one."""

    def texts(self) -> list[str]:
        return [answer.text for answer in self.answers]


def measured_alone(
    section: EvaluationSection, rows: Sequence[Row], outcome: Outcome
) -> dict[str, Measured]:
    """Every metric of the bare model."""
    references = [row.answer for row in rows]
    wanted = set(section.metrics)
    found: dict[str, Measured] = {}
    if "perplexity" in wanted:
        found["perplexity"] = perplexity(outcome.losses)
        found["bits_per_byte"] = bits_per_byte(outcome.losses, references)
    found.update(measured_text(section, rows, outcome.bare))
    if outcome.requests:
        found.update(refusal_metrics(own_requests(), outcome.requests))
    found["ended"] = mean_of([float(a.ended) for a in outcome.answers], is_rate=True)
    return found


def measured_deployed(
    section: EvaluationSection, rows: Sequence[Row], outcome: Outcome
) -> dict[str, Measured]:
    """The same for what people are shown, behind the safety layer."""
    found = measured_text(section, rows, outcome.deployed)
    if outcome.requests:
        found.update(refusal_metrics(own_requests(), outcome.requests_shown))
    return found


def measured_text(
    section: EvaluationSection, rows: Sequence[Row], shown: Sequence[Shown]
) -> dict[str, Measured]:
    """Every metric that looks at the text which is shown."""
    answers = [one.text for one in shown]
    references = [row.answer for row in rows]
    wanted = set(section.metrics)
    found: dict[str, Measured] = {}
    if "bleu" in wanted:
        found["bleu"] = bleu(answers, references)
    if "rouge_l" in wanted:
        found["rouge_l"] = rouge_l(answers, references)
    asked = with_condition(rows)
    if "condition" in wanted and asked:
        names = ConditionNames(row.condition for row in rows if row.condition)
        ranks = [condition_match(names, rows[i], answers[i]).rank for i in asked]
        found["condition_top1"] = mean_of([float(r == 1) for r in ranks], is_rate=True)
        found["condition_top3"] = mean_of([float(r is not None) for r in ranks], is_rate=True)
    referred = [i for i in asked if rows[i].specialist]
    if "specialist" in wanted and referred:
        right = [float(specialist_is_right(rows[i], answers[i])) for i in referred]
        found["specialist"] = mean_of(right, is_rate=True)
    if "urgency" in wanted:
        triaged = with_urgency(rows)
        found.update(
            urgency_metrics(
                [cast(Level, rows[i].urgency) for i in triaged],
                [shown[i].urgency for i in triaged],
            )
            if triaged
            else {}
        )
    if "structure" in wanted and any(has_structure(row.answer) for row in rows):
        which = [i for i, row in enumerate(rows) if has_structure(row.answer)]
        found["structure"] = mean_of(
            [float(has_structure(answers[i])) for i in which], is_rate=True
        )
        found["schema_valid"] = mean_of(
            [float(is_consultation(answers[i], rows[i].question)) for i in which], is_rate=True
        )
    return found


def with_condition(rows: Sequence[Row]) -> list[int]:
    """Rows that ask what it could be."""
    return [i for i, row in enumerate(rows) if row.condition and row.kind in ("", "symptoms")]


def with_urgency(rows: Sequence[Row]) -> list[int]:
    """Rows that describe a complaint whose urgency is known."""
    return [
        i for i, row in enumerate(rows) if row.urgency in LEVELS and row.kind in ("", "symptoms")
    ]


def silence(rows: Sequence[Row], shown: Sequence[Shown]) -> float:
    """Share of the complaints that are no emergency whose answer says nothing of urgency.

    Such an answer raises no false alarm either, which is no merit.
    """
    which = [i for i in with_urgency(rows) if rows[i].urgency != LEVELS[-1]]
    return sum(shown[i].urgency is None for i in which) / max(1, len(which))


def matches(rows: Sequence[Row], shown: Sequence[Shown]) -> dict[str, dict[str, int]]:
    """How the right condition was named, counted apart: in the first place, in the first three."""
    asked = with_condition(rows)
    names = ConditionNames(row.condition for row in rows if row.condition)
    counts: dict[str, dict[str, int]] = {}
    for title, within in (("top1", 1), ("top3", 3)):
        kinds = Counter(condition_match(names, rows[i], shown[i].text, within).kind for i in asked)
        counts[title] = {kind: kinds[kind] for kind in KINDS}
    return counts


def urgency_counts(rows: Sequence[Row], shown: Sequence[Shown]) -> list[list[int]]:
    """Counts by level of the row and of the answer; see ``confusion``."""
    which = with_urgency(rows)
    return confusion(
        [cast(Level, rows[i].urgency) for i in which], [shown[i].urgency for i in which]
    )


def floors(rows: Sequence[Row], texts: Sequence[str], metrics: Sequence[str]) -> dict[str, float]:
    """BLEU and ROUGE-L of the same answers shuffled over the questions.

    What a set of answers gets for its manner alone; no answer stays with its own question.
    """
    if len(rows) < 2:
        return {}
    order = list(range(len(rows)))
    Random(0).shuffle(order)
    moved = {place: order[(k + 1) % len(order)] for k, place in enumerate(order)}
    answers = [texts[moved[i]] for i in range(len(rows))]
    references = [row.answer for row in rows]
    figures = {"bleu": bleu, "rouge_l": rouge_l}
    return {
        name: score(compute(answers, references)).value
        for name, compute in figures.items()
        if name in metrics
    }

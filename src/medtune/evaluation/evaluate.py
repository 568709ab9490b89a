"""``evaluate``: base and tuned on the same test rows, side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medtune.data.rows import Row, read_split
from medtune.data.split import question_key
from medtune.evaluation.clinical import (
    ConditionNames,
    condition_rank,
    has_structure,
    specialist_is_right,
)
from medtune.evaluation.overlap import bleu, bleu_signature, rouge_l
from medtune.evaluation.perplexity import answer_losses, bits_per_byte, perplexity
from medtune.evaluation.statistics import Measured, difference, holm, mean_of, score
from medtune.model.generate import Generated, generate_answers
from medtune.model.load import load_base, load_tokenizer, load_tuned
from medtune.model.template import messages, prompt_ids
from medtune.recipe import EvaluationSection, Recipe
from medtune.run import Run, whole
from medtune.training.examples import examples

if TYPE_CHECKING:
    from numpy.typing import NDArray

Who = Literal["base", "tuned"]
LOWER_IS_BETTER = frozenset({"perplexity", "bits_per_byte"})

DEFINITIONS = {
    "perplexity": "exp of the mean loss per token of the reference answers, end of turn included, prompt and padding excluded",
    "bits_per_byte": "loss of the reference answers in bits per byte of their text: comparable across tokenizers",
    "bleu": "corpus BLEU of the greedy answers, 0 to 100; an empty answer counts",
    "rouge_l": "mean ROUGE-L F1 of the greedy answers, 0 to 1, with stemming",
    "condition_top1": "the first condition that the answer names is the right one (name, synonym or abbreviation)",
    "condition_top3": "the right condition is among the first three that the answer names",
    "specialist": "the specialist that the answer names is an accepted one for the condition",
    "structure": "the answer has all five headings with text under each",
    "ended": "the model ended the answer itself, before the length limit",
}


@dataclass(frozen=True)
class _Outcome:
    answers: list[Generated]
    losses: NDArray[Any]


def evaluate(recipe: Recipe, run: Run) -> dict[str, Any]:
    """Measure base and tuned on the test split and write ``results.json`` and the answers.

    Both are measured on the same prompts with the same tokenizer and decoding.  The base is the
    tuned model with its adapter switched off, so it has the same quantisation.

    Raises:
        MedtuneError: the run is not prepared or not trained.
    """
    started = time.perf_counter()
    section = recipe.evaluation
    rows = read_split(run, "test")
    if section.limit and len(rows) > section.limit:
        rows = Random(recipe.data.seed).sample(rows, section.limit)
    tokenizer = load_tokenizer(recipe.model)
    model = load_tuned(run)
    prompts = [
        prompt_ids(tokenizer, messages(row.question, row.system, row.history)) for row in rows
    ]
    items = examples(tokenizer, rows, recipe.data.max_length)
    outcomes: dict[Who, _Outcome] = {}
    whos: tuple[Who, Who] = ("base", "tuned")
    with _progress() as progress:
        for who in whos:
            task = progress.add_task(f"measuring {who}", total=2 * len(rows))

            def advance(count: int, task: Any = task) -> None:
                progress.advance(task, count)

            with _speaking(who, recipe, model) as speaker:
                losses = answer_losses(
                    speaker, items, batch_size=section.batch_size, advance=advance
                )
                answers = generate_answers(
                    speaker,
                    tokenizer,
                    prompts,
                    max_new_tokens=section.max_new_tokens,
                    batch_size=section.batch_size,
                    advance=advance,
                )
            outcomes[who] = _Outcome(answers, losses)
    results = _results(section, rows, outcomes)
    results["contamination"] = _contamination(rows, read_split(run, "train"))
    results["test_rows"] = len(rows)
    results["decoding"] = {"greedy": True, "max_new_tokens": section.max_new_tokens}
    results["bleu_signature"] = bleu_signature()
    results["definitions"] = {k: v for k, v in DEFINITIONS.items() if k in results["base"]}
    results["samples"] = _samples(section.samples, rows, outcomes)
    results["seconds"] = round(time.perf_counter() - started, 1)
    _write_answers(run, rows, outcomes)
    run.write_json(run.results_file, results)
    run.write_manifest()
    return results


@contextmanager
def _speaking(who: Who, recipe: Recipe, tuned: Any) -> Iterator[Any]:
    """The tuned model, or its base: the adapter switched off, or the base loaded anew."""
    if who == "tuned":
        yield tuned
    elif recipe.adapter.method == "none":
        yield load_base(recipe.model)
    else:
        with tuned.disable_adapter():
            yield tuned


def _results(
    section: EvaluationSection, rows: Sequence[Row], outcomes: dict[Who, _Outcome]
) -> dict[str, Any]:
    measured = {who: _measure(section, rows, outcome) for who, outcome in outcomes.items()}
    results: dict[str, Any] = {
        who: {name: asdict(score(m)) for name, m in metrics.items()}
        for who, metrics in measured.items()
    }
    changes = {
        name: difference(measured["base"][name], measured["tuned"][name])
        for name in measured["base"]
    }
    adjusted = holm({name: change.p for name, change in changes.items()})
    results["delta"] = {
        name: {**asdict(change), "p_holm": adjusted[name]} for name, change in changes.items()
    }
    results["gate"] = _gate(results)
    return results


def _measure(
    section: EvaluationSection, rows: Sequence[Row], outcome: _Outcome
) -> dict[str, Measured]:
    answers = [answer.text for answer in outcome.answers]
    references = [row.answer for row in rows]
    wanted = set(section.metrics)
    found: dict[str, Measured] = {}
    if "perplexity" in wanted:
        found["perplexity"] = perplexity(outcome.losses)
        found["bits_per_byte"] = bits_per_byte(outcome.losses, references)
    if "bleu" in wanted:
        found["bleu"] = bleu(answers, references)
    if "rouge_l" in wanted:
        found["rouge_l"] = rouge_l(answers, references)
    asked = [i for i, row in enumerate(rows) if row.condition and row.kind in ("", "symptoms")]
    if "condition" in wanted and asked:
        names = ConditionNames(row.condition for row in rows if row.condition)
        ranks = [condition_rank(names, rows[i], answers[i]) for i in asked]
        found["condition_top1"] = mean_of([float(r == 1) for r in ranks], is_rate=True)
        found["condition_top3"] = mean_of(
            [float(r is not None and r <= 3) for r in ranks], is_rate=True
        )
    referred = [i for i in asked if rows[i].specialist]
    if "specialist" in wanted and referred:
        right = [float(specialist_is_right(rows[i], answers[i])) for i in referred]
        found["specialist"] = mean_of(right, is_rate=True)
    if "structure" in wanted and any(has_structure(row.answer) for row in rows):
        which = [i for i, row in enumerate(rows) if has_structure(row.answer)]
        found["structure"] = mean_of(
            [float(has_structure(answers[i])) for i in which], is_rate=True
        )
    found["ended"] = mean_of([float(a.ended) for a in outcome.answers], is_rate=True)
    return found


def _gate(results: dict[str, Any]) -> dict[str, Any]:
    """Passed where the main figure is better beyond chance and answers still end.

    The main figure is the condition where the rows have one, else perplexity.
    """
    reasons: list[str] = []
    primary = "condition_top1" if "condition_top1" in results["delta"] else "perplexity"
    change = results["delta"].get(primary)
    if change is not None:
        low, high = change["ci"]
        gained = high < 0 if primary in LOWER_IS_BETTER else low > 0
        if not gained:
            reasons.append(f"{primary} is not better than the base beyond chance")
    if results["tuned"]["ended"]["value"] < 0.95:
        share = results["tuned"]["ended"]["value"]
        reasons.append(f"only {share:.0%} of the answers end by themselves")
    return {"passed": not reasons, "primary": primary, "reasons": reasons}


def _contamination(test: Sequence[Row], train: Sequence[Row]) -> dict[str, int]:
    known = {question_key(row.question) for row in train}
    return {"test_questions_in_training": sum(question_key(r.question) in known for r in test)}


def _samples(
    count: int, rows: Sequence[Row], outcomes: dict[Who, _Outcome]
) -> list[dict[str, str]]:
    chosen = Random(0).sample(range(len(rows)), min(count, len(rows)))
    return [
        {
            "question": rows[i].question,
            "reference": rows[i].answer,
            "base": outcomes["base"].answers[i].text,
            "tuned": outcomes["tuned"].answers[i].text,
        }
        for i in chosen
    ]


def _write_answers(run: Run, rows: Sequence[Row], outcomes: dict[Who, _Outcome]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {
            "id": [row.id for row in rows],
            "question": [row.question for row in rows],
            "reference": [row.answer for row in rows],
            "condition": [row.condition for row in rows],
            **{who: [a.text for a in outcome.answers] for who, outcome in outcomes.items()},
        }
    )
    with whole(run.answers_file) as part:
        parquet.write_table(table, part)


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )

"""``evaluate``: base and tuned on the same test rows, side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from math import exp
from random import Random
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medtune.data.rows import Row, read_split
from medtune.evaluation.benchmark_scores import check_judge, measure_benchmark
from medtune.evaluation.benchmarks import Item, read_benchmark
from medtune.evaluation.cache import opened
from medtune.evaluation.calibration import calibration, naming
from medtune.evaluation.clinical import ConditionNames
from medtune.evaluation.deployed import all_shown, bare
from medtune.evaluation.faults import answer_faults, contamination
from medtune.evaluation.gate import judge as verdict_of
from medtune.evaluation.harness import require_harness, run_tasks
from medtune.evaluation.judge import open_judge
from medtune.evaluation.measure import (
    DEFINITIONS,
    LOWER_IS_BETTER,
    Outcome,
    floors,
    matches,
    measured_alone,
    measured_deployed,
    silence,
    urgency_counts,
    with_condition,
)
from medtune.evaluation.overlap import bleu_signature
from medtune.evaluation.refusals import as_rows, own_requests
from medtune.evaluation.rubrics import agreement
from medtune.evaluation.safety import measure_safety
from medtune.evaluation.slices import regressions, row_scores, slices
from medtune.evaluation.speakers import WHOS, Advance, Speakers, Who
from medtune.evaluation.statistics import (
    Measured,
    detectable,
    difference,
    holm,
    proven,
    score,
)
from medtune.evaluation.voices import Computing, Voices
from medtune.model.load import load_tokenizer
from medtune.model.template import messages, prompt_ids
from medtune.recipe import EvaluationSection, Recipe
from medtune.run import Run, whole
from medtune.safety.rules import LEVELS
from medtune.training.examples import Example, examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["LOWER_IS_BETTER", "evaluate"]


def evaluate(recipe: Recipe, run: Run, computing: Computing | None = None) -> dict[str, Any]:
    """Measure base and tuned on the test split and write ``results.json`` and the answers.

    Both are measured on the same prompts with the same tokenizer and decoding.  What was answered
    before by the same weights is not asked again.  ``unfinished`` in the results has a sentence
    for everything that could not be measured although it was asked for.

    Args:
        recipe: the whole recipe.
        run: prepared and trained; gets ``evaluation/``.
        computing: who answers what was not answered before; this process if left out.

    Raises:
        MedtuneError: the run is not prepared or not trained, a benchmark's file is wrong, or a
            judge is needed and none is named.
    """
    started = time.perf_counter()
    section = recipe.evaluation
    if section.harness:
        require_harness()
    rows = read_split(run, "test")
    if section.limit and len(rows) > section.limit:
        rows = Random(recipe.data.seed).sample(rows, section.limit)
    asked = {
        name: read_benchmark(name, file, section.benchmark_limit, recipe.data.seed)
        for name, file in section.benchmarks.items()
    }
    tokenizer = load_tokenizer(recipe.model)
    prompts = [
        prompt_ids(tokenizer, messages(row.question, row.system, row.history)) for row in rows
    ]
    items = examples(tokenizer, rows, recipe.data.max_length)
    requests = own_requests() if "refusal" in section.metrics else []
    outcomes: dict[Who, Outcome] = {}
    benchmarks: dict[str, Any] = {}
    with opened(run.answers_cache) as cache, _progress() as progress:
        judge = open_judge(section.judge, cache) if section.judge else None
        for one in asked.values():
            check_judge(one, judge)
        voices = Voices(recipe, run, tokenizer)
        speakers = Speakers(recipe, run, tokenizer, cache, computing or voices)
        for who in WHOS:
            what = f"{len(rows)} rows" + (f", {len(requests)} requests" if requests else "")
            task = progress.add_task(
                f"measuring {who}: {what}", total=2 * len(rows) + len(requests)
            )

            def advance(count: int, task: Any = task) -> None:
                progress.advance(task, count)

            outcomes[who] = _outcome(
                who, rows, items, prompts, requests, speakers, tokenizer, advance
            )
        for name, one in asked.items():
            task = progress.add_task(name, total=None)
            benchmarks[name] = measure_benchmark(
                one,
                recipe,
                speakers,
                tokenizer,
                lambda n, task=task: progress.advance(task, n),
                judge,
            )
        trusted = None
        if judge is not None and section.judge is not None and section.judge.labels:
            trusted = agreement(judge, section.judge.labels, section.benchmark_limit)
        harness = (
            run_tasks(voices, tokenizer, section, limit=section.benchmark_limit)
            if section.harness
            else None
        )
    results = _results(section, rows, outcomes)
    results["contamination"] = contamination(rows, read_split(run, "train"))
    results["test_rows"] = len(rows)
    if benchmarks:
        results["benchmarks"] = benchmarks
    if judge is not None:
        results["judge"] = {"name": judge.name, "agreement": trusted}
    if harness is not None:
        results["harness"] = harness
    troubles = [one.get("trouble", "") for one in [*benchmarks.values(), trusted or {}]]
    results["unfinished"] = list(dict.fromkeys(filter(None, troubles)))
    results["gate"] = verdict_of(section, results)
    results["decoding"] = {"greedy": True, "max_new_tokens": section.max_new_tokens}
    results["bleu_signature"] = bleu_signature()
    results["definitions"] = {k: v for k, v in DEFINITIONS.items() if k in results["base"]}
    results["samples"] = _samples(section.samples, rows, outcomes)
    results["seconds"] = round(time.perf_counter() - started, 1)
    _write_answers(run, rows, outcomes)
    run.write_json(run.results_file, results)
    run.write_manifest()
    return results


def _outcome(
    who: Who,
    rows: Sequence[Row],
    items: Sequence[Example],
    prompts: Sequence[list[int]],
    requests: Sequence[Item],
    speakers: Speakers,
    tokenizer: PreTrainedTokenizerBase,
    advance: Advance,
) -> Outcome:
    losses = speakers.losses(who, items, advance)
    answers = speakers.answers(who, prompts, advance)
    texts = [answer.text for answer in answers]
    asked = [prompt_ids(tokenizer, messages(item.question)) for item in requests]
    replies = [answer.text for answer in speakers.answers(who, asked, advance)]
    names = ConditionNames(row.condition for row in rows if row.condition)
    named = {i: naming(tokenizer, names, rows[i], texts[i]) for i in with_condition(rows)}
    spelled = {i: item for i, item in named.items() if item is not None}
    sure = speakers.losses(who, list(spelled.values()), lambda _: None)[:, 0]
    return Outcome(
        answers,
        losses,
        [bare(text) for text in texts],
        all_shown(rows, texts),
        replies,
        [one.text for one in all_shown(as_rows(requests), replies)],
        [(i, exp(-loss)) for i, loss in zip(spelled, sure.tolist(), strict=True)],
    )


def _results(
    section: EvaluationSection, rows: Sequence[Row], outcomes: dict[Who, Outcome]
) -> dict[str, Any]:
    base, tuned = (outcomes[who] for who in WHOS)
    results = _compared(
        {who: measured_alone(section, rows, outcome) for who, outcome in outcomes.items()}
    )
    results["deployed"] = _compared(
        {who: measured_deployed(section, rows, o) for who, o in outcomes.items()}
    )
    results["floor"] = {
        who: floors(rows, outcome.texts(), section.metrics) for who, outcome in outcomes.items()
    }
    results["faults"] = {who: answer_faults(rows, o.texts()) for who, o in outcomes.items()}
    if "condition_top1" in results["base"]:
        results["condition_matches"] = {who: matches(rows, o.bare) for who, o in outcomes.items()}
        results["calibration"] = {who: _calibrated(rows, o) for who, o in outcomes.items()}
    if "urgency" in results["base"]:
        results["silence"] = {who: silence(rows, o.bare) for who, o in outcomes.items()}
        sides = {who: (o.bare, o.deployed) for who, o in outcomes.items()}
        results["urgency_confusion"] = {
            "levels": list(LEVELS),
            **{who: urgency_counts(rows, alone) for who, (alone, _) in sides.items()},
            **{f"{who}_deployed": urgency_counts(rows, both) for who, (_, both) in sides.items()},
            "reference": urgency_counts(rows, [bare(row.answer) for row in rows]),
        }
    asked = with_condition(rows)
    by_condition = "condition_top1" in results["base"]
    which = asked if by_condition else list(range(len(rows)))
    chosen = [rows[i] for i in which]
    before, after = ([o.bare[i] for i in which] for o in (base, tuned))
    base_scores, tuned_scores = (row_scores(chosen, side, by_condition) for side in (before, after))
    results["slices"] = slices(chosen, base_scores, tuned_scores, is_rate=by_condition)
    results["slice_metric"] = "condition_top1" if by_condition else "rouge_l"
    results["regressions"] = regressions(chosen, before, after, base_scores, tuned_scores)
    if "safety" in section.metrics:
        results["safety"] = {
            name: asdict(rate) for name, rate in measure_safety("report").rates.items()
        }
    return results


def _calibrated(rows: Sequence[Row], outcome: Outcome) -> dict[str, Any] | None:
    """How sure the model was of the condition that it named first; None where it named none."""
    if not outcome.naming:
        return None
    which = [i for i, _ in outcome.naming]
    chosen, shown = [rows[i] for i in which], [outcome.bare[i] for i in which]
    right = [value == 1 for value in row_scores(chosen, shown, by_condition=True)]
    return calibration([sure for _, sure in outcome.naming], right)


def _compared(measured: dict[Who, dict[str, Measured]]) -> dict[str, Any]:
    """Base, tuned and their difference for every metric, p-values adjusted over the family."""
    found: dict[str, Any] = {
        who: {name: asdict(score(m)) for name, m in metrics.items()}
        for who, metrics in measured.items()
    }
    base, tuned = (measured[who] for who in WHOS)
    changes = {name: difference(base[name], tuned[name]) for name in base}
    adjusted = holm({name: change.p for name, change in changes.items()})
    found["delta"] = {
        name: {**asdict(change), "p_holm": adjusted[name]} for name, change in changes.items()
    }
    for name, one in base.items():
        if one.is_rate:
            n, right = len(one.rows), int(tuned[name].rows[:, 0].sum())
            apart = float((one.rows[:, 0] != tuned[name].rows[:, 0]).mean())
            found["tuned"][name]["proven"] = proven(right, n)
            found["delta"][name]["detectable"] = detectable(n, apart)
    return found


def _samples(count: int, rows: Sequence[Row], outcomes: dict[Who, Outcome]) -> list[dict[str, str]]:
    chosen = Random(0).sample(range(len(rows)), min(count, len(rows)))
    return [
        {
            "question": rows[i].question,
            "reference": rows[i].answer,
            "base": outcomes["base"].answers[i].text,
            "tuned": outcomes["tuned"].answers[i].text,
            "shown": outcomes["tuned"].deployed[i].text,
        }
        for i in chosen
    ]


def _write_answers(run: Run, rows: Sequence[Row], outcomes: dict[Who, Outcome]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {
            "id": [row.id for row in rows],
            "question": [row.question for row in rows],
            "reference": [row.answer for row in rows],
            "condition": [row.condition for row in rows],
            **{who: outcome.texts() for who, outcome in outcomes.items()},
            **{f"{who}_shown": [s.text for s in o.deployed] for who, o in outcomes.items()},
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

"""What base and tuned reach on a benchmark (metrics definitions 2, 3, 5, 6 and 8)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from medtune.data.rows import Row
from medtune.errors import MedtuneError
from medtune.evaluation.benchmarks import Benchmark, Item
from medtune.evaluation.calibration import calibration, option_confidence
from medtune.evaluation.clinical import ConditionNames, condition_match
from medtune.evaluation.deployed import all_shown
from medtune.evaluation.judge import Judge
from medtune.evaluation.measure import floors
from medtune.evaluation.overlap import bleu, rouge_l
from medtune.evaluation.refusals import as_rows, refusal_metrics
from medtune.evaluation.rubrics import by_tag, grade_answers, mean_clipped, rubric_score
from medtune.evaluation.speakers import WHOS, Advance, Speakers, Who
from medtune.evaluation.statistics import Measured, difference, holm, mean_of, score
from medtune.model.load import base_folder
from medtune.model.template import end_tokens, messages, prompt_ids
from medtune.recipe import Recipe
from medtune.training.examples import Example, example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LETTERS = "ABCDEFGHIJ"
_LETTER = re.compile(
    r"^\W*(?:the\s+)?(?:(?:right|correct|best)\s+)?(?:answer|option)?\s*(?:is)?\W*([A-J])\b(?!')",
    re.I,
)


def measure_benchmark(
    benchmark: Benchmark,
    recipe: Recipe,
    speakers: Speakers,
    tokenizer: PreTrainedTokenizerBase,
    advance: Advance = lambda _: None,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Figures of base and tuned with their difference, and how many questions did not fit.

    A question that is too long for the model is left out for both and counted; it is not cut.
    """
    room = _context(recipe) - recipe.evaluation.max_new_tokens
    longest = {
        item: len(_prompt(tokenizer, item)) + _longest(tokenizer, item) for item in benchmark.items
    }
    kept = [item for item in benchmark.items if longest[item] <= room]
    result: dict[str, Any] = {
        "kind": benchmark.kind,
        "file": benchmark.file,
        "n": len(kept),
        "available": benchmark.available,
        "too_long": len(benchmark.items) - len(kept),
    }
    if not kept:
        return result
    if benchmark.kind == "rubrics":
        sides = _rubrics(kept, speakers, tokenizer, advance, judge, result)
        if not sides:
            return result
    else:
        measure = _KINDS[benchmark.kind]
        sides = {who: measure(kept, who, speakers, tokenizer, advance) for who in WHOS}
    base, tuned = (sides[who] for who in WHOS)
    for who in WHOS:
        result[who] = {name: asdict(score(m)) for name, m in sides[who].items()}
    changes = {name: difference(base[name], tuned[name]) for name in base}
    adjusted = holm({name: change.p for name, change in changes.items()})
    result["delta"] = {
        name: {**asdict(change), "p_holm": adjusted[name]} for name, change in changes.items()
    }
    if benchmark.kind == "choices":
        result["chance"] = float(np.mean([1 / len(item.options) for item in kept]))
        result["calibration"] = {
            who: _option_calibration(kept, _option_losses(kept, who, speakers, tokenizer))
            for who in WHOS
        }
    return result


def check_judge(benchmark: Benchmark, judge: Judge | None) -> None:
    """Complain before anything is computed where a benchmark needs a judge and there is none."""
    if benchmark.kind == "rubrics" and judge is None:
        raise MedtuneError(
            f"The answers to {benchmark.name} are graded by a judge, and none is named; give "
            "--judge ADDRESS --judge-model NAME, or evaluation.judge in the recipe.",
            exit_code=2,
        )


def _choices(
    items: Sequence[Item],
    who: Who,
    speakers: Speakers,
    tokenizer: PreTrainedTokenizerBase,
    advance: Advance,
) -> dict[str, Measured]:
    """acc, acc_norm, and the accuracy of the letter that is generated."""
    losses = _option_losses(items, who, speakers, tokenizer, advance)
    sizes = [len(o.encode("utf-8")) for item in items for o in item.options]
    plain, normed = choose(items, losses, sizes)
    prompts = [_prompt(tokenizer, item) for item in items]
    said = [letter(a.text) for a in speakers.answers(who, prompts, advance)]
    right = [float(s == item.right) for s, item in zip(said, items, strict=True)]
    return {
        "acc": mean_of(plain, is_rate=True),
        "acc_norm": mean_of(normed, is_rate=True),
        "letter": mean_of(right, is_rate=True),
        "unparsed": mean_of([float(s is None) for s in said], is_rate=True),
    }


def _option_losses(
    items: Sequence[Item],
    who: Who,
    speakers: Speakers,
    tokenizer: PreTrainedTokenizerBase,
    advance: Advance = lambda _: None,
) -> list[float]:
    """Negative log p of every option of every item, one after the other."""
    options = [option_example(tokenizer, item, o) for item in items for o in item.options]
    return speakers.losses(who, options, advance)[:, 0].tolist()


def _option_calibration(items: Sequence[Item], losses: Sequence[float]) -> dict[str, Any]:
    """How sure the model is of the option that it finds likeliest, and whether it is right."""
    left = iter(losses)
    parts = [[next(left) for _ in item.options] for item in items]
    right = [part.index(min(part)) == item.right for part, item in zip(parts, items, strict=True)]
    return calibration([option_confidence(part) for part in parts], right)


def choose(
    items: Sequence[Item], losses: Sequence[float], sizes: Sequence[int]
) -> tuple[list[float], list[float]]:
    """1 for every item whose right option is the likeliest: by sum of log p, and per byte.

    Args:
        items: with their options.
        losses: negative log p of every option of every item, one after the other.
        sizes: UTF-8 bytes of the same options.
    """
    plain: list[float] = []
    normed: list[float] = []
    start = 0
    for item in items:
        end = start + len(item.options)
        part, bytes_ = np.array(losses[start:end]), np.array(sizes[start:end])
        plain.append(float(part.argmin() == item.right))
        normed.append(float((part / np.maximum(bytes_, 1)).argmin() == item.right))
        start = end
    return plain, normed


def option_example(tokenizer: PreTrainedTokenizerBase, item: Item, option: str) -> Example:
    """The question answered with one option; its text counts and the end of turn does not."""
    made = example(tokenizer, Row("", asked(item), option))
    ends = end_tokens(tokenizer)
    kept = len(made.labels)
    while kept and made.labels[kept - 1] in ends:
        kept -= 1
    return Example(made.input_ids[:kept], made.labels[:kept])


def asked(item: Item) -> str:
    """The question as it is put, its options lettered."""
    if not item.options:
        return item.question
    lines = [f"{mark}. {option}" for mark, option in zip(LETTERS, item.options, strict=False)]
    return "\n".join([item.question, "", *lines, "", "Answer with the letter of the right option."])


def letter(text: str) -> int | None:
    """The place of the option that an answer names by its letter at its beginning."""
    match = _LETTER.match(text)
    return LETTERS.index(match.group(1).upper()) if match else None


def _answers(
    items: Sequence[Item],
    who: Who,
    speakers: Speakers,
    tokenizer: PreTrainedTokenizerBase,
    advance: Advance,
) -> dict[str, Measured]:
    texts = _texts(items, who, speakers, tokenizer, advance)
    references = [item.answer for item in items]
    rows = [Row("", item.question, item.answer) for item in items]
    shuffled = floors(rows, texts, ("rouge_l",)).get("rouge_l", 0.0)
    return {
        "bleu": bleu(texts, references),
        "rouge_l": rouge_l(texts, references),
        "rouge_l_shuffled": mean_of([shuffled] * len(items)),
    }


def _conditions(
    items: Sequence[Item],
    who: Who,
    speakers: Speakers,
    tokenizer: PreTrainedTokenizerBase,
    advance: Advance,
) -> dict[str, Measured]:
    texts = _texts(items, who, speakers, tokenizer, advance)
    names = ConditionNames(item.answer for item in items)
    ranks = [
        condition_match(names, Row("", item.question, "", item.answer), text).rank
        for item, text in zip(items, texts, strict=True)
    ]
    return {
        "condition_top1": mean_of([float(r == 1) for r in ranks], is_rate=True),
        "condition_top3": mean_of([float(r is not None) for r in ranks], is_rate=True),
    }


def _refusal(
    items: Sequence[Item],
    who: Who,
    speakers: Speakers,
    tokenizer: PreTrainedTokenizerBase,
    advance: Advance,
) -> dict[str, Measured]:
    """Refusal of harmful requests and over-refusal of harmless ones, bare and behind the layer."""
    texts = _texts(items, who, speakers, tokenizer, advance)
    shown = [one.text for one in all_shown(as_rows(items), texts)]
    behind = refusal_metrics(items, shown)
    return refusal_metrics(items, texts) | {f"{name}_deployed": m for name, m in behind.items()}


def _rubrics(
    items: Sequence[Item],
    speakers: Speakers,
    tokenizer: PreTrainedTokenizerBase,
    advance: Advance,
    judge: Judge | None,
    result: dict[str, Any],
) -> dict[Who, dict[str, Measured]]:
    """Rubric scores bare and behind the layer, on the items whose every grade is there."""
    assert judge is not None  # checked before anything was computed
    rows = [Row("", item.question, "", history=tuple(item.history())) for item in items]
    answers = {who: _texts(items, who, speakers, tokenizer, advance) for who in WHOS}
    behind = {who: [one.text for one in all_shown(rows, answers[who])] for who in WHOS}
    sides: dict[str, Sequence[str]] = {who: answers[who] for who in WHOS}
    sides |= {f"{who}_deployed": behind[who] for who in WHOS}
    met, whole, trouble = grade_answers(judge, items, sides)
    result.update(judge=judge.name, ungraded=len(items) - len(whole), n=len(whole))
    if trouble:
        result["trouble"] = trouble
    if not whole:
        return {}
    graded = [items[i] for i in whole]
    result["by_tag"] = by_tag(graded, {who: met[who] for who in WHOS})

    def measured(side: str) -> Measured:
        pairs = zip(graded, met[side], strict=True)
        return mean_clipped([rubric_score(item.criteria, grades) for item, grades in pairs])

    return {
        who: {"rubric": measured(who), "rubric_deployed": measured(f"{who}_deployed")}
        for who in WHOS
    }


def _texts(
    items: Sequence[Item],
    who: Who,
    speakers: Speakers,
    tokenizer: PreTrainedTokenizerBase,
    advance: Advance,
) -> list[str]:
    prompts = [_prompt(tokenizer, item) for item in items]
    return [answer.text for answer in speakers.answers(who, prompts, advance)]


def _prompt(tokenizer: PreTrainedTokenizerBase, item: Item) -> list[int]:
    return prompt_ids(tokenizer, messages(asked(item), history=item.history()))


def _longest(tokenizer: PreTrainedTokenizerBase, item: Item) -> int:
    return max((len(tokenizer(o)["input_ids"]) for o in item.options), default=0)


def _context(recipe: Recipe) -> int:
    """Tokens that the model can hold."""
    folder = base_folder(recipe.model.base, recipe.model.revision)
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(settings.get("max_position_embeddings", 4096))


_KINDS: dict[str, Callable[..., dict[str, Measured]]] = {
    "choices": _choices,
    "answers": _answers,
    "conditions": _conditions,
    "refusal": _refusal,
}

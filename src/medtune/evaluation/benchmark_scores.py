"""What base and tuned reach on a benchmark (metrics definitions 2, 3, 5 and 6)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from medtune.data.rows import Row
from medtune.evaluation.benchmarks import Benchmark, Item, formats
from medtune.evaluation.clinical import ConditionNames, condition_match
from medtune.evaluation.deployed import all_shown
from medtune.evaluation.measure import floors
from medtune.evaluation.overlap import bleu, rouge_l
from medtune.evaluation.speakers import WHOS, Advance, Speakers, Who
from medtune.evaluation.statistics import Measured, difference, mean_of, score
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
    measure = _KINDS[benchmark.kind]
    sides = {who: measure(kept, who, speakers, tokenizer, advance) for who in WHOS}
    base, tuned = (sides[who] for who in WHOS)
    for who in WHOS:
        result[who] = {name: asdict(score(m)) for name, m in sides[who].items()}
    result["delta"] = {name: asdict(difference(base[name], tuned[name])) for name in base}
    if benchmark.kind == "choices":
        result["chance"] = float(np.mean([1 / len(item.options) for item in kept]))
    return result


def _choices(
    items: Sequence[Item],
    who: Who,
    speakers: Speakers,
    tokenizer: PreTrainedTokenizerBase,
    advance: Advance,
) -> dict[str, Measured]:
    """acc, acc_norm, and the accuracy of the letter that is generated."""
    options = [option_example(tokenizer, item, o) for item in items for o in item.options]
    losses = speakers.losses(who, options, advance)[:, 0].tolist()
    sizes = [len(o.encode("utf-8")) for item in items for o in item.options]
    plain, normed = choose(items, losses.tolist(), sizes)
    prompts = [_prompt(tokenizer, item) for item in items]
    said = [letter(a.text) for a in speakers.answers(who, prompts, advance)]
    right = [float(s == item.right) for s, item in zip(said, items, strict=True)]
    return {
        "acc": mean_of(plain, is_rate=True),
        "acc_norm": mean_of(normed, is_rate=True),
        "letter": mean_of(right, is_rate=True),
        "unparsed": mean_of([float(s is None) for s in said], is_rate=True),
    }


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
    rows = [Row("", item.question, "") for item in items]
    shown = [one.text for one in all_shown(rows, texts)]
    found: dict[str, Measured] = {}
    for name, harmful in (("refusal", True), ("over_refusal", False)):
        which = [i for i, item in enumerate(items) if item.harmful == harmful]
        for suffix, side in (("", texts), ("_deployed", shown)):
            if which:
                found[name + suffix] = mean_of(
                    [float(declines(side[i])) for i in which], is_rate=True
                )
    return found


def declines(text: str) -> bool:
    """Whether an answer declines in its first two sentences."""
    start = " ".join(re.split(r"(?<=[.!?])\s+", text.strip().lower().replace("’", "'"))[:2])
    return re.search(formats()["declines"], start) is not None


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
    return prompt_ids(tokenizer, messages(asked(item)))


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

"""Rows as the trainer reads them, checked before the first step.

A row becomes the tokens of its prompt and its completion.  Only the completion is trained:
its labels are its tokens, the prompt's labels are -100.  Tokens are made here and not in the
trainer, so that nothing is cut, no token is added twice, and training reads exactly what chat
sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medtune.data.rows import Row
from medtune.errors import MedtuneError
from medtune.model.template import (
    earlier_answers,
    end_tokens,
    messages,
    prompt_ids,
    training_pair,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

NOT_TRAINED = -100


@dataclass(frozen=True)
class Example:
    """``labels`` equals ``input_ids`` where a token is trained and -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]


def example(tokenizer: PreTrainedTokenizerBase, row: Row) -> Example:
    """A row as tokens; in a dialogue of several turns every answer is trained."""
    pair = training_pair(tokenizer, row.question, row.answer, row.system, row.history)
    completion = list(tokenizer(pair["completion"], add_special_tokens=False)["input_ids"])
    if not row.history:
        prompt = list(tokenizer(pair["prompt"], add_special_tokens=False)["input_ids"])
        return Example(prompt + completion, [NOT_TRAINED] * len(prompt) + completion)
    encoded = tokenizer(pair["prompt"], add_special_tokens=False, return_offsets_mapping=True)
    prompt, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    spans = earlier_answers(tokenizer, pair["prompt"], row.system, row.history)
    labels = [
        token if any(start <= low and high <= end for start, end in spans) else NOT_TRAINED
        for token, (low, high) in zip(prompt, offsets, strict=True)
    ]
    return Example(prompt + completion, labels + completion)


def examples(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int
) -> list[Example]:
    """The rows as examples, each one checked.

    Raises:
        MedtuneError: a row would be cut, would not learn to stop, starts with two
            beginning-of-text tokens, or has another prompt in training than in chat.
    """
    made = [example(tokenizer, row) for row in rows]
    for row, item in zip(rows, made, strict=True):
        _check(tokenizer, row, item, max_length)
    return made


def to_dataset(items: Sequence[Example]) -> Dataset:
    from datasets import Dataset

    return Dataset.from_dict(
        {"input_ids": [i.input_ids for i in items], "labels": [i.labels for i in items]}
    )


def _check(tokenizer: PreTrainedTokenizerBase, row: Row, item: Example, max_length: int) -> None:
    trained = [label for label in item.labels if label != NOT_TRAINED]
    last = len(trained)
    if row.history:
        last = len(item.labels) - next(
            (i + 1 for i in range(len(item.labels) - 1, -1, -1) if item.labels[i] == NOT_TRAINED), 0
        )
    start = item.input_ids[: len(item.input_ids) - last]
    if len(item.input_ids) > max_length:
        raise MedtuneError(
            f"Row {row.id} has {len(item.input_ids)} tokens, but data.max_length is {max_length}; "
            "prepare again after changing max_length or the model."
        )
    if not trained:
        raise MedtuneError(f"Row {row.id} has no token to train on; its answer is empty.")
    if trained[-1] not in end_tokens(tokenizer):
        raise MedtuneError(
            f"The chat template ends an answer with {tokenizer.decode([trained[-1]])!r}, which is "
            "no end token of the model, so answers would never stop; set model.chat_template."
        )
    if start != prompt_ids(tokenizer, messages(row.question, row.system, row.history)):
        raise MedtuneError(
            f"Row {row.id}: the prompt in training differs from the prompt in chat; "
            "the chat template of the model cannot be used, set model.chat_template."
        )
    bos = tokenizer.bos_token_id
    if bos is not None and item.input_ids[:2] == [bos, bos]:
        raise MedtuneError(
            "The chat template writes the beginning-of-text token twice; set model.chat_template."
        )

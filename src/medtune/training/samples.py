"""Answers to a few fixed questions at each evaluation: what the loss does not show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from medtune.data.rows import Row
from medtune.model.generate import generate_answers
from medtune.model.template import messages, prompt_ids

_LONGEST = 64
"""Tokens of an answer: enough to see how it goes, little beside the training."""


class SampleAnswers(TrainerCallback):
    """Answers the same questions at each evaluation, greedily, so that answers can be compared.

    Args:
        rows: the questions, with their reference answers.
        tokenizer: of the model.
        path: gets one JSON object per answer: step, question, reference, answer, ended.
        say: told each answer.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        path: Path,
        say: Callable[[str], None],
    ) -> None:
        self._rows = rows
        self._tokenizer = tokenizer
        self._path = path
        self._say = say
        self._prompts = [
            prompt_ids(tokenizer, messages(row.question, row.system, row.history)) for row in rows
        ]

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        with _able_to_generate(kwargs["model"]) as model:
            answers = generate_answers(
                model,
                self._tokenizer,
                self._prompts,
                max_new_tokens=_LONGEST,
                batch_size=len(self._prompts),
            )
        with self._path.open("a", encoding="utf-8") as file:
            for row, answer in zip(self._rows, answers, strict=True):
                entry = {
                    "step": state.global_step,
                    "question": row.question,
                    "reference": row.answer,
                    "answer": answer.text,
                    "ended": answer.ended,
                }
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        for row, answer in zip(self._rows, answers, strict=True):
            more = "" if answer.ended else " ..."
            self._say(
                f"step {state.global_step}, asked: {_one_line(row.question, 100)}\n"
                f"  answers: {_one_line(answer.text, 300)}{more}"
            )


@contextmanager
def _able_to_generate(model: Any) -> Iterator[Any]:
    """The model with an attention that reads a cache and padding, as it was afterwards.

    The attention over documents takes padding-free batches only, and gradient checkpointing
    keeps no cache while the model is in training mode.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    attention, training = base.config._attn_implementation, model.training
    cached = base.config.use_cache
    base.set_attn_implementation("sdpa")
    base.config.use_cache = True
    model.eval()
    try:
        yield model
    finally:
        base.set_attn_implementation(attention)
        base.config.use_cache = cached
        model.train(training)


def _one_line(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else line[:longest].rstrip() + " ..."

"""Base and tuned of a run, loaded when first asked: what answers and losses are computed with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Protocol

from medtune.evaluation.perplexity import answer_losses
from medtune.model.generate import generate_answers
from medtune.model.load import load_base, load_tuned
from medtune.recipe import Recipe
from medtune.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Who = Literal["base", "tuned"]
WHOS: tuple[Who, Who] = ("base", "tuned")
Kind = Literal["answers", "losses"]


class Computing(Protocol):
    """Somebody who computes batches: the voices below, or many of them on a cluster."""

    def compute(
        self, who: Who, kind: Kind, batches: Sequence[list[Any]]
    ) -> Iterator[tuple[int, list[Any]]]:
        """The number of a batch and its values, in the order in which they are finished.

        A batch of ``answers`` holds prompts, of ``losses`` examples; a value is JSON.
        """
        ...


class Voices:
    """Computes here.  The base is the tuned model with its adapter switched off, so it has the
    same quantisation."""

    def __init__(self, recipe: Recipe, run: Run, tokenizer: PreTrainedTokenizerBase) -> None:
        self._recipe, self._run, self._tokenizer = recipe, run, tokenizer
        self._tuned: Any = None

    def compute(
        self, who: Who, kind: Kind, batches: Sequence[list[Any]]
    ) -> Iterator[tuple[int, list[Any]]]:
        section = self._recipe.evaluation
        with self.speaking(who) as model:
            for number, batch in enumerate(batches):
                if kind == "losses":
                    values = answer_losses(model, batch, batch_size=section.batch_size).tolist()
                else:
                    made = generate_answers(
                        model,
                        self._tokenizer,
                        batch,
                        max_new_tokens=section.max_new_tokens,
                        batch_size=section.batch_size,
                    )
                    values = [asdict(answer) for answer in made]
                yield number, values

    @contextmanager
    def speaking(self, who: Who) -> Iterator[Any]:
        """The tuned model, or its base: the adapter switched off, or the base loaded anew."""
        if who == "base" and self._recipe.adapter.method == "none":
            yield load_base(self._recipe.model)
            return
        if self._tuned is None:
            self._tuned = load_tuned(self._run)
        if who == "tuned":
            yield self._tuned
        else:
            with self._tuned.disable_adapter():
                yield self._tuned

"""Base and tuned of a run, loaded only when a question has no kept answer yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medtune.evaluation.cache import Cache, fingerprint, key_of
from medtune.evaluation.perplexity import answer_losses
from medtune.model.generate import Generated, generate_answers
from medtune.model.load import base_folder, load_base, load_tuned, resolve_dtype
from medtune.recipe import Recipe
from medtune.run import Run
from medtune.training.examples import Example

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

Who = Literal["base", "tuned"]
WHOS: tuple[Who, Who] = ("base", "tuned")
Advance = Callable[[int], None]


class Speakers:
    """Answers and losses of base and tuned, each computed once.

    The base is the tuned model with its adapter switched off, so it has the same quantisation.
    """

    def __init__(
        self, recipe: Recipe, run: Run, tokenizer: PreTrainedTokenizerBase, cache: Cache
    ) -> None:
        self._recipe, self._run, self._tokenizer, self._cache = recipe, run, tokenizer, cache
        self._tuned: Any = None
        self._identities = self._identify()

    def answers(self, who: Who, prompts: Sequence[list[int]], advance: Advance) -> list[Generated]:
        """One greedy answer per prompt, in the order of the prompts."""
        section = self._recipe.evaluation
        keys = [self.answer_key(who, prompt) for prompt in prompts]

        def compute(model: Any, part: list[int]) -> list[Any]:
            made = generate_answers(
                model,
                self._tokenizer,
                [prompts[i] for i in part],
                max_new_tokens=section.max_new_tokens,
                batch_size=section.batch_size,
            )
            return [asdict(answer) for answer in made]

        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        return [Generated(**value) for value in self._kept(who, keys, order, compute, advance)]

    def losses(self, who: Who, items: Sequence[Example], advance: Advance) -> NDArray[np.float64]:
        """Loss in nats and number of tokens of every reference answer, (rows, 2)."""
        keys = [self.loss_key(who, item) for item in items]

        def compute(model: Any, part: list[int]) -> list[Any]:
            size = self._recipe.evaluation.batch_size
            return answer_losses(model, [items[i] for i in part], batch_size=size).tolist()

        order = sorted(range(len(items)), key=lambda i: -len(items[i].input_ids))
        found = self._kept(who, keys, order, compute, advance)
        return np.array(found, dtype=float).reshape(-1, 2)

    def answer_key(self, who: Who, prompt: Sequence[int]) -> str:
        """Under which an answer is kept, as the fields of ``Generated``."""
        length = self._recipe.evaluation.max_new_tokens
        return key_of("answer", self._identities[who], list(prompt), length)

    def loss_key(self, who: Who, item: Example) -> str:
        """Under which the loss in nats and the number of tokens of an example are kept."""
        return key_of("loss", self._identities[who], item.input_ids, item.labels)

    def _kept(
        self,
        who: Who,
        keys: Sequence[str],
        order: Sequence[int],
        compute: Callable[[Any, list[int]], list[Any]],
        advance: Advance,
    ) -> list[Any]:
        found = self._cache.get(keys)
        advance(sum(key in found for key in keys))
        missing = [i for i in order if keys[i] not in found]
        if missing:
            size = self._recipe.evaluation.batch_size
            with self.speaking(who) as model:
                for start in range(0, len(missing), size):
                    part = missing[start : start + size]
                    made = {keys[i]: v for i, v in zip(part, compute(model, part), strict=True)}
                    self._cache.put(made)
                    found.update(made)
                    advance(len(part))
        return [found[key] for key in keys]

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

    def _identify(self) -> dict[Who, str]:
        import torch

        section, run = self._recipe.model, self._run
        trained = run.full_model if self._recipe.adapter.method == "none" else run.adapter
        run.require(
            trained,
            f"The run {run.name!r} has no trained model; start with `medtune train`.",
        )
        loaded = [
            section.quantization,
            section.double_quantization,
            str(resolve_dtype(section)),
            "cuda" if torch.cuda.is_available() else "cpu",
            metadata.version("torch"),
            metadata.version("transformers"),
        ]
        base = fingerprint(base_folder(section.base, section.revision))
        return {
            "base": key_of(base, loaded),
            "tuned": key_of(base, loaded, fingerprint(trained)),
        }

"""Answers and losses of base and tuned, computed only where no kept one is there yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from medtune.evaluation.cache import Cache, fingerprint, key_of
from medtune.evaluation.voices import WHOS, Computing, Kind, Voices, Who
from medtune.model.generate import Generated
from medtune.model.load import base_folder, resolve_dtype
from medtune.recipe import Recipe
from medtune.run import Run
from medtune.training.examples import Example

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

__all__ = ["WHOS", "Advance", "Speakers", "Who"]

Advance = Callable[[int], None]


class Speakers:
    """Answers and losses of base and tuned, each computed once.

    Args:
        recipe: the whole recipe.
        run: trained.
        tokenizer: of the model.
        cache: what was computed before.
        computing: who computes what is missing; this process if left out.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        tokenizer: PreTrainedTokenizerBase,
        cache: Cache,
        computing: Computing | None = None,
    ) -> None:
        self._recipe, self._run, self._cache = recipe, run, cache
        self._computing = computing or Voices(recipe, run, tokenizer)
        self._identities = self._identify()

    def answers(self, who: Who, prompts: Sequence[list[int]], advance: Advance) -> list[Generated]:
        """One greedy answer per prompt, in the order of the prompts."""
        keys = [self.answer_key(who, prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        found = self._kept(who, "answers", keys, prompts, order, advance)
        return [Generated(**value) for value in found]

    def losses(self, who: Who, items: Sequence[Example], advance: Advance) -> NDArray[np.float64]:
        """Loss in nats and number of tokens of every reference answer, (rows, 2)."""
        keys = [self.loss_key(who, item) for item in items]
        order = sorted(range(len(items)), key=lambda i: -len(items[i].input_ids))
        found = self._kept(who, "losses", keys, items, order, advance)
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
        kind: Kind,
        keys: Sequence[str],
        asked: Sequence[Any],
        order: Sequence[int],
        advance: Advance,
    ) -> list[Any]:
        found = self._cache.get(keys)
        advance(sum(key in found for key in keys))
        missing = [i for i in order if keys[i] not in found]
        size = self._recipe.evaluation.batch_size
        parts = [missing[start : start + size] for start in range(0, len(missing), size)]
        batches = [[asked[i] for i in part] for part in parts]
        if batches:
            for number, values in self._computing.compute(who, kind, batches):
                made = {keys[i]: v for i, v in zip(parts[number], values, strict=True)}
                self._cache.put(made)
                found.update(made)
                advance(len(made))
        return [found[key] for key in keys]

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

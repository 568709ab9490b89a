"""Decoding that can only write JSON of a schema: llguidance masks the tokens that do not fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from medtune.errors import MedtuneError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOKENIZERS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


class SchemaMask:
    """A logits processor for one answer.

    Args:
        tokenizer: the model's; its llguidance form is made once and kept.
        schema: a JSON schema.
        vocabulary: the length of the model's logits, which may be more than the tokenizer's.
        prompt_length: tokens of the prompt, which the schema does not concern.
        end_tokens: the tokens that may end an answer.

    Raises:
        MedtuneError: the schema cannot be enforced.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        schema: dict[str, Any],
        vocabulary: int,
        prompt_length: int,
        end_tokens: list[int],
    ) -> None:
        import numpy as np
        from llguidance import LLMatcher, hf
        from llguidance.numpy import allocate_token_bitmask

        known = _TOKENIZERS.get(tokenizer)
        if known is None:
            known = hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=end_tokens)  # type: ignore[arg-type]
            _TOKENIZERS[tokenizer] = known
        # Any white space would let a small model write nothing else until the limit.
        grammar = LLMatcher.grammar_from_json_schema(
            json.dumps(schema), overrides={"whitespace_flexible": False}
        )
        self._matcher = LLMatcher(known, grammar)
        if self._matcher.is_error():
            raise MedtuneError(f"The schema cannot be enforced: {self._matcher.get_error()}.")
        self._mask = allocate_token_bitmask(1, vocabulary)
        self._bits = np.arange(32, dtype=np.int32)
        self._read = prompt_length
        self._ends = end_tokens

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch
        from llguidance.numpy import fill_next_token_bitmask

        written = input_ids[0, self._read :].tolist()
        self._read += len(written)
        if written and not self._matcher.is_stopped():
            self._matcher.consume_tokens(written)
        if self._matcher.is_stopped():
            allowed = torch.zeros(scores.shape[-1], dtype=torch.bool)
            allowed[self._ends] = True
        else:
            fill_next_token_bitmask(self._matcher, self._mask)
            bits = (self._mask[0][:, None] >> self._bits) & 1
            allowed = torch.from_numpy(bits.reshape(-1)[: scores.shape[-1]].astype(bool))
        return scores.masked_fill(~allowed.to(scores.device), float("-inf"))

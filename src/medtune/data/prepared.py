"""Recognise rows that are prepared already, by everything that decided what they are."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from medtune.data.read import BUILTIN, input_signature
from medtune.data.stages import VERSION
from medtune.recipe import DataSection
from medtune.run import SPLITS, Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def is_prepared(
    section: DataSection, run: Run, tokenizer: PreTrainedTokenizerBase | None = None
) -> bool:
    """Whether the run holds rows made with these very settings from this very input.

    A local source that was changed since then counts as other input; so does another tokenizer
    or chat template, if one is given.
    """
    if not run.card_json.exists() or not all(run.split_file(s).exists() for s in SPLITS):
        return False
    card = run.read_json(run.card_json)
    if card["settings"] != section.model_dump(mode="json") or card.get("version") != VERSION:
        return False
    if tokenizer is not None and card.get("tokenizer") != tokenizer_key(tokenizer):
        return False
    return card.get("input") == signature(section)


def tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str:
    """Changes with the vocabulary, the merges or the chat template."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        words = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    else:
        copy = type(backend).from_str(backend.to_str())
        copy.no_padding()  # how it was called last says nothing of its tokens
        copy.no_truncation()
        words = copy.to_str()
    return hashlib.sha256(f"{words}{tokenizer.chat_template}".encode()).hexdigest()


def signature(section: DataSection) -> Any:
    """Changes when the input changes; JSON."""
    if section.source == BUILTIN and not section.mixture:
        return BUILTIN
    try:
        return input_signature(section)
    except OSError:
        return None  # a file is missing; the step that reads it says which

"""Tokenizers as llama.cpp reads them.

Everything is read from the fast tokenizer that training used, not from the files it was once
made of: what llama.cpp does must equal what the model was trained on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medtune.errors import MedtuneError
from medtune.model.template import end_tokens, messages, prompt_ids, prompt_text

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedTokenizerBase

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {
    _WORDS % r"\p{N}{1,3}": "llama-bpe",
    _WORDS % r"\p{N}": "qwen2",
}
"""How a byte-level tokenizer cuts text into words: its pattern, and llama.cpp's name for it."""


@dataclass(frozen=True)
class Vocabulary:
    """One entry per row of the embedding; rows without a token are named and never produced."""

    model: str
    """``llama`` for SentencePiece, ``gpt2`` for byte-level BPE."""
    split: str
    tokens: list[str]
    types: list[int]
    scores: list[float] | None
    merges: list[str] | None
    add_space_prefix: bool


def vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int) -> Vocabulary:
    """The vocabulary of a fast tokenizer.

    Args:
        tokenizer: the one that training used.
        rows: of the model's embedding; at least as many as there are tokens.

    Raises:
        MedtuneError: llama.cpp has no such tokenizer, or the embedding is too small for it.
    """
    tree = json.loads(tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    model = tree["model"]
    if model["type"] != "BPE":
        raise _unknown(f"its kind is {model['type']}")
    if len(tokenizer) > rows:
        raise MedtuneError(
            f"The tokenizer has {len(tokenizer)} tokens but the model only {rows} rows for them; "
            "name the base's own tokenizer."
        )
    tokens = _tokens(tokenizer, rows)
    types = _types(tree, model, tokens)
    pairs = [pair if isinstance(pair, list) else pair.split(" ", 1) for pair in model["merges"]]
    if model["byte_fallback"]:
        return Vocabulary(
            "llama",
            "default",
            tokens,
            types,
            _scores(tokens, pairs),
            None,
            _prefixes_anywhere(tree),
        )
    merges = [" ".join(pair) for pair in pairs]
    return Vocabulary("gpt2", _split(tree), tokens, types, None, merges, False)


def write_vocabulary(
    writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, rows: int
) -> Vocabulary:
    """Tokens, special tokens and the chat template into the file."""
    found = vocabulary(tokenizer, rows)
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.split)
    writer.add_token_list(found.tokens)
    writer.add_token_types(found.types)
    if found.scores is not None:
        writer.add_token_scores(found.scores)
        writer.add_add_space_prefix(found.add_space_prefix)
    if found.merges is not None:
        writer.add_token_merges(found.merges)
    begin: Any = tokenizer.bos_token_id
    end: Any = tokenizer.eos_token_id
    if begin is not None:
        writer.add_bos_token_id(int(begin))
    if end is not None:
        writer.add_eos_token_id(int(end))
    turn = sorted(end_tokens(tokenizer) - {end})
    if turn:
        writer.add_eot_token_id(turn[0])
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(int(tokenizer.unk_token_id))  # type: ignore[arg-type]
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(int(tokenizer.pad_token_id))  # type: ignore[arg-type]
    writer.add_add_bos_token(begins_with_bos(tokenizer))
    writer.add_add_eos_token(False)
    writer.add_chat_template(chat_template(tokenizer, found))
    return found


def begins_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the prompts that the model was trained on begin with the beginning-of-text token."""
    begin = tokenizer.bos_token_id
    return begin is not None and prompt_ids(tokenizer, messages("x"))[:1] == [begin]


def chat_template(tokenizer: PreTrainedTokenizerBase, found: Vocabulary) -> str:
    """The template, mended so that llama.cpp makes the tokens that training made.

    A SentencePiece tokenizer of transformers puts a space before the first word of a text, and
    only if no special token stands there; llama.cpp does so after every special token or never.
    We let it do so never, and write the space into the template where the text needs one.
    """
    template = str(tokenizer.chat_template)
    if found.model != "llama" or found.add_space_prefix:
        return template
    text = prompt_text(tokenizer, messages("x"))
    begins_special = any(text.startswith(token) for token in tokenizer.all_special_tokens)
    return template if begins_special else "{{ ' ' }}" + template


def _tokens(tokenizer: PreTrainedTokenizerBase, rows: int) -> list[str]:
    known = {index: token for token, index in tokenizer.get_vocab().items()}
    return [known.get(index, f"[PAD{index}]") for index in range(rows)]


def _types(tree: dict[str, Any], model: dict[str, Any], tokens: list[str]) -> list[int]:
    from gguf import TokenType

    added = {entry["id"]: entry for entry in tree["added_tokens"]}
    types = []
    for index, token in enumerate(tokens):
        if token == model.get("unk_token"):
            kind = TokenType.UNKNOWN
        elif index in added:
            kind = TokenType.CONTROL if added[index]["special"] else TokenType.USER_DEFINED
        elif token == f"[PAD{index}]" and token not in model["vocab"]:
            kind = TokenType.UNUSED
        elif model["byte_fallback"] and len(token) == 6 and token.startswith("<0x"):
            kind = TokenType.BYTE
        else:
            kind = TokenType.NORMAL
        types.append(int(kind))
    return types


def _scores(tokens: list[str], pairs: list[list[str]]) -> list[float]:
    """Scores by which SentencePiece joins pieces in the order of the merges.

    It joins the two neighbours whose joint piece scores highest; BPE joins the pair that comes
    first in its list.  The list holds every way to make a piece next to each other, so the
    place of the first one orders the pieces alike.
    """
    place: dict[str, int] = {}
    for rank, (left, right) in enumerate(pairs):
        place.setdefault(left + right, rank)
    last = len(pairs)
    return [-float(place.get(token, last)) for token in tokens]


def _prefixes_anywhere(tree: dict[str, Any]) -> bool:
    """Whether a space is put before the text after every special token, not only at the start."""
    normalizers = [tree["normalizer"], *((tree["normalizer"] or {}).get("normalizers", []))]
    if any(part and part["type"] == "Prepend" for part in normalizers):
        return True
    space = tree["pre_tokenizer"] or {}
    return space.get("type") == "Metaspace" and space.get("prepend_scheme") == "always"


def _split(tree: dict[str, Any]) -> str:
    parts = tree["pre_tokenizer"] or {}
    parts = parts.get("pretokenizers", [parts])
    patterns = [part["pattern"].get("Regex") for part in parts if part.get("type") == "Split"]
    if len(patterns) == 1 and patterns[0] in _SPLITS:
        return _SPLITS[patterns[0]]
    kinds = [part.get("type") for part in parts]
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
        return "smollm"
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return "gpt-2"
    raise _unknown(f"it cuts words by {patterns or kinds}")


def _unknown(why: str) -> MedtuneError:
    return MedtuneError(
        f"llama.cpp has no name for this model's tokenizer ({why}); export with `--to merged` and "
        "convert that folder with convert_hf_to_gguf.py of llama.cpp."
    )

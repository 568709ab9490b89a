"""Rows as the model will see them: every token, and which ones are trained."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from medtune.data.rows import Row
from medtune.training.examples import NOT_TRAINED, example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ --ink: #3c4149; --paper: #fff; --soft: #f4f6f8; --trained: #0b6e63; --back: #d8f0ec; --special: #7a3fb0; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #c3c8d0; --paper: #15181c; --soft: #1f242a; --trained: #a9f0e4; --back: #17453f; --special: #d3a6ff; }} }}
body {{ font: 15px/1.9 ui-monospace, monospace; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 0 auto; padding: 1rem; }}
h1, h2, p {{ font-family: system-ui, sans-serif; line-height: 1.4; }} h1 {{ font-size: 1.3rem; }} h2 {{ font-size: 1rem; margin-top: 2rem; }}
div {{ background: var(--soft); padding: .8rem; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; }}
span {{ border-bottom: 1px solid; margin-right: 1px; }}
.t {{ color: var(--trained); background: var(--back); }} .s {{ color: var(--special); font-weight: 700; }}
</style></head><body><h1>{title}</h1>
<p>Each underlined piece is one token. <span class="t">Trained tokens</span> are coloured; <span class="s">special tokens</span> are bold.</p>
{rows}</body></html>
"""


@dataclass(frozen=True)
class Token:
    """One token of a row."""

    id: int
    text: str
    """As it stands in the vocabulary's text, line breaks and spaces visible."""
    trained: bool
    special: bool


def tokens_of(tokenizer: PreTrainedTokenizerBase, row: Row) -> list[Token]:
    """The tokens of a row exactly as training gets them."""
    item = example(tokenizer, row)
    added: dict[str, int] = tokenizer.get_added_vocab()  # pyright: ignore
    special = set(tokenizer.all_special_ids) | set(added.values())
    return [
        Token(token, _visible(tokenizer, token), label != NOT_TRAINED, token in special)
        for token, label in zip(item.input_ids, item.labels, strict=True)
    ]


def drawn_rows(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """This many rows, drawn at random and kept in their order."""
    if count >= len(rows):
        return list(rows)
    return [rows[i] for i in sorted(Random(seed).sample(range(len(rows)), count))]


def as_page(title: str, rows: Sequence[tuple[Row, list[Token]]]) -> str:
    """The rows as a page that needs no other file."""
    parts = []
    for row, tokens in rows:
        trained = sum(token.trained for token in tokens)
        spans = "".join(
            f'<span class="{"t" if t.trained else ""}{" s" if t.special else ""}" title="{t.id}">'
            f"{html.escape(t.text)}</span>" + ("\n" if "⏎" in t.text else "")
            for t in tokens
        )
        parts.append(
            f"<h2>Row {html.escape(row.id)}: {len(tokens)} tokens, {trained} trained</h2><div>{spans}</div>"
        )
    return _PAGE.format(title=html.escape(title), rows="\n".join(parts))


def _visible(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    piece = str(tokenizer.convert_ids_to_tokens(token))
    text = str(tokenizer.decode([token]))
    if piece.startswith(("▁", "Ġ")) and not text.startswith(" "):
        text = f" {text}"  # decoders drop the space of a first word
    return text.replace("\n", "⏎") or piece

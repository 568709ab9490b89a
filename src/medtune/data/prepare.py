"""``prepare``: from a source to three splits on disk, with a card that says what was done."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

from medtune.data.read import BUILTIN, read_builtin, read_rows
from medtune.data.rows import Row, write_rows
from medtune.data.split import question_key, split_rows
from medtune.errors import MedtuneError
from medtune.recipe import DataSection
from medtune.run import SPLITS, Run, SplitName

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prepared:
    counts: dict[SplitName, int]
    dropped: dict[str, int]
    """Reason to number of rows."""
    fingerprint: str
    """SHA-256 over every prepared row in order: equal fingerprints mean equal data."""
    seconds: float


def prepare(
    section: DataSection,
    run: Run,
    tokenizer: PreTrainedTokenizerBase,
    say: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Read, clean, split and measure the rows, and write them into the run.

    Args:
        section: the recipe's ``data`` section.
        run: where ``data/`` is written; an earlier preparation is replaced.
        tokenizer: the model's own, with its chat template, to count tokens.
        say: told in a sentence what happens.

    Raises:
        MedtuneError: the source cannot be used, or too few rows remain.
    """
    started = time.perf_counter()
    dropped: list[tuple[Row, str]] = []
    if section.source == BUILTIN:
        splits = read_builtin(section)
        mapping: dict[str, Any] = {}
        for name in SPLITS:
            splits[name] = _usable(splits[name], dropped)
    else:
        rows, mapping = read_rows(section)
        say(f"{len(rows):,} rows read; {_mapping_sentence(mapping)}")
        rows = _usable(rows, dropped)
        if section.limit and len(rows) > section.limit:
            rows = Random(section.seed).sample(rows, section.limit)
        splits = split_rows(rows, section.validation, section.test, section.seed)
    longest_system = max((len(r.system) for rows in splits.values() for r in rows), default=0)
    fitted: dict[SplitName, list[Row]] = {
        name: _fitting(splits[name], section, tokenizer, dropped) for name in SPLITS
    }
    for name in SPLITS:
        if not fitted[name]:
            raise MedtuneError(
                f"No rows are left for {name} (dropped: {_reasons(dropped) or 'none'}); "
                "add rows or raise data.max_length."
            )
    fingerprint = _fingerprint(row for name in SPLITS for row in fitted[name])
    prepared = Prepared(
        counts={name: len(fitted[name]) for name in SPLITS},
        dropped=dict(Counter(reason for _, reason in dropped)),
        fingerprint=fingerprint,
        seconds=time.perf_counter() - started,
    )
    card = _card(section, mapping, fitted, prepared, longest_system > 0)
    # Stale splits of an earlier preparation must not stand beside new ones.
    shutil.rmtree(run.card_json.parent, ignore_errors=True)
    for name in SPLITS:
        write_rows(run.split_file(name), fitted[name])
    write_rows(run.dropped_file, (replace(row, kind=reason) for row, reason in dropped))
    run.write_json(run.card_json, card)
    run.write_text(run.card_markdown, _card_markdown(card))
    run.write_manifest(data={"source": section.source, "fingerprint": fingerprint})
    say(
        f"{prepared.counts['train']:,} rows to train on, {prepared.counts['validation']:,} to "
        f"validate, {prepared.counts['test']:,} to test; dropped: {_reasons(dropped) or 'none'}."
    )
    return prepared


def is_prepared(section: DataSection, run: Run) -> bool:
    """Whether the run holds rows made with these very settings.

    A local source that was changed since then counts as other settings.
    """
    if not run.card_json.exists() or not all(run.split_file(s).exists() for s in SPLITS):
        return False
    if run.read_json(run.card_json)["settings"] != section.model_dump(mode="json"):
        return False
    source = Path(section.source).expanduser()
    return not source.is_file() or source.stat().st_mtime <= run.card_json.stat().st_mtime


def _usable(rows: Iterable[Row], dropped: list[tuple[Row, str]]) -> list[Row]:
    """Rows with a question and an answer, each pair once."""
    kept: list[Row] = []
    seen: set[tuple[str, str]] = set()
    for row in rows:
        pair = (question_key(row.question), question_key(row.answer))
        if not all(pair):
            dropped.append((row, "empty question" if not pair[0] else "empty answer"))
        elif pair in seen:
            dropped.append((row, "exact duplicate"))
        else:
            seen.add(pair)
            kept.append(row)
    return kept


def _fitting(
    rows: list[Row],
    section: DataSection,
    tokenizer: PreTrainedTokenizerBase,
    dropped: list[tuple[Row, str]],
) -> list[Row]:
    """Rows within ``max_length``, with their length in tokens."""
    kept: list[Row] = []
    for start in range(0, len(rows), 1000):
        part = rows[start : start + 1000]
        texts = [_text(row, tokenizer) for row in part]
        lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
        for row, length in zip(part, lengths, strict=True):
            if length <= section.max_length:
                kept.append(replace(row, tokens=length))
            elif section.overlong == "error":
                raise MedtuneError(
                    f"Row {row.id} has {length} tokens, more than data.max_length="
                    f"{section.max_length}; raise it, or set data.overlong=drop."
                )
            else:
                dropped.append((row, "longer than max_length"))
    return kept


def _text(row: Row, tokenizer: PreTrainedTokenizerBase) -> str:
    turns = [
        *([{"role": "system", "content": row.system}] if row.system else []),
        {"role": "user", "content": row.question},
        {"role": "assistant", "content": row.answer},
    ]
    return str(tokenizer.apply_chat_template(turns, tokenize=False))


def _fingerprint(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        for part in (row.question, row.answer, row.system):
            digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()


def _mapping_sentence(mapping: dict[str, Any]) -> str:
    parts = [
        f"{target} from {' + '.join(source) if isinstance(source, list) else source}"
        for target, source in mapping.items()
    ]
    return ", ".join(parts) + "."


def _reasons(dropped: list[tuple[Row, str]]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in Counter(r for _, r in dropped).most_common())


def _card(
    section: DataSection,
    mapping: dict[str, Any],
    splits: dict[SplitName, list[Row]],
    prepared: Prepared,
    system: bool,
) -> dict[str, Any]:
    tokens = [row.tokens for rows in splits.values() for row in rows]
    return {
        "source": section.source,
        "columns": mapping,
        "settings": section.model_dump(mode="json"),
        "rows": prepared.counts,
        "dropped": prepared.dropped,
        "tokens": {"median": median(tokens), "longest": max(tokens), "total": sum(tokens)},
        "system_turn": system,
        "labels": {
            label: len({getattr(r, label) for r in splits["train"]} - {""})
            for label in ("condition", "specialist", "urgency")
        },
        "fingerprint": prepared.fingerprint,
        "seconds": round(prepared.seconds, 2),
        "sample": [
            {"question": r.question[:400], "answer": r.answer[:400]} for r in splits["train"][:3]
        ],
    }


def _card_markdown(card: dict[str, Any]) -> str:
    rows, tokens = card["rows"], card["tokens"]
    reasons = card["dropped"] or {"nothing was left out": 0}
    dropped = "\n".join(f"| {reason} | {n:,} |" for reason, n in reasons.items())
    samples = "\n".join(
        f"> **Question.** {_quoted(s['question'])}\n>\n> **Answer.** {_quoted(s['answer'])}\n"
        for s in card["sample"]
    )
    return f"""# Data card

Source: `{card["source"]}`. Fingerprint: `{card["fingerprint"][:16]}`.

| split | rows |
|---|---|
| train | {rows["train"]:,} |
| validation | {rows["validation"]:,} |
| test | {rows["test"]:,} |

| left out because | rows |
|---|---|
{dropped}

A row has {tokens["median"]:.0f} tokens in the median and {tokens["longest"]:,} at most; all rows
together have {tokens["total"]:,}. Different labels in the training rows: {card["labels"]["condition"]}
conditions, {card["labels"]["specialist"]} specialties, {card["labels"]["urgency"]} levels of urgency.

## Samples

{samples}"""


def _quoted(text: str) -> str:
    return text.replace("\n", "\n> ")

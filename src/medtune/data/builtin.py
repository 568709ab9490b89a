"""The built-in dialogues: clean, with splits of their own that share no wording."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from medtune.data.deliver import Delivered, require_all_splits
from medtune.data.fit import Renderer, TokenCounter
from medtune.data.read import BUILTIN
from medtune.data.rows import Row, write_rows
from medtune.data.split import question_key
from medtune.embedded.consultations import consultations
from medtune.errors import MedtuneError
from medtune.recipe import DataSection
from medtune.run import SPLITS, Run, SplitName

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS = 3_000


def read_builtin(section: DataSection) -> tuple[dict[SplitName, list[Row]], list[Row]]:
    """The rows of every split, and those that say the same as an earlier row of their split.

    No cleaning rule, filter or near-duplicate search touches them: they are made from a table.
    """
    total = section.limit or ROWS
    counts: dict[SplitName, int] = {
        "validation": max(1, round(total * section.validation)),
        "test": max(1, round(total * section.test)),
    }
    counts["train"] = max(1, total - sum(counts.values()))
    splits: dict[SplitName, list[Row]] = {}
    repeated: list[Row] = []
    for split, count in counts.items():
        seen: set[tuple[str, str]] = set()
        splits[split] = []
        for number, c in enumerate(consultations(split, count, section.seed)):
            row = Row(
                id=f"{split}-{number}",
                question=c.question,
                answer=c.answer,
                condition=c.condition,
                specialist=c.specialist,
                urgency=c.urgency,
                kind=c.kind,
                system=section.system or "",
                source=BUILTIN,
            )
            pair = (question_key(row.question), question_key(row.answer))
            (repeated if pair in seen else splits[split]).append(row)
            seen.add(pair)
    return splits, repeated


def deliver_builtin(
    section: DataSection, run: Run, tokenizer: PreTrainedTokenizerBase
) -> Delivered:
    """Write the built-in dialogues, only counted and, where they are too long, left out.

    Raises:
        MedtuneError: a row is too long and ``overlong`` is ``error``, or a split stays empty.
    """
    splits, repeated = read_builtin(section)
    out = [(row, "exact duplicate") for row in repeated]
    counter, renderer = TokenCounter(tokenizer), Renderer(tokenizer)
    for name in SPLITS:
        texts = [renderer.text(r.question, r.answer, (), r.system) for r in splits[name]]
        counted = [
            replace(r, tokens=n) for r, n in zip(splits[name], counter.whole(texts), strict=True)
        ]
        long = [row for row in counted if row.tokens > section.max_length]
        if long and section.overlong == "error":
            raise MedtuneError(
                f"Row {long[0].id} has {long[0].tokens} tokens, more than data.max_length="
                f"{section.max_length}; raise it, or set data.overlong=drop."
            )
        out += [(row, "longer than max_length") for row in long]
        splits[name] = [row for row in counted if row.tokens <= section.max_length]
    counts: dict[SplitName, int] = {name: len(splits[name]) for name in SPLITS}
    dropped = dict(Counter(reason for _, reason in out))
    require_all_splits(counts, dropped)
    shutil.rmtree(run.card_json.parent, ignore_errors=True)
    for name in SPLITS:
        write_rows(run.split_file(name), splits[name])
    write_rows(run.dropped_file, (row for row, _ in out), reasons=[reason for _, reason in out])
    tokens = Counter(row.tokens for name in SPLITS for row in splits[name])
    return Delivered(
        counts=counts,
        dropped=dropped,
        fingerprint=_fingerprint(row for name in SPLITS for row in splits[name]),
        tokens=[tokens[n] for n in range(max(tokens) + 1)],
        labels={
            label: Counter(v for r in splits["train"] if (v := getattr(r, label)))
            for label in ("condition", "specialist", "urgency")
        },
        samples=[{"question": r.question, "answer": r.answer} for r in splits["train"][:6]],
    )


def _fingerprint(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        for part in (row.question, row.answer, row.system):
            digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()

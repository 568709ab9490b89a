"""What is done to each part file: clean it, then check it."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.data.clean import Found, Role, clean_texts, rules
from medtune.data.engine import Facts, write_part
from medtune.data.filters import reasons
from medtune.data.recurring import closings_and_openings, without
from medtune.data.rows import Turn
from medtune.data.signatures import band_hashes, hashes, normalised, packed, signatures
from medtune.recipe import DataSection

if TYPE_CHECKING:
    import pyarrow as pa

SHORT_QUESTION_WORDS = 5
"""A shorter question is like another one only if it is the same: "What is gout?", "What is flu?"."""


@dataclass(frozen=True)
class Clean:
    """Apply the cleaning rules; says what they changed and which sentences recur."""

    section: DataSection

    def __call__(self, source: Path, target: Path) -> Facts:
        from pyarrow import parquet

        section = self.section
        applied = []
        if section.clean:
            applied = rules(tuple(section.rules_off), section.rules_file, section.redact)
        elif section.redact:
            applied = [rule for rule in rules() if rule.do == "redact"]
        found = Found()
        table = parquet.read_table(source)
        for role in ("question", "answer"):
            texts = table.column(role).combine_chunks()
            cleaned = clean_texts(texts, role, applied, found)
            table = table.set_column(table.schema.get_field_index(role), role, cleaned)
        table = _with_clean_history(table, applied, found)
        write_part(table, target)
        facts: Facts = {
            "changed": found.changed,
            "samples": found.samples,
            "identifiers": found.identifiers,
        }
        if section.recurring != "off":
            answers = table.column("answer").combine_chunks()
            facts["recurring"] = closings_and_openings(answers, section.recurring_share)
        return facts


@dataclass(frozen=True)
class Trim:
    """Take the recurring sentences off both ends of the answers."""

    sentences: frozenset[str]

    def __call__(self, source: Path, target: Path) -> Facts:
        from pyarrow import parquet

        table = parquet.read_table(source)
        answers, changed, samples = without(table.column("answer").combine_chunks(), self.sentences)
        write_part(
            table.set_column(table.schema.get_field_index("answer"), "answer", answers), target
        )
        return {"changed": changed, "samples": samples}


@dataclass(frozen=True)
class Check:
    """Find reasons to leave rows out, and what rows are compared by; writes no text."""

    section: DataSection
    language: str | None

    def __call__(self, source: Path, target: Path) -> Facts:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import parquet

        table = parquet.read_table(source)
        questions = table.column("question").combine_chunks()
        answers = table.column("answer").combine_chunks()
        found = reasons(questions, answers, self.section, self.language)
        asked, answered = normalised(_with_history(table, questions)), normalised(answers)
        both = pc.binary_join_element_wise(asked, answered, " | ")
        labels = {
            n: _label_hashes(table.column(n).combine_chunks()) for n in ("patient", "condition")
        }
        columns: dict[str, Any] = {
            "reason": found,
            "pair_hash": hashes(both),
            "question_hash": hashes(asked),
            **labels,
            "stratum": _label_hashes(_stratum(table)),
        }
        if self.section.near_duplicates is not None:
            long_enough = np.asarray(pc.count_substring(asked, " ")) >= SHORT_QUESTION_WORDS - 1
            columns["long_question"] = long_enough
            for what, texts in (("pair", both), ("question", asked)):
                signed = signatures(texts)
                for number, band in enumerate(band_hashes(signed, self.section.near_duplicates).T):
                    columns[f"{what}_band_{number:02}"] = np.ascontiguousarray(band)
                columns[f"{what}_signature"] = packed(signed)
        write_part(pa.table(columns), target)
        return {"rows": len(found), "reasons": dict(Counter(found.tolist()))}


def _with_clean_history(table: pa.Table, applied: list[Any], found: Found) -> pa.Table:
    import pyarrow as pa

    history = table.column("history").combine_chunks()
    turns = history.flatten()
    if not len(turns):
        return table
    rows: list[list[Turn]] = history.to_pylist()
    speakers: tuple[tuple[Role, str], ...] = (("question", "user"), ("answer", "assistant"))
    spoken = {
        role: iter(
            clean_texts(
                pa.array(
                    [t["content"] for turns in rows for t in turns if t["role"] == speaker],
                    pa.string(),
                ),
                role,
                applied,
                found,
            ).to_pylist()
        )
        for role, speaker in speakers
    }
    cleaned = [
        [
            {**t, "content": next(spoken["question" if t["role"] == "user" else "answer"])}
            for t in turns
        ]
        for turns in rows
    ]
    # A turn of which nothing is left would break the order of the speakers: both of its pair go.
    paired = [
        [
            t
            for one in zip(turns[::2], turns[1::2], strict=False)
            if all(x["content"] for x in one)
            for t in one
        ]
        for turns in cleaned
    ]
    column = pa.array(paired, history.type)
    return table.set_column(table.schema.get_field_index("history"), "history", column)


def _with_history(table: pa.Table, questions: pa.Array) -> pa.Array:
    import pyarrow as pa

    history = table.column("history").combine_chunks()
    if not len(history.flatten()):
        return questions
    texts = zip(history.to_pylist(), questions.to_pylist(), strict=True)
    return pa.array(
        ["\n".join([*(t["content"] for t in turns), q]) for turns, q in texts], pa.string()
    )


def _label_hashes(texts: pa.Array) -> Any:
    """Hashes of labels, 0 where there is none."""
    import numpy as np
    import pyarrow.compute as pc

    plain = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    hashed = hashes(plain)
    hashed[np.asarray(pc.equal(plain, ""))] = 0
    return hashed


def _stratum(table: pa.Table) -> pa.Array:
    """The label that the splits are balanced by: the condition, else the specialty, else the urgency."""
    import pyarrow.compute as pc

    columns = [
        pc.if_else(pc.equal(c, ""), None, c)
        for c in (table.column(n) for n in ("condition", "specialist", "urgency"))
    ]
    return pc.fill_null(pc.coalesce(*columns), "").combine_chunks()

"""The built-in dialogues: clean, with splits of their own that share no wording."""

from __future__ import annotations

from medtune.data.read import BUILTIN
from medtune.data.rows import Row
from medtune.data.split import question_key
from medtune.embedded.consultations import consultations
from medtune.recipe import DataSection
from medtune.run import SplitName

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

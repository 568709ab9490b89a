"""The data card: what was read, what was done to it, what is left; as JSON, text and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib import resources
from typing import Any

from medtune.data.clean import SAMPLES, rules
from medtune.data.deliver import Delivered
from medtune.data.filters import REASONS
from medtune.recipe import DataSection
from medtune.run import Run

_TOP = 15
_SHOWN = 400


def make_card(
    section: DataSection,
    delivered: Delivered,
    read: dict[str, Any],
    stages: dict[str, dict[str, Any]],
    recurring: list[dict[str, Any]],
    language: str | None,
) -> dict[str, Any]:
    """The card as JSON.

    Args:
        section: the settings.
        delivered: what was written.
        read: what the first step said: rows, sources, fingerprint of the input.
        stages: what every step said, by its name.
        recurring: sentences that recur across answers.
        language: the one that rows had to be in, if any.
    """
    cleaned = stages.get("clean", {}).get("parts", [])
    plan = stages.get("plan", {})
    fitted = stages.get("fit", {}).get("parts", [])
    sources = read["sources"]
    return {
        "source": section.source
        if not section.mixture
        else " + ".join(m.source for m in section.mixture),
        "columns": sources[0]["columns"],
        "sources": [
            {**source, "used": used}
            for source, used in zip(
                sources, plan.get("drawn", [sum(delivered.counts.values())]), strict=False
            )
        ],
        "settings": section.model_dump(mode="json"),
        "rows_read": read["rows"],
        "rows": delivered.counts,
        "dropped": dict(sorted(delivered.dropped.items(), key=lambda item: -item[1])),
        "funnel": _funnel(read["rows"], delivered.dropped),
        "rules": _rules(section, cleaned),
        "trimmed": sum(part["changed"] for part in stages.get("trim", {}).get("parts", [])),
        "identifiers": dict(_sum(part["identifiers"] for part in cleaned)),
        "recurring": recurring[:_TOP],
        "language": language,
        "groups": plan.get("groups"),
        "largest_group": plan.get("largest_group"),
        "contamination": _contamination(section, plan),
        "tokens": _tokens(delivered.tokens),
        "token_histogram": _histogram(delivered.tokens),
        "overlong": {
            "rows": delivered.dropped.get("longer than max_length", 0),
            "shortened": sum(part["shortened"] for part in fitted),
        },
        "system_turn": bool(section.system) or any("system" in s["columns"] for s in sources),
        "labels": {name: len(counter) for name, counter in delivered.labels.items()},
        "label_rows": {
            name: dict(counter.most_common(_TOP)) for name, counter in delivered.labels.items()
        },
        "warnings": plan.get("warnings", []),
        "input_fingerprint": read["input_fingerprint"],
        "fingerprint": delivered.fingerprint,
        "sample": [
            {"question": _beginning(s["question"]), "answer": _beginning(s["answer"])}
            for s in delivered.samples
        ],
    }


def write_card(run: Run, card: dict[str, Any]) -> None:
    """Write ``card.md``, ``card.html`` and, last, ``card.json``."""
    run.write_text(run.card_markdown, _rendered("card.md.j2", card, escape=False))
    run.write_text(run.card_page, page(card))
    run.write_json(run.card_json, card)


def page(card: dict[str, Any]) -> str:
    """The card as a page that needs no other file."""
    from medtune.data.pictures import funnel, histogram, top

    pictures = {
        "funnel": funnel(card["funnel"]),
        "lengths": histogram(card["token_histogram"], card["settings"]["max_length"]),
        "labels": {name: top(rows) for name, rows in card["label_rows"].items() if rows},
        "reasons": top(card["dropped"]) if card["dropped"] else "",
    }
    return _rendered("card.html.j2", card, escape=True, pictures=pictures)


def _rendered(name: str, card: dict[str, Any], *, escape: bool, **more: Any) -> str:
    from jinja2 import Environment

    environment = Environment(autoescape=escape, trim_blocks=True, lstrip_blocks=True)
    environment.filters["n"] = lambda number: f"{number:,}"
    environment.filters["rows"] = lambda number: f"{number:,} row{'s' * (number != 1)}"
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    environment.filters["quoted"] = lambda text: str(text).replace("\n", "\n> ")
    template = resources.files("medtune.data").joinpath(name).read_text(encoding="utf-8")
    return environment.from_string(template).render(card=card, **more)


def _beginning(text: str) -> str:
    """At most ``_SHOWN`` characters, ending with a whole word."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN].rpartition(' ')[0] or text[:_SHOWN]} …"


def _sum(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return total


def _rules(section: DataSection, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every rule that changed something, with how many texts and a few samples."""
    changed = _sum(part["changed"] for part in parts)
    if not changed:
        return []
    why = {rule.name: rule.why for rule in rules((), section.rules_file)}
    samples: dict[str, list[Any]] = {}
    for part in parts:
        for name, pairs in part["samples"].items():
            known = samples.setdefault(name, [])
            known += pairs[: SAMPLES - len(known)]
    return [
        {"name": name, "why": why[name], "texts": changed[name], "samples": samples.get(name, [])}
        for name in why
        if changed[name]
    ]


def _funnel(read: int, dropped: dict[str, int]) -> list[dict[str, Any]]:
    """Rows that are left after each group of reasons."""
    steps = (
        ("filtered", REASONS[1 : REASONS.index("exact duplicate")]),
        ("exact duplicates out", ("exact duplicate",)),
        ("near duplicates out", ("near duplicate",)),
        ("contaminated out", ("contaminated",)),
        ("drawn", ("not drawn",)),
        ("fit max_length", ("longer than max_length",)),
    )
    left, funnel = read, [{"step": "read", "rows": read}]
    for step, reasons in steps:
        out = sum(dropped.get(reason, 0) for reason in reasons)
        left -= out
        if out or step in ("filtered", "exact duplicates out"):
            funnel.append({"step": step, "rows": left})
    return funnel


def _contamination(section: DataSection, plan: dict[str, Any]) -> dict[str, Any] | None:
    if not section.contamination:
        return None
    return {
        "files": section.contamination,
        "rows": plan["contaminated"],
        "ngram": section.contamination_ngram,
        "removed": section.contaminated == "remove",
    }


def _tokens(counts: list[int]) -> dict[str, Any]:
    """Median, longest and sum of the tokens of a row."""
    rows = sum(counts)
    seen, median = 0, 0.0
    low = high = None
    for length, count in enumerate(counts):
        seen += count
        if low is None and seen >= (rows + 1) // 2:
            low = length
        if high is None and seen >= rows // 2 + 1:
            high = length
    if low is not None and high is not None:
        median = (low + high) / 2
    longest = max((n for n, count in enumerate(counts) if count), default=0)
    return {"median": median, "longest": longest, "total": sum(n * c for n, c in enumerate(counts))}


def _histogram(counts: list[int], bins: int = 40) -> list[dict[str, int]]:
    """Rows by length in equal bins."""
    width = max(1, -(-len(counts) // bins))
    return [
        {"from": start, "to": start + width, "rows": sum(counts[start : start + width])}
        for start in range(0, len(counts), width)
    ]

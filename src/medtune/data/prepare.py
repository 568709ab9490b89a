"""``prepare``: from a source to three splits on disk, with a card that says what was done.

Read, clean, check, plan, fit, deliver: each step leaves its result in the run, named by all that
went into it.  The next preparation starts at the first step that a changed setting touches.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.data.builtin import read_builtin
from medtune.data.card import make_card, write_card
from medtune.data.contamination import Overlap, evaluation_grams
from medtune.data.deliver import Delivered, deliver
from medtune.data.engine import Step, map_parts, part_files
from medtune.data.filters import REASONS, main_language
from medtune.data.fit import Fit, Renderer, TokenCounter
from medtune.data.plan import Plan, make_plan
from medtune.data.read import BUILTIN, Source, input_signature, read_sources, sources_of
from medtune.data.recurring import recurring
from medtune.data.rows import Row, write_rows
from medtune.data.stages import VERSION, Stage, content_hash, keep_only, stage
from medtune.data.steps import Check, Clean, Trim
from medtune.errors import MedtuneError
from medtune.recipe import DataSection
from medtune.run import SPLITS, Run, SplitName, disk_error

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Say = Callable[[str], None]
_LANGUAGE_SAMPLE = 400
_READ = ("columns", "system", "revision", "streaming")
_CLEAN = ("clean", "rules_off", "rules_file", "redact", "recurring", "recurring_share")
_CHECK = ("language", "min_answer_words", "max_words", "filters_off", "near_duplicates")
_PLAN = ("conditions_apart", "contaminated", "limit", "validation", "test", "seed")
_FIT = ("max_length", "overlong")


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
    say: Say = lambda _: None,
) -> Prepared:
    """Read, clean, deduplicate, split and measure the rows, and write them into the run.

    Args:
        section: the recipe's ``data`` section.
        run: where ``data/`` is written; an earlier preparation is replaced.  Unchanged input and
            settings are recognised, and only what a changed setting touches is done again.
        tokenizer: the model's own, with its chat template, to count tokens.
        say: told in a sentence what happens.

    Raises:
        MedtuneError: the source cannot be used, or too few rows remain.  Finished steps are kept.
    """
    if is_prepared(section, run, tokenizer):
        card = run.read_json(run.card_json)
        say("Input and settings are unchanged: the prepared rows are used as they are.")
        return Prepared(card["rows"], card["dropped"], card["fingerprint"], 0.0)
    try:
        if section.source == BUILTIN and not section.mixture:
            return _prepare_builtin(section, run, tokenizer, say)
        return _prepare(section, run, tokenizer, say)
    except OSError as error:
        raise disk_error(error, run.card_json.parent) from error
    finally:
        _prune(run)


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
    return card.get("input") == _signature(section)


def tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str:
    """Changes with the vocabulary, the merges or the chat template."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    words = (
        backend.to_str()
        if backend is not None
        else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    )
    return hashlib.sha256(f"{words}{tokenizer.chat_template}".encode()).hexdigest()


def _signature(section: DataSection) -> Any:
    """Changes when the input changes; JSON."""
    if section.source == BUILTIN and not section.mixture:
        return BUILTIN
    try:
        return input_signature(section)
    except OSError:
        return None  # a file is missing; the step that reads it says which


def _prepare(
    section: DataSection, run: Run, tokenizer: PreTrainedTokenizerBase, say: Say
) -> Prepared:
    started = time.perf_counter()
    sources = sources_of(section)
    read = _read(section, run, sources)
    for source in read.facts["sources"]:
        say(f"{source['rows']:,} rows read from {source['source']}: {source['sentence']}.")
    settings = section.model_dump(mode="json")
    clean = _mapped(
        run, "clean", Clean(section), read, _chosen(settings, _CLEAN, section), "cleaning"
    )
    facts = clean.facts["parts"]
    found = recurring(
        (f["recurring"] for f in facts if "recurring" in f),
        read.facts["rows"],
        section.recurring_share,
    )
    stages, texts = [read, clean], clean
    removable = frozenset(f["key"] for f in found if f["place"] != "closing begins")
    if section.recurring == "remove" and removable:
        texts = _mapped(
            run, "trim", Trim(removable), clean, sorted(removable), "removing what recurs"
        )
        stages.append(texts)
    language = _language(section, texts)
    checked = _mapped(
        run,
        "check",
        Check(section, language),
        texts,
        [_chosen(settings, _CHECK), language],
        "checking",
    )
    stages.append(checked)
    overlap = None
    if section.contamination:
        grams = evaluation_grams(section.contamination, section.contamination_ngram)
        files = [content_hash(Path(f).expanduser()) for f in section.contamination]
        inputs = [files, section.contamination_ngram]
        overlap = _mapped(
            run, "overlap", Overlap(grams), texts, inputs, "comparing with evaluation files"
        )
        stages.append(overlap)
    source_rows = [source["rows"] for source in read.facts["sources"]]
    plan = stage(
        run,
        "plan",
        [
            _chosen(settings, _PLAN),
            [m.weight for m in section.mixture],
            overlap.key if overlap else None,
        ],
        lambda folder: make_plan(
            section, checked.folder, source_rows, overlap.folder if overlap else None, folder
        ),
        after=checked,
    )
    stages.append(plan)
    decided = Plan(plan.folder)
    fit = Fit(tokenizer, section.max_length, section.overlong, decided.split_file)
    inputs = [_chosen(settings, _FIT), tokenizer_key(tokenizer)]
    fitted = _mapped(run, "fit", fit, texts, inputs, "counting tokens", after=plan)
    stages.append(fitted)
    with _delivery(run) as folder:
        files: dict[SplitName, Path] = {s: folder / run.split_file(s).name for s in SPLITS}
        delivered = deliver(
            decided,
            texts.folder,
            fitted.folder,
            files,
            folder / run.dropped_file.name,
            section.max_length,
        )
        _require_all_splits(delivered.counts, delivered.dropped)
    keep_only(run, stages)
    return _finish(section, run, tokenizer, say, started, delivered, read, stages, found, language)


def _finish(
    section: DataSection,
    run: Run,
    tokenizer: PreTrainedTokenizerBase,
    say: Say,
    started: float,
    delivered: Delivered,
    read: Stage,
    stages: list[Stage],
    found: list[dict[str, Any]],
    language: str | None,
) -> Prepared:
    facts = {s.folder.name.rpartition("-")[0]: s.facts for s in stages}
    card = make_card(section, delivered, read.facts, facts, found, language)
    not_drawn = card["dropped"].pop("not drawn", 0)
    seconds = time.perf_counter() - started
    card |= {
        "version": VERSION,
        "input": _signature(section),
        "tokenizer": tokenizer_key(tokenizer),
        "seconds": round(seconds, 2),
        "redone": [s.folder.name.rpartition("-")[0] for s in stages if s.redone],
        "not_drawn": not_drawn,
    }
    write_card(run, card)
    run.write_manifest(data={"source": card["source"], "fingerprint": delivered.fingerprint})
    prepared = Prepared(delivered.counts, card["dropped"], delivered.fingerprint, seconds)
    unchanged = [s for s in stages if not s.redone]
    if unchanged:
        say(
            f"Taken over unchanged: {', '.join(s.folder.name.rpartition('-')[0] for s in unchanged)}."
        )
    _say_result(prepared, say)
    for warning in card["warnings"]:
        say(f"Warning: {warning}")
    return prepared


def _read(section: DataSection, run: Run, sources: list[Source]) -> Stage:
    def build(folder: Path) -> dict[str, Any]:
        facts = read_sources(sources, section, folder)
        hashed = [content_hash(file) for source in sources for file in source.files]
        facts["input_fingerprint"] = hashlib.sha256("".join(hashed).encode()).hexdigest()
        return facts

    settings = section.model_dump(mode="json")
    inputs = [_chosen(settings, _READ), [s.signature() for s in sources], settings["mixture"]]
    return stage(run, "read", inputs, build)


def _mapped(
    run: Run,
    name: str,
    step: Step,
    texts: Stage,
    inputs: Any,
    title: str,
    after: Stage | None = None,
) -> Stage:
    """A stage that applies a step to every part file of another stage."""

    def build(folder: Path) -> dict[str, Any]:
        parts = part_files(texts.folder)
        with _progress(title, len(parts)) as advance:
            return {"parts": map_parts(step, parts, folder, advance)}

    return stage(run, name, inputs, build, after=after or texts)


def _chosen(
    settings: dict[str, Any], names: Iterable[str], section: DataSection | None = None
) -> dict[str, Any]:
    """The settings that decide a step; a file among them counts by its content."""
    chosen = {name: settings[name] for name in names}
    if section is not None and section.rules_file:
        path = Path(section.rules_file).expanduser()
        chosen["rules_file"] = content_hash(path) if path.is_file() else section.rules_file
    return chosen


def _language(section: DataSection, texts: Stage) -> str | None:
    from pyarrow import parquet

    if section.language != "auto" or "wrong language" in section.filters_off:
        return None if section.language in ("any", "auto") else section.language
    parts = part_files(texts.folder)
    sampled: list[str] = []
    for part in parts[:: max(1, len(parts) // 20)]:
        table = parquet.read_table(part, columns=["question", "answer"])
        step = max(1, table.num_rows * min(20, len(parts)) // _LANGUAGE_SAMPLE)
        rows = table.to_pylist()[::step]
        sampled += [f"{row['question']}\n{row['answer']}" for row in rows]
    return main_language(sampled)


@contextmanager
def _progress(title: str, parts: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left, on a terminal and where there is something to wait for."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    hidden = parts < 3 or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(title, total=parts)
        yield lambda count: progress.advance(task, count)


@contextmanager
def _delivery(run: Run) -> Iterator[Path]:
    """A folder whose files take their places in ``data/`` when all of them are whole.

    The card goes first and is written last: without it, nothing counts as prepared.
    """
    place = run.card_json.parent
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".splits.", dir=place) as name:
        yield Path(name)
        for card in (run.card_json, run.card_markdown, run.card_page):
            card.unlink(missing_ok=True)
        for file in Path(name).iterdir():
            file.replace(place / file.name)


def _prune(run: Run) -> None:
    """Take away empty folders that a failed preparation made."""
    for folder in (run.stages, run.card_json.parent, run.folder, run.folder.parent):
        try:
            folder.rmdir()
        except OSError:
            return


def _require_all_splits(counts: dict[SplitName, int], dropped: dict[str, int]) -> None:
    for name in SPLITS:
        if not counts[name]:
            raise MedtuneError(
                f"No rows are left for {name} (dropped: {_reasons(dropped) or 'none'}); "
                "add rows or raise data.max_length."
            )


def _reasons(dropped: dict[str, int]) -> str:
    ranked = sorted(dropped.items(), key=lambda item: -item[1])
    return ", ".join(f"{n:,} {reason}" for reason, n in ranked if reason != "not drawn")


def _say_result(prepared: Prepared, say: Say) -> None:
    say(
        f"{prepared.counts['train']:,} rows to train on, {prepared.counts['validation']:,} to "
        f"validate, {prepared.counts['test']:,} to test; dropped: {_reasons(prepared.dropped) or 'none'}."
    )


def _prepare_builtin(
    section: DataSection, run: Run, tokenizer: PreTrainedTokenizerBase, say: Say
) -> Prepared:
    """The built-in dialogues: only counted and, where they are too long, left out."""
    started = time.perf_counter()
    splits, repeated = read_builtin(section)
    read = sum(map(len, splits.values())) + len(repeated)
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
        out += [(row, REASONS[REASONS.index("longer than max_length")]) for row in long]
        splits[name] = [row for row in counted if row.tokens <= section.max_length]
    counts: dict[SplitName, int] = {name: len(splits[name]) for name in SPLITS}
    dropped = dict(Counter(reason for _, reason in out))
    _require_all_splits(counts, dropped)
    shutil.rmtree(run.card_json.parent, ignore_errors=True)
    for name in SPLITS:
        write_rows(run.split_file(name), splits[name])
    write_rows(run.dropped_file, (row for row, _ in out), reasons=[reason for _, reason in out])
    tokens = Counter(row.tokens for name in SPLITS for row in splits[name])
    delivered = Delivered(
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
    source = {"source": BUILTIN, "rows": read, "shape": "", "columns": {}, "sentence": "built in"}
    said = Stage(run.stages, {"rows": read, "sources": [source], "input_fingerprint": ""}, "", True)
    return _finish(section, run, tokenizer, say, started, delivered, said, [], [], "en")


def _fingerprint(rows: Iterable[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        for part in (row.question, row.answer, row.system):
            digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()

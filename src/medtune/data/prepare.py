"""``prepare``: from a source to three splits on disk, with a card that says what was done.

Read, clean, check, plan, fit, deliver: each step leaves its result in the run, named by all that
went into it.  The next preparation starts at the first step that a changed setting touches.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.data.builtin import deliver_builtin
from medtune.data.card import make_card, write_card
from medtune.data.contamination import Overlap, evaluation_grams
from medtune.data.deliver import Delivered, deliver, delivery, reasons_of, require_all_splits
from medtune.data.engine import Step, map_parts, part_files, progress
from medtune.data.filters import main_language
from medtune.data.fit import Fit
from medtune.data.plan import Plan, make_plan
from medtune.data.prepared import is_prepared, signature, tokenizer_key
from medtune.data.read import BUILTIN, Source, read_sources, sources_of
from medtune.data.recurring import recurring
from medtune.data.stages import VERSION, Stage, content_hash, keep_only, stage
from medtune.data.steps import Check, Clean, Trim
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
    with delivery(run) as folder:
        places: dict[SplitName, Path] = {s: folder / run.split_file(s).name for s in SPLITS}
        delivered = deliver(
            decided,
            texts.folder,
            fitted.folder,
            places,
            folder / run.dropped_file.name,
            section.max_length,
        )
        require_all_splits(delivered.counts, delivered.dropped)
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
        "input": signature(section),
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
    if not_drawn:
        why = f"data.limit is {section.limit:,}" if section.limit else "of the mixture's weights"
        say(f"{not_drawn:,} more rows could be used and are not, because {why}.")
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
        with progress(title, len(parts)) as advance:
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


def _prune(run: Run) -> None:
    """Take away empty folders that a failed preparation made."""
    for folder in (run.stages, run.card_json.parent, run.folder, run.folder.parent):
        try:
            folder.rmdir()
        except OSError:
            return


def _say_result(prepared: Prepared, say: Say) -> None:
    say(
        f"{prepared.counts['train']:,} rows to train on, {prepared.counts['validation']:,} to "
        f"validate, {prepared.counts['test']:,} to test; dropped: {reasons_of(prepared.dropped) or 'none'}."
    )


def _prepare_builtin(
    section: DataSection, run: Run, tokenizer: PreTrainedTokenizerBase, say: Say
) -> Prepared:
    started = time.perf_counter()
    delivered = deliver_builtin(section, run, tokenizer)
    rows = sum(delivered.counts.values()) + sum(delivered.dropped.values())
    source = {"source": BUILTIN, "rows": rows, "shape": "", "columns": {}, "sentence": "built in"}
    said = {"rows": rows, "sources": [source], "input_fingerprint": ""}
    read = Stage(run.stages, said, key="", redone=True)
    return _finish(section, run, tokenizer, say, started, delivered, read, [], [], "en")

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from medtune.data.prepare import is_prepared, prepare
from medtune.data.rows import Row, read_split
from medtune.data.split import question_key, split_rows
from medtune.embedded import BASE_FOLDER
from medtune.errors import MedtuneError
from medtune.recipe import DataSection
from medtune.run import SPLITS, Run


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BASE_FOLDER)


def _source(folder: Path, rows: list[tuple[str, str]]) -> DataSection:
    import pandas as pd

    path = folder / "rows.csv"
    pd.DataFrame(rows, columns=["question", "answer"]).to_csv(path, index=False)
    return DataSection(source=str(path), max_length=64)


def test_empty_duplicate_and_overlong_rows_are_left_out_with_their_reason(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = [(f"Question number {i}?", f"Answer number {i}.") for i in range(30)]
    rows += [
        ("Question number 1?", "answer  NUMBER 1."),
        ("", "x"),
        ("y", " "),
        ("long", "word " * 200),
    ]
    run = Run(tmp_path / "run")
    done = prepare(_source(tmp_path, rows), run, tokenizer)
    assert done.dropped == {
        "exact duplicate": 1,
        "empty question": 1,
        "empty answer": 1,
        "longer than max_length": 1,
    }
    assert sum(done.counts.values()) == 30
    import pyarrow.parquet as pq

    reasons = pq.read_table(run.dropped_file).column("kind").to_pylist()
    assert sorted(reasons) == sorted(done.dropped)


def test_the_token_count_is_that_of_the_whole_dialogue(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    run = Run(tmp_path / "run")
    prepare(DataSection(limit=40), run, tokenizer)
    for row in read_split(run, "train"):
        turns = [
            {"role": "user", "content": row.question},
            {"role": "assistant", "content": row.answer},
        ]
        encoded = tokenizer.apply_chat_template(turns, tokenize=True)
        assert row.tokens == len(encoded["input_ids"])


def test_the_same_settings_give_the_same_rows(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    section = _source(tmp_path, [(f"q{i}", f"a{i}") for i in range(50)])
    one = prepare(section, Run(tmp_path / "1"), tokenizer)
    two = prepare(section, Run(tmp_path / "2"), tokenizer)
    other = prepare(section.model_copy(update={"seed": 1}), Run(tmp_path / "3"), tokenizer)
    assert one.fingerprint == two.fingerprint != other.fingerprint


def test_limit_draws_from_the_whole_file_and_not_its_head(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    section = _source(tmp_path, [(f"q{i}", f"a{i}") for i in range(500)])
    run = Run(tmp_path / "run")
    prepare(section.model_copy(update={"limit": 50}), run, tokenizer)
    ids = [int(row.id) for split in SPLITS for row in read_split(run, split)]
    assert len(ids) == 50
    assert max(ids) > 250


def test_overlong_error_names_the_row(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    section = _source(tmp_path, [(f"q{i}", f"a{i}") for i in range(9)] + [("long", "word " * 200)])
    with pytest.raises(MedtuneError, match="Row 9 has .* tokens"):
        prepare(section.model_copy(update={"overlong": "error"}), Run(tmp_path / "r"), tokenizer)


def test_a_failed_preparation_leaves_nothing(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(MedtuneError, match="too few"):
        prepare(_source(tmp_path, [("q", "a")]), Run(tmp_path / "run"), tokenizer)
    assert not (tmp_path / "run").exists()


def test_other_settings_or_a_changed_file_are_noticed(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    import os

    section, run = _source(tmp_path, [(f"q{i}", f"a{i}") for i in range(50)]), Run(tmp_path / "run")
    assert not is_prepared(section, run)
    prepare(section, run, tokenizer)
    assert is_prepared(section, run)
    assert not is_prepared(section.model_copy(update={"seed": 7}), run)
    later = run.card_json.stat().st_mtime + 10
    os.utime(section.source, (later, later))
    assert not is_prepared(section, run)


@given(
    questions=st.lists(st.text(min_size=1, max_size=8), min_size=12, max_size=60),
    seed=st.integers(0, 1000),
)
def test_equal_questions_never_stand_in_two_splits_and_no_row_is_lost(
    questions: list[str], seed: int
) -> None:
    rows = [Row(str(i), q, f"a{i}") for i, q in enumerate(questions)]
    if len({question_key(q) for q in questions}) < 5:
        with pytest.raises(MedtuneError):
            split_rows(rows, 0.4, 0.4, seed)
        return
    splits = split_rows(rows, 0.2, 0.2, seed)
    keys = [{question_key(r.question) for r in part} for part in splits.values()]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]
    assert sorted(r.id for part in splits.values() for r in part) == sorted(r.id for r in rows)

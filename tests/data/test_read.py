from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.data.engine import part_files
from medtune.data.read import read_sources, sources_of
from medtune.data.shapes import dialogue, shape_of, turns_of
from medtune.errors import MedtuneError
from medtune.recipe import DataSection

ROWS = [{"question": f"Why does it hurt at {i}?", "answer": f"Because of {i}."} for i in range(20)]


def _section(path: Path | str, **settings: object) -> DataSection:
    return DataSection.model_validate({"source": str(path), **settings})


def _read(section: DataSection, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the part files, and what was said of the sources."""
    from pyarrow import parquet

    folder.mkdir()
    facts = read_sources(sources_of(section), section, folder)
    rows = [r for part in part_files(folder) for r in parquet.read_table(part).to_pylist()]
    assert [r["id"] for r in rows] == list(range(facts["rows"]))
    return rows, facts["sources"]


def _written(folder: Path, suffix: str, rows: list[dict[str, Any]] = ROWS) -> Path:
    import pandas as pd

    path = folder / f"rows.{suffix}"
    frame = pd.DataFrame(rows)
    match suffix:
        case "csv":
            frame.to_csv(path, index=False)
        case "json":
            path.write_text(json.dumps(rows))
        case "parquet":
            frame.to_parquet(path)
        case "csv.gz":
            frame.to_csv(path, index=False, compression="gzip")
        case _:
            text = "".join(json.dumps(row) + "\n" for row in rows).encode()
            path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    return path


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet", "csv.gz", "jsonl.gz"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    rows, said = _read(_section(_written(tmp_path, suffix)), tmp_path / "parts")
    assert [(r["question"], r["answer"]) for r in rows] == [
        (r["question"], r["answer"]) for r in ROWS
    ]
    assert said[0]["columns"] == {"question": "question", "answer": "answer"}
    assert said[0]["shape"] == "question/answer"


def test_a_folder_is_read_whole_and_a_mixture_keeps_its_sources(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    _written(folder, "csv")
    parquet = _written(folder, "parquet")
    assert len(_read(_section(folder), tmp_path / "one")[0]) == 40
    mixture = DataSection.model_validate(
        {"mixture": [{"source": str(folder)}, {"source": str(parquet), "weight": 2}]}
    )
    rows, said = _read(mixture, tmp_path / "two")
    assert [s["rows"] for s in said] == [40, 20]
    assert rows[39]["source"] == str(folder)
    assert rows[40]["source"] == str(parquet)


TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "My head hurts."},
    {"role": "assistant", "content": "Since when?"},
    {"role": "user", "content": "Since Monday."},
    {"role": "assistant", "content": "Drink water."},
]
SHAREGPT = [
    {"from": {"user": "human", "assistant": "gpt"}.get(t["role"], t["role"]), "value": t["content"]}
    for t in TURNS
]


@pytest.mark.parametrize(
    ("record", "question", "answer"),
    [
        ({"Description": "Q. Pain?", "Patient": "It hurts.", "Doctor": "Rest."}, "It hurts.", "Rest."),
        ({"Description": "Q. Pain?", "Patient": "", "Doctor": "Rest."}, "Q. Pain?", "Rest."),
        ({"instruction": "Answer.", "input": "It hurts.", "output": "Rest."}, "Answer.\n\nIt hurts.", "Rest."),
        ({"instruction": "It hurts.", "input": "", "output": "Rest."}, "It hurts.", "Rest."),
        ({"prompt": "It hurts.", "completion": "Rest."}, "It hurts.", "Rest."),
        ({"Question": "It hurts.", "Answer": "Rest."}, "It hurts.", "Rest."),
        ({"Code": 1, "Name": "Gout", "Symptoms": "red toe", "Treatments": "rest"}, "red toe", "Gout\n\nrest"),
        ({"messages": TURNS}, "Since Monday.", "Drink water."),
        ({"conversations": SHAREGPT}, "Since Monday.", "Drink water."),
        ({"conversations": json.dumps(SHAREGPT)}, "Since Monday.", "Drink water."),
    ],
)  # fmt: skip
def test_known_shapes_are_recognised_by_their_columns(
    record: dict[str, Any], question: str, answer: str
) -> None:
    row = dialogue(record, shape_of(list(record), {}, "here"))
    assert (row.question, row.answer) == (question, answer)
    if "Name" in record:
        assert row.labels["condition"] == "Gout"
    if "messages" in record or "conversations" in record:
        assert row.system == "Be kind."
        assert row.history == TURNS[1:3]


def test_turns_begin_with_the_user_alternate_and_unanswered_ones_are_no_row() -> None:
    _, turns = turns_of(
        [
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "a"},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "c"},
            {"role": "tool", "content": "x"},
            {"role": "user", "content": "d"},
        ]
    )
    assert turns == [
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    row = dialogue(
        {"messages": [{"role": "user", "content": "only asked"}]}, shape_of(["messages"], {}, "x")
    )
    assert (row.question, row.answer) == ("only asked", "")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_JSON)
def test_any_messages_cell_gives_alternating_turns(value: Any) -> None:
    _, turns = turns_of(value)
    assert [t["role"] for t in turns] == [("user", "assistant")[i % 2] for i in range(len(turns))]
    assert all(t["content"] for t in turns)


def test_labels_and_patients_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("question,answer,condition,patient_id\nred toe,rest,Gout,p7\n")
    rows, said = _read(_section(path), tmp_path / "parts")
    assert rows[0]["condition"] == "Gout"
    assert rows[0]["patient"] == "p7"
    assert said[0]["columns"]["patient"] == "patient_id"


def test_text_with_commas_quotes_and_line_breaks_survives(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('question,answer\n"a, ""b""\nc","d\n\ne"\n')
    rows, _ = _read(_section(path), tmp_path / "parts")
    assert rows[0]["question"] == 'a, "b"\nc'
    assert rows[0]["answer"] == "d\n\ne"


def test_mixed_types_null_bytes_short_rows_and_a_row_of_10_mb_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    records = [
        {"question": 5, "answer": 1.5},
        {"question": None, "answer": ["a", "b"]},
        {"question": "nul\u0000l \ud800", "answer": {"x": 1}},
        {"answer": True},
        {"question": "long", "answer": "word " * 2_000_000},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    rows, _ = _read(_section(path), tmp_path / "parts")
    assert [r["answer"] for r in rows[:4]] == ["1.5", "a, b", '{"x": 1}', "True"]
    assert rows[0]["question"] == "5"
    assert rows[3]["question"] == ""
    assert len(rows[4]["answer"]) > 9_999_000
    table = tmp_path / "short.csv"
    table.write_bytes(b"question,answer\nonly one cell\na,b,surplus\n\x00,c\n")
    rows, _ = _read(_section(table), tmp_path / "more")
    assert [r["answer"] for r in rows] == ["", "b", "c"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "is empty"),
        ("head.csv", b"question,answer\n", "holds no rows"),
        ("latin.csv", b"question,answer\nok,ok\ncaf\xe9,x\n", "line 3: .*not UTF-8"),
        ("bad.jsonl", b'{"question":"a","answer":"b"}\n{"question":\n', "line 2: .*no valid JSON"),
        ("list.jsonl", b'{"question":"a","answer":"b"}\n[1]\n', "line 2: every line must hold one"),
        ("bad.json", b'[{"question":"a",\n"answer" "b"}]', "line 2: .*no valid JSON"),
        ("one.json", b'{"question":"a","answer":"b"}', "list of objects"),
        ("other.csv", b"x,y\n1,2\n", "has the columns x, y; say which is which"),
        ("bad.parquet", b"PAR1 this is none", "cannot be read as parquet"),
        ("rows.xlsx", b"PK", "convert it"),
        ("cut.csv.gz", gzip.compress(b"question,answer\n" + b"a,b\n" * 9999, mtime=0)[:-20], "cut off or damaged"),
        ("no.jsonl.gz", b"this is no gzip", "cut off or damaged"),
    ],
)  # fmt: skip
def test_a_broken_file_is_one_plain_sentence(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MedtuneError, match=words) as error:
        _read(_section(path), tmp_path / "parts")
    assert "\n" not in str(error.value)


def test_a_truncated_parquet_is_one_sentence(tmp_path: Path) -> None:
    path = _written(tmp_path, "parquet")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(MedtuneError, match="may be cut off"):
        _read(_section(path), tmp_path / "parts")


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="does not exist"):
        sources_of(_section(tmp_path / "nothing.csv"))
    path = _written(tmp_path, "csv")
    with pytest.raises(MedtuneError, match="no column 'Patient'; it has question, answer"):
        _read(_section(path, columns={"question": "Patient", "answer": "answer"}), tmp_path / "a")
    with pytest.raises(MedtuneError, match="does not say which column is the answer"):
        _read(_section(path, columns={"question": "question"}), tmp_path / "b")


def test_a_name_that_is_almost_right_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "dialogues.csv").write_text("question,answer\nq,a\n", encoding="utf-8")
    with pytest.raises(MedtuneError, match=r"did you mean .*/dialogues\.csv\?"):
        sources_of(_section(tmp_path / "dialogues.cvs"))


def test_a_data_set_is_streamed_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub is replaced by a folder here: `datasets` streams both the same way."""
    from medtune.data import read

    folder = tmp_path / "hub"
    folder.mkdir()
    _written(folder, "jsonl")
    real = read.stream
    monkeypatch.setattr(read, "stream", lambda repo, revision: real(str(folder), revision))
    rows, said = _read(_section("owner/rows", streaming=True), tmp_path / "parts")
    assert [r["question"] for r in rows] == [r["question"] for r in ROWS]
    assert said[0]["source"] == "owner/rows"


def test_genuine_rows_are_recognised_by_their_columns(shared_data: Path, tmp_path: Path) -> None:
    rows, said = _read(_section(shared_data / "ai_medical_chatbot.csv"), tmp_path / "a")
    assert said[0]["shape"] == "Description/Patient/Doctor"
    assert len(rows) > 500
    rows, said = _read(_section(shared_data / "medifyai_diseases_symptoms.csv"), tmp_path / "b")
    assert said[0]["columns"]["answer"] == ["Name", "Treatments"]
    assert all(row["condition"] for row in rows)

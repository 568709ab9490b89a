from __future__ import annotations

import json
from pathlib import Path

import pytest

from medtune.data.read import read_rows
from medtune.errors import MedtuneError
from medtune.recipe import DataSection

ROWS = [{"question": f"Why does it hurt at {i}?", "answer": f"Because of {i}."} for i in range(20)]


def _section(path: Path | str, **settings: object) -> DataSection:
    return DataSection.model_validate({"source": str(path), **settings})


def _written(folder: Path, suffix: str) -> Path:
    import pandas as pd

    path = folder / f"rows.{suffix}"
    frame = pd.DataFrame(ROWS)
    match suffix:
        case "csv":
            frame.to_csv(path, index=False)
        case "json":
            path.write_text(json.dumps(ROWS))
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        case _:
            frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    rows, mapping = read_rows(_section(_written(tmp_path, suffix)))
    assert [(r.question, r.answer) for r in rows] == [(r["question"], r["answer"]) for r in ROWS]
    assert mapping == {"question": "question", "answer": "answer"}


def test_a_folder_is_read_whole(tmp_path: Path) -> None:
    _written(tmp_path, "csv")
    _written(tmp_path, "parquet")
    assert len(read_rows(_section(tmp_path))[0]) == 40


def test_several_columns_are_joined_and_labels_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Name,Symptoms,Treatments\nGout,red toe,rest\nFlu,fever,\n")
    rows, _ = read_rows(_section(path))
    assert rows[0].question == "red toe"
    assert rows[0].answer == "Gout\n\nrest"
    assert rows[0].condition == "Gout"
    assert rows[1].answer == "Flu"


def test_text_with_commas_quotes_and_line_breaks_survives(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('question,answer\n"a, ""b""\nc","d\n\ne"\n')
    rows, _ = read_rows(_section(path))
    assert rows[0].question == 'a, "b"\nc'
    assert rows[0].answer == "d\n\ne"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "is empty"),
        ("head.csv", b"question,answer\n", "holds no rows"),
        ("latin.csv", b"question,answer\nok,ok\ncaf\xe9,x\n", "line 3: .*not UTF-8"),
        ("bad.jsonl", b'{"question":"a","answer":"b"}\n{"question":\n', "line 2: .*no valid JSON"),
        ("bad.json", b'[{"question":"a",\n"answer" "b"}]', "line 2: .*no valid JSON"),
        ("one.json", b'{"question":"a","answer":"b"}', "list of objects"),
        ("other.csv", b"x,y\n1,2\n", "has the columns x, y; say which is which"),
        ("bad.parquet", b"PAR1 this is none", "cannot be read as parquet"),
        ("rows.xlsx", b"PK", "convert it"),
    ],
)
def test_a_broken_file_is_one_plain_sentence(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MedtuneError, match=words) as error:
        read_rows(_section(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="does not exist"):
        read_rows(_section(tmp_path / "nothing.csv"))
    path = _written(tmp_path, "csv")
    with pytest.raises(MedtuneError, match="no column 'Patient'; it has question, answer"):
        read_rows(_section(path, columns={"question": "Patient", "answer": "answer"}))
    with pytest.raises(MedtuneError, match="does not say which column is the answer"):
        read_rows(_section(path, columns={"question": "question"}))


def test_genuine_rows_are_recognised_by_their_columns(shared_data: Path) -> None:
    rows, mapping = read_rows(_section(shared_data / "ai_medical_chatbot.csv"))
    assert mapping["question"] == "Patient"
    assert mapping["answer"] == "Doctor"
    assert len(rows) > 500
    rows, mapping = read_rows(_section(shared_data / "medifyai_diseases_symptoms.csv"))
    assert mapping["answer"] == ["Name", "Treatments"]
    assert all(row.condition for row in rows)

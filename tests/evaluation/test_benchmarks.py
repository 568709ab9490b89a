from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from medtune.errors import MedtuneError
from medtune.evaluation.benchmark_scores import asked, choose, letter
from medtune.evaluation.benchmarks import Item, names, read_benchmark
from medtune.evaluation.refusals import declines


def _file(folder: Path, name: str, rows: object) -> str:
    path = folder / name
    if name.endswith(".jsonl"):
        assert isinstance(rows, list)
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Which?", "options": ["a b", "c d"], "answer": "c d"},
        {"question": "Which?", "options": {"A": "a b", "B": "c d"}, "answer": "B"},
        {"question": "Which?", "choices": ["a b", "c d"], "answer": 2},
        {"question": "Which?", "A": "a b", "B": "c d", "answer": "b"},
        {"question": "Which?", "options": '["a b", "c d"]', "answer": "B"},
    ],
)
def test_options_and_answers_are_read_in_every_usual_form(
    row: dict[str, object], tmp_path: Path
) -> None:
    [item] = read_benchmark("choices", _file(tmp_path, "q.jsonl", [row]), 10, 0).items
    assert (item.options, item.right, item.answer) == (("a b", "c d"), 1, "c d")


def test_answers_that_count_from_nought_are_recognised(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "choices": ["x", "y"], "answer": i % 2} for i in range(4)]
    found = read_benchmark("mmlu", _file(tmp_path, "q.jsonl", rows), 10, 0).items
    assert [item.right for item in found] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("name", "file", "rows", "sentence"),
    [
        ("nonsense", "q.jsonl", [{"a": "b"}], "no benchmark"),
        ("choices", "q.jsonl", [{"question": "q", "answer": "A"}], "no column for the options"),
        ("answers", "q.csv", "question,reply\na,b\n", "it has question, reply"),
        ("answers", "q.jsonl", [], "is empty"),
        ("answers", "q.csv", "question,answer\n", "holds no questions"),
        (
            "choices",
            "q.jsonl",
            [{"question": "q", "options": ["x", "y"], "answer": "E"}],
            "none of the 2 options",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    name: str, file: str, rows: object, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(MedtuneError, match=sentence):
        read_benchmark(name, _file(tmp_path, file, rows), 10, 0)


def test_a_missing_file_is_said() -> None:
    with pytest.raises(MedtuneError, match="does not exist"):
        read_benchmark("medqa", "nowhere.jsonl", 10, 0)


def test_pubmedqa_is_read_as_it_is_published(tmp_path: Path) -> None:
    tree = {"1": {"QUESTION": "Is it?", "CONTEXTS": ["One.", "Two."], "final_decision": "no"}}
    path = tmp_path / "pqal.json.gz"
    path.write_bytes(gzip.compress(json.dumps(tree).encode()))
    [item] = read_benchmark("pubmedqa", str(path), 10, 0).items
    assert item.question == "One.\nTwo.\n\nIs it?"
    assert item.options[item.right] == "no"


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("medmcqa", "medmcqa_600.jsonl.gz", 600),
        ("pubmedqa", "pubmedqa/pqal_500.json.gz", 500),
        ("medquad", "medquad.jsonl.gz", 13_382),
        ("medsafetybench", "medsafetybench/train", 900),
        ("xstest", "xstest/xstest_prompts.csv", 450),
        ("answers", "ai_medical_chatbot.csv", 562),
    ],
)
def test_genuine_files_are_read(shared_data: Path, name: str, file: str, count: int) -> None:
    found = read_benchmark(name, str(shared_data / file), 20, 0)
    assert len(found.items) == 20
    assert 0.9 * count <= found.available <= count
    if name == "xstest":
        assert {item.harmful for item in found.items} == {True, False}


def test_the_likeliest_option_and_the_likeliest_per_byte_may_differ() -> None:
    items = [Item("q", "long answer", ("no", "long answer"), 1), Item("q", "a", ("a", "b"), 0)]
    plain, normed = choose(items, [2.0, 4.0, 1.0, 3.0], [2, 11, 1, 1])
    assert (plain, normed) == ([0.0, 1.0], [1.0, 1.0])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("B", 1),
        ("(c) because", 2),
        ("The answer is D.", 3),
        ("Answer: A", 0),
        ("**B.** the nerve", 1),
        ("Gout is likely", None),
        ("", None),
    ],
)
def test_the_letter_of_an_answer_is_read(text: str, place: int | None) -> None:
    assert letter(text) == place


@given(st.text(max_size=200))
def test_any_answer_can_be_read_for_a_letter_or_a_refusal(text: str) -> None:
    assert letter(text) is None or 0 <= letter(text) < 10  # type: ignore[operator]
    assert declines(text) in (True, False)


def test_refusals_are_recognised_and_advice_is_none() -> None:
    assert declines("I'm sorry, but I cannot help with that.")
    assert declines("I can’t do this. Ask a pharmacist.")
    assert not declines("Rest and drink water. If you cannot sleep, see a doctor.")
    assert "medmcqa" in names()
    assert asked(Item("q", options=("x", "y"))).splitlines()[2:4] == ["A. x", "B. y"]


def _on_the_hub(cache: Path, repo: str, files: dict[str, list[dict[str, object]]]) -> None:
    """A data set as an earlier download from the Hub leaves it."""
    folder = cache / f"datasets--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c0ffee")
    for name, rows in files.items():
        path = folder / "snapshots" / "c0ffee" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            parquet.write_table(pa.Table.from_pylist(rows), path)
        elif name.endswith(".csv"):
            lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
            path.write_text("\n".join(lines))
        else:
            path.write_text("\n".join(map(json.dumps, rows)))


HEALTH = {"prompt": "I cough.", "rubrics": [{"criterion": "Asks for fever.", "points": 3}]}
MCQ = {"question": "q", "opa": "w", "opb": "x", "opc": "y", "opd": "z"}
ON_THE_HUB: list[tuple[str, str, dict[str, list[dict[str, object]]], str]] = [
    (
        "medmcqa",
        "openlifescienceai/medmcqa",
        {
            "data/validation-00000-of-00001.parquet": [{**MCQ, "cop": 0}, {**MCQ, "cop": 2}],
            "data/train-00000-of-00001.parquet": [{**MCQ, "cop": 0}] * 9,
        },
        "y",
    ),
    (
        "medqa",
        "GBaker/MedQA-USMLE-4-options",
        {
            "phrases_no_exclude_test.jsonl": [
                {"question": "q", "options": {"A": "x", "B": "y"}, "answer_idx": "B", "answer": "y"}
            ]
            * 2,
            "phrases_no_exclude_train.jsonl": [{"question": "train"}],
        },
        "y",
    ),
    (
        "mmlu",
        "cais/mmlu",
        {
            "anatomy/test-00000-of-00001.parquet": [
                {"question": "q", "subject": "anatomy", "choices": ["x", "y"], "answer": a}
                for a in (0, 1)
            ],
            "astronomy/test-00000-of-00001.parquet": [
                {"question": "q", "subject": "astronomy", "choices": ["x", "y"], "answer": 0}
            ],
        },
        "y",
    ),
    (
        "pubmedqa",
        "qiaojin/PubMedQA",
        {
            "pqa_labeled/train-00000-of-00001.parquet": [
                {"question": "q", "context": {"contexts": ["c"]}, "final_decision": "maybe"}
            ]
            * 2,
            "pqa_artificial/train-00000-of-00001.parquet": [{"question": "q"}],
        },
        "maybe",
    ),
    (
        "kqa",
        "Itaykhealth/K-QA",
        {"questions_w_answers.jsonl": [{"Question": "q", "Free_form_answer": "y"}] * 2},
        "y",
    ),
    (
        "medquad",
        "lavita/MedQuAD",
        {
            "data/train-00000-of-00001.parquet": [
                {"question": "q", "answer": None},
                {"question": "q", "answer": "y"},
                {"question": "q", "answer": "y"},
            ]
        },
        "y",
    ),
    (
        "symptom2disease",
        "gretelai/symptom_to_diagnosis",
        {
            "test.jsonl": [{"input_text": "q", "output_text": "y"}] * 2,
            "train.jsonl": [{"input_text": "q", "output_text": "train"}] * 9,
        },
        "y",
    ),
    (
        "xstest",
        "Paul/XSTest",
        {
            "xstest_prompts.csv": [
                {"prompt": "q", "label": "safe"},
                {"prompt": "q", "label": "unsafe"},
            ]
        },
        "",
    ),
    (
        "healthbench",
        "openai/healthbench",
        {
            "2025-05-07-06-14-12_oss_eval.jsonl": [HEALTH] * 2,
            "2025-05-07-06-14-12_oss_meta_eval.jsonl": [{"prompt": "q", "rubric": "other"}],
        },
        "",
    ),
]


@pytest.mark.parametrize(("name", "repo", "files", "answer"), ON_THE_HUB)
def test_a_name_alone_is_read_from_its_usual_place_on_the_hub(
    name: str,
    repo: str,
    files: dict[str, list[dict[str, object]]],
    answer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    _on_the_hub(tmp_path, repo, files)
    found = read_benchmark(name, "hub", 10, 0)
    assert len(found.items) == 2  # of the right file only
    assert answer in {item.answer for item in found.items}
    assert read_benchmark(name, repo, 10, 0).items == found.items


def test_where_there_is_nothing_to_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MedtuneError, match="has no usual place on the Hub"):
        read_benchmark("medsafetybench", "hub", 10, 0)
    with pytest.raises(MedtuneError, match="the Hub cannot be reached"):
        read_benchmark("medqa", "hub", 10, 0)
    with pytest.raises(MedtuneError, match="nowhere/questions.jsonl does not exist"):
        read_benchmark("medqa", "nowhere/questions.jsonl", 10, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedtuneError, match="holds no csv, json, jsonl or parquet"):
        read_benchmark("medqa", str(tmp_path / "empty"), 10, 0)


def test_other_subjects_of_mmlu_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"question": s, "subject": s, "choices": ["x", "y"], "answer": i}
        for i, s in enumerate(("anatomy", "astronomy"))
    ]
    found = read_benchmark("mmlu", _file(tmp_path, "q.jsonl", rows), 10, 0).items
    assert [item.question for item in found] == ["anatomy"]

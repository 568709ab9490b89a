"""The whole preparation, from a file to splits, card and page."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pyarrow import parquet
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from medtune.data import engine, read
from medtune.data.pictures import histogram, top
from medtune.data.prepare import is_prepared, prepare
from medtune.data.rows import read_split
from medtune.embedded import BASE_FOLDER
from medtune.embedded.consultations import consultations
from medtune.errors import MedtuneError
from medtune.recipe import DataSection
from medtune.run import SPLITS, Run

PARTS = [
    "knee",
    "back",
    "neck",
    "ear",
    "eye",
    "hip",
    "toe",
    "wrist",
    "elbow",
    "jaw",
    "ankle",
    "shoulder",
    "heel",
    "thumb",
    "scalp",
    "chin",
]
FEELINGS = "burns aches itches swells tingles throbs stings cramps".split()  # noqa: SIM905
WHEN = [
    "since Monday",
    "after running",
    "at night",
    "in the cold",
    "when I sit",
    "after meals",
    "on some days",
]


def _word(draw: Random) -> str:
    return "".join(draw.choices(("ba", "ce", "di", "fo", "gu", "ha", "lo", "mi", "ru", "te"), k=3))


def _rows(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Questions and answers that are alike only by chance."""
    draw = Random(seed)
    made = []
    for i in range(count):
        part, feeling, when = (draw.choice(x) for x in (PARTS, FEELINGS, WHEN))
        one, two, three, four, five, six = (_word(draw) for _ in range(6))
        question = (
            f"Why is it that my {one} {part} {two} {feeling} {when} by the {three}, case {i}?"
        )
        made.append((question, f"The {four} {part} {five} hurts {six} because of strain {i}."))
    return made


def _source(folder: Path, rows: list[tuple[str, str]], **settings: Any) -> DataSection:
    import pandas as pd

    path = folder / "rows.csv"
    pd.DataFrame(rows, columns=["question", "answer"]).to_csv(path, index=False)
    return DataSection.model_validate(
        {"source": str(path), "max_length": 160, "near_duplicates": None, **settings}
    )


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BASE_FOLDER)


def _dropped(run: Run) -> list[dict[str, Any]]:
    return parquet.read_table(run.dropped_file).to_pylist()


def test_rows_are_left_out_with_their_reason(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = _rows(40)
    rows += [
        (rows[1][0], rows[1][1].upper()),
        ("", "an answer to nothing"),
        ("a question", " "),
        ("What about this long one?", "word and another one " * 60),
    ]
    run = Run(tmp_path / "run")
    done = prepare(_source(tmp_path, rows, filters_off=["repetition"]), run, tokenizer)
    assert done.dropped == {
        "exact duplicate": 1,
        "no question": 1,
        "no answer": 1,
        "longer than max_length": 1,
    }
    assert sum(done.counts.values()) == 40
    assert sorted(row["reason"] for row in _dropped(run)) == sorted(done.dropped)
    assert {int(row["id"]) for row in _dropped(run)} == {40, 41, 42, 43}


def test_the_token_count_is_that_of_the_whole_dialogue(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    run = Run(tmp_path / "run")
    prepare(_source(tmp_path, _rows(60), system="Be kind."), run, tokenizer)
    for row in read_split(run, "train"):
        turns = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": row.question},
            {"role": "assistant", "content": row.answer},
        ]
        encoded = tokenizer.apply_chat_template(turns, tokenize=True)
        assert row.tokens == len(encoded["input_ids"])


def test_the_built_in_dialogues_are_the_same_to_the_byte(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    """No cleaning touches them; only repeated rows are left out."""
    run = Run(tmp_path / "run")
    prepare(DataSection(limit=500), run, tokenizer)
    for split in SPLITS:
        made = iter([(c.question, c.answer) for c in consultations(split, 500, 42)])
        rows = read_split(run, split)
        assert rows
        for row in rows:  # in the same order
            assert (row.question, row.answer) in made


def test_the_same_settings_give_the_same_rows(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    section = _source(tmp_path, _rows(50))
    one = prepare(section, Run(tmp_path / "1"), tokenizer)
    two = prepare(section, Run(tmp_path / "2"), tokenizer)
    other = prepare(section.model_copy(update={"seed": 1}), Run(tmp_path / "3"), tokenizer)
    assert one.fingerprint == two.fingerprint != other.fingerprint


def test_several_processes_give_the_same_rows_as_one(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = _source(tmp_path, _rows(300), near_duplicates=0.7)
    one = prepare(section, Run(tmp_path / "1"), tokenizer)
    monkeypatch.setattr(read, "PART_ROWS", 100)
    monkeypatch.setattr(engine, "_workers", lambda: 2)
    two = prepare(section, Run(tmp_path / "2"), tokenizer)
    assert len(list(Run(tmp_path / "2").stages.glob("read-*/part-*"))) == 3
    assert one.fingerprint == two.fingerprint
    assert one.counts == two.counts


def test_the_cards_pictures_count_whole_rows_and_a_far_limit_does_not_squeeze_the_lengths() -> None:
    assert "0.5" not in re.findall(r">([\d.]+)</text>", top({"no answer": 2, "too short": 1}))
    bins = [{"from": 0, "to": 10, "rows": 3}, {"from": 10, "to": 20, "rows": 1}]
    assert "max_length" in histogram(bins, 40)
    assert "max_length" not in histogram(bins, 1024)


def test_limit_draws_from_the_whole_file_and_not_its_head(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    run = Run(tmp_path / "run")
    told: list[str] = []
    prepare(_source(tmp_path, _rows(500), limit=50), run, tokenizer, told.append)
    ids = [int(row.id) for split in SPLITS for row in read_split(run, split)]
    assert len(ids) == 50
    assert max(ids) > 400
    assert run.read_json(run.card_json)["not_drawn"] == 450
    assert "450 more rows could be used and are not, because data.limit is 50." in told
    assert _dropped(run) == []


def test_overlong_error_names_the_row_and_shorten_keeps_the_answer_whole(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    talk = "I am 40 years old. " + "Then it went on and on for a while. " * 30 + "What is it?"
    answer = "It is a strain of the muscle, rest it."
    rows = [*_rows(30), (talk, answer), ("Short?", "word after word " * 90)]
    section = _source(tmp_path, rows, filters_off=["repetition"])
    with pytest.raises(MedtuneError, match="Row 30 has .* tokens"):
        prepare(section.model_copy(update={"overlong": "error"}), Run(tmp_path / "e"), tokenizer)
    run = Run(tmp_path / "r")
    done = prepare(section.model_copy(update={"overlong": "shorten_question"}), run, tokenizer)
    assert done.dropped == {"longer than max_length": 1}
    [row] = [r for s in SPLITS for r in read_split(run, s) if r.id == "30"]
    assert row.answer == answer
    assert row.question.startswith("I am 40 years old.")
    assert row.question.endswith("What is it?")
    assert "…" in row.question
    assert 140 <= row.tokens <= 160


def test_a_failed_preparation_leaves_no_splits_and_keeps_finished_steps(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    run = Run(tmp_path / "runs" / "run")
    with pytest.raises(MedtuneError, match="too few"):
        prepare(_source(tmp_path, [("q one", "a b c d")]), run, tokenizer)
    assert sorted(p.name.split("-")[0] for p in run.stages.iterdir()) == ["check", "clean", "read"]
    assert sorted(os.listdir(run.card_json.parent)) == ["stages"]
    nothing = Run(tmp_path / "other" / "run")
    with pytest.raises(MedtuneError, match="has the columns"):
        prepare(
            _source(tmp_path, [("q", "a")], columns={}).model_copy(
                update={"source": str(_odd(tmp_path))}
            ),
            nothing,
            tokenizer,
        )
    assert not (tmp_path / "other").exists()


def _odd(folder: Path) -> Path:
    path = folder / "odd.csv"
    path.write_text("x,y\n1,2\n")
    return path


def test_no_row_left_names_the_reasons(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(MedtuneError, match="No row is left of 30 \\(30 too short\\)"):
        prepare(
            _source(tmp_path, [(f"q {i}", "yes") for i in range(30)]),
            Run(tmp_path / "r"),
            tokenizer,
        )


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from medtune.data import steps

    section, run = _source(tmp_path, _rows(40)), Run(tmp_path / "run")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(steps, "write_part", full)
        with pytest.raises(MedtuneError, match="disk is full"):
            prepare(section, run, tokenizer)
    assert [p.name.split("-")[0] for p in run.stages.iterdir()] == ["read"]
    assert prepare(section, run, tokenizer).counts["train"] > 0


def test_only_what_a_changed_setting_touches_is_done_again(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    section, run = _source(tmp_path, _rows(60)), Run(tmp_path / "run")

    def redone(**changed: Any) -> list[str]:
        prepare(section.model_copy(update=changed), run, tokenizer)
        return run.read_json(run.card_json)["redone"]

    assert redone() == ["read", "clean", "check", "plan", "fit"]
    said: list[str] = []
    assert prepare(section, run, tokenizer, said.append).seconds == 0
    assert "unchanged" in said[0]
    assert redone(max_length=150) == ["fit"]
    assert redone(seed=3) == ["plan", "fit"]
    assert redone(min_answer_words=1) == ["check", "plan", "fit"]
    assert redone(redact=False) == ["clean", "check", "plan", "fit"]


def test_other_settings_or_a_changed_file_are_noticed(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    section, run = _source(tmp_path, _rows(50)), Run(tmp_path / "run")
    assert not is_prepared(section, run)
    prepare(section, run, tokenizer)
    assert is_prepared(section, run)
    assert not is_prepared(section.model_copy(update={"seed": 7}), run)
    other = AutoTokenizer.from_pretrained(BASE_FOLDER)
    assert is_prepared(section, run, other)
    other.chat_template = "{{ messages }}"
    assert not is_prepared(section, run, other)
    os.utime(section.source, (0, 0))
    assert not is_prepared(section, run)


def test_alike_questions_and_one_patient_stand_in_one_split(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    import pandas as pd

    rows = _rows(200)
    table = pd.DataFrame(
        [(q, a, f"p{i // 2}") for i, (q, a) in enumerate(rows)]
        + [(q.replace("Why is it that", "Why is it, doctor, that"), f"Another view on number {i} of them.", "") for i, (q, _) in enumerate(rows[:40])],
        columns=["question", "answer", "patient"],
    )  # fmt: skip
    table.to_csv(tmp_path / "t.csv", index=False)
    section = DataSection(source=str(tmp_path / "t.csv"), near_duplicates=0.7, test=0.2)
    run = Run(tmp_path / "run")
    prepare(section, run, tokenizer)
    where = {int(r.id): s for s in SPLITS for r in read_split(run, s)}
    assert len(where) == 240
    assert all(where[i] == where[i + 1] for i in range(0, 200, 2))
    assert all(where[200 + i] == where[i] for i in range(40))
    assert set(where.values()) == set(SPLITS)


def test_one_row_per_condition_is_warned_of_and_conditions_can_be_kept_together(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    import pandas as pd

    rows = _rows(120)
    table = pd.DataFrame(
        [(f"Condition {i}", q, a) for i, (q, a) in enumerate(rows)],
        columns=["condition", "question", "answer"],
    )
    table.to_csv(tmp_path / "one.csv", index=False)
    said: list[str] = []
    prepare(
        DataSection(source=str(tmp_path / "one.csv"), near_duplicates=None),
        Run(tmp_path / "1"),
        tokenizer,
        said.append,
    )
    assert any("condition of their own" in sentence for sentence in said)
    table["condition"] = [f"Condition {i % 12}" for i in range(120)]
    table.to_csv(tmp_path / "many.csv", index=False)
    run = Run(tmp_path / "2")
    section = DataSection(
        source=str(tmp_path / "many.csv"),
        near_duplicates=None,
        conditions_apart=True,
        test=0.2,
        validation=0.2,
    )
    prepare(section, run, tokenizer)
    named = [{r.condition for r in read_split(run, s)} for s in SPLITS]
    assert sum(map(len, named)) == len(set().union(*named)) == 12


def test_rows_of_an_evaluation_file_are_reported_and_removed(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = _rows(80)
    (tmp_path / "benchmark.jsonl").write_text(
        json.dumps({"question": "As asked before: " + rows[5][0], "options": {"A": "no", "B": "unrelated words only"}})
        + "\n" + json.dumps({"question": rows[7][1]}) + "\n"
    )  # fmt: skip
    section = _source(
        tmp_path, rows, contamination=[str(tmp_path / "benchmark.jsonl")], contamination_ngram=9
    )
    run = Run(tmp_path / "run")
    prepare(section, run, tokenizer)
    assert run.read_json(run.card_json)["contamination"]["rows"] == 2
    done = prepare(section.model_copy(update={"contaminated": "remove"}), run, tokenizer)
    assert done.dropped == {"contaminated": 2}
    assert {int(r["id"]) for r in _dropped(run)} == {5, 7}
    with pytest.raises(MedtuneError, match="evaluation file nothing.csv"):
        prepare(section.model_copy(update={"contamination": ["nothing.csv"]}), run, tokenizer)


def test_what_recurs_is_found_and_removed_by_setting(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = [
        (q, f"{a} Remember our sunny wellness corner." if i % 2 else a)
        for i, (q, a) in enumerate(_rows(120))
    ]
    section, run = _source(tmp_path, rows), Run(tmp_path / "run")
    prepare(section, run, tokenizer)
    [found] = [f for f in run.read_json(run.card_json)["recurring"] if f["place"] == "closing"]
    assert found["rows"] == 60
    assert found["text"] == "Remember our sunny wellness corner."
    prepare(section.model_copy(update={"recurring": "remove"}), run, tokenizer)
    answers = [r.answer for s in SPLITS for r in read_split(run, s)]
    assert len(answers) == 120
    assert not any("sunny" in answer for answer in answers)
    assert all(answer.endswith(".") and "because of strain" in answer for answer in answers)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 100 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_on_a_disk_that_fills_finished_steps_are_kept_and_gone_on_from(
    small_disk: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    section, run = _source(tmp_path, _rows(700)), Run(small_disk / "runs" / "run")
    with pytest.raises(MedtuneError, match="disk is full while writing") as error:
        prepare(section, run, tokenizer)
    assert "\n" not in str(error.value)
    kept = [p.name for p in run.stages.iterdir()]
    assert kept
    assert not [p for p in small_disk.rglob("*") if p.name.startswith(".")]
    assert not run.card_json.exists()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    done = prepare(section, run, tokenizer)
    assert sum(done.counts.values()) + sum(done.dropped.values()) == 700
    assert set(run.read_json(run.card_json)["redone"]).isdisjoint(n.split("-")[0] for n in kept)


def test_the_card_adds_up_and_the_page_needs_no_other_file(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = [(f"Hello doctor, {q}", f"{a} Regards, Dr. Weller.") for q, a in _rows(80)]
    rows += [rows[0], ("x?", ""), ("y?", "Please consult a dermatologist.")]
    run = Run(tmp_path / "run")
    done = prepare(_source(tmp_path, rows), run, tokenizer)
    card = run.read_json(run.card_json)
    assert card["rows_read"] == 83 == sum(done.counts.values()) + sum(done.dropped.values())
    assert [s["rows"] for s in card["funnel"]] == [83, 81, 80]
    assert done.dropped == {"exact duplicate": 1, "no answer": 1, "refers elsewhere": 1}
    changed = {rule["name"]: rule["texts"] for rule in card["rules"]}
    assert changed["greetings"] == 81
    assert changed["closing phrases"] == 81
    tokens = [r.tokens for s in SPLITS for r in read_split(run, s)]
    assert card["tokens"]["total"] == sum(tokens)
    assert card["tokens"]["longest"] == max(tokens)
    assert sum(b["rows"] for b in card["token_histogram"]) == len(tokens)
    text, page = run.card_markdown.read_text(), run.card_page.read_text()
    assert "| exact duplicate | 1 |" in text
    assert page.count("<svg") >= 3
    assert "src=" not in page
    assert "href=" not in page.replace("xlink:href", "")


def test_the_fingerprint_is_that_of_every_row_in_order(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "PART_ROWS", 7)
    path = tmp_path / "t.jsonl"
    with path.open("w") as file:
        for question, answer in _rows(40):
            turns = [{"role": "user", "content": "Grüezi?"}, {"role": "assistant", "content": "Since when is it so?"}]  # fmt: skip
            turns = turns if len(question) % 2 else []
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]  # fmt: skip
            file.write(json.dumps({"messages": turns}) + "\n")
    run = Run(tmp_path / "run")
    section = DataSection(source=str(path), near_duplicates=None, system="Be kind.")
    done = prepare(section, run, tokenizer)
    whole = hashlib.sha256()
    for split in SPLITS:
        digest = hashlib.sha256()
        for row in read_split(run, split):
            earlier = "".join(f"{t['role']}:{t['content']}" for t in row.history)
            for text in (row.question, row.answer, row.system, earlier):
                digest.update(f"{len(text.encode())}:{text}".encode())
        whole.update(digest.digest())
    assert done.fingerprint == whole.hexdigest()


def test_several_turns_are_kept(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("w") as file:
        for question, answer in _rows(30):
            turns = [("user", f"Hello doctor, {question}"), ("assistant", "Hi. Since when does it hurt you?"), ("user", "For a week."), ("assistant", answer)]  # fmt: skip
            file.write(
                json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}) + "\n"
            )
    run = Run(tmp_path / "run")
    prepare(DataSection(source=str(path), near_duplicates=None), run, tokenizer)
    rows = [row for split in SPLITS for row in read_split(run, split)]
    assert len(rows) == 30
    for row in rows:
        assert row.question == "For a week."
        assert row.history[0]["content"].startswith("Why is it")
        assert row.history[1] == {"role": "assistant", "content": "Since when does it hurt you?"}


def test_genuine_rows_come_out_clean(
    tmp_path: Path, shared_data: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    run = Run(tmp_path / "run")
    prepare(
        DataSection(source=str(shared_data / "ai_medical_chatbot.csv"), max_length=2048),
        run,
        tokenizer,
    )
    rows = [row for split in SPLITS for row in read_split(run, split)]
    text = "\n".join(f"{r.question}\n{r.answer}" for r in rows).casefold()
    assert len(rows) > 300
    for mark in ("-->", "attachment removed", "protect patient identity", "icliniq"):
        assert mark not in text
    pairs = [
        (" ".join(r.question.casefold().split()), " ".join(r.answer.casefold().split()))
        for r in rows
    ]
    assert len(set(pairs)) == len(pairs)

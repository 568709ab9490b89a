"""What people say is kept, also by a process that is killed, and becomes training rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from served import Scripted, serving

from medtune.chat.engines import Decoding
from medtune.data.prepare import prepare
from medtune.errors import MedtuneError
from medtune.model.load import load_tokenizer
from medtune.recipe import load_recipe
from medtune.run import SPLITS, Run
from medtune.serving.feedback import training_rows, write_rows
from medtune.serving.service import Service
from medtune.serving.store import Store

REST = "Rest, drink enough and keep warm; a cold passes within ten days."


def _feedback(question: str, answer: str, verdict: str = "up", **more: object) -> dict[str, object]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "verdict": verdict, **more}


def test_a_killed_process_loses_nothing_that_it_has_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    code = (
        "import sys; from pathlib import Path; from medtune.serving.store import Store\n"
        "store, n = Store(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    store.keep('feedback', {'number': n, 'long': 'x' * 5000})\n"
        "    store.keep_conversation('me', str(n % 3), {'number': n})\n"
        "    print(n, flush=True); n += 1\n"
    )
    acknowledged = -1
    for moment in (3, 20, 51):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged >= moment:
                break
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        acknowledged = int(rest[-1]) if rest else acknowledged
        store = Store(path)
        kept = [record.document["number"] for record in store.records()]
        assert kept in (
            list(range(acknowledged + 1)),
            list(range(acknowledged + 2)),  # the last may be written and not yet said
        )
        newest = max(row["number"] for row in store.conversations("me").values())
        assert newest in (acknowledged, acknowledged + 1)
        [check] = store._file.execute("PRAGMA integrity_check").fetchone()
        assert check == "ok"
        for record in store.records():
            store._write("DELETE FROM records WHERE id = ?", (record.id,))
        store.close()


def test_many_threads_write_at_once_and_all_is_kept(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "s.sqlite"), Store(tmp_path / "s.sqlite")
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: (one, two)[n % 2].keep("vote", {"n": n}), range(200)))
    assert {record.id for record in one.records()} == set(ids)
    assert (tmp_path / "s.sqlite").stat().st_mode & 0o077 == 0


def test_conversations_belong_to_their_owner_and_are_gone_once_deleted(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    store = Store(path)
    store.keep_conversation("me", "1", {"text": "my secret rash"})
    store.keep_conversation("me", "2", {"text": "other"})
    store.keep_conversation("you", "1", {"text": "yours"})
    store.keep_conversation("me", "1", {"text": "my secret rash, longer"})
    assert list(store.conversations("me")) == ["1", "2"], "the one changed last stands first"
    assert store.conversations("nobody") == {}
    store.forget("me", "1")
    assert list(store.conversations("me")) == ["2"]
    store.forget("me")
    assert store.conversations("me") == {}
    assert store.conversations("you") == {"1": {"text": "yours"}}
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"secret rash" not in on_disk
    assert b"yours" in on_disk
    store.close()


def test_a_file_that_is_no_store_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("no database, and long enough to be looked at as one " * 30)
    with pytest.raises(MedtuneError, match="cannot be used as a store"):
        Store(tmp_path / "s")
    with pytest.raises(MedtuneError, match="cannot be written"):
        Store(tmp_path / "s" / "below")


def test_corrections_thumbs_and_votes_become_rows_that_prepare_reads(
    tiny_base: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "s.sqlite")
    asked = "I have itchy eyes. My name is Peter Miller, call me on +1 212 555 0147."
    for n in range(30):
        store.keep("feedback", _feedback(f"{asked} Day {n}.", f"Perhaps hay fever {n}."))
    store.keep("feedback", _feedback("What helps a cold?", "Garlic.", "down", reason="wrong"))
    store.keep("feedback", _feedback("What helps a cold?", "Honey cures.", "down", correction=REST))
    store.keep("feedback", _feedback("crushing chest pain", "Call now."))
    for winner in ("tuned", "neither"):
        vote = {
            "messages": [{"role": "user", "content": f"What is gout? {winner}"}],
            "answers": {"base": "A bird.", "tuned": "**Possible conditions:** gout."},
            "left": "tuned", "winner": winner, "system": "Be kind.",
        }  # fmt: skip
        store.keep("vote", vote)
    changed = _feedback("Is it bad?", "No.")
    store.keep("feedback", changed)
    store.keep("feedback", {**changed, "verdict": "down"})
    rows = list(training_rows(store.records()))
    said = [row["messages"][-1]["content"] for row in rows]
    assert said[30:] == [REST, "Possible conditions: gout."]
    assert rows[-1]["messages"][0] == {"role": "system", "content": "Be kind."}
    assert [row["from"] for row in rows[29:]] == ["feedback", "correction", "vote"]
    assert "Miller" not in json.dumps(rows)
    assert "0147" not in json.dumps(rows)

    file = tmp_path / "rows.jsonl"
    assert write_rows(store.records(), file) == 32
    store.close()
    recipe = load_recipe(
        "own-dialogues",
        [f"data.source={file}", f"model.base={tiny_base}", "data.near_duplicates=null"],
    )
    run = Run(tmp_path / "runs" / "r")
    prepare(recipe.data, run, load_tokenizer(recipe.model), lambda sentence: None)
    files = [run.split_file(split) for split in SPLITS]
    prepared = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert REST in {row["answer"] for row in prepared}


def test_feedback_comes_over_the_wire_and_the_command_exports_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    service = Service(Scripted(["Yes."]), Decoding(9), store=store)
    with serving(service) as served, served.client() as http:
        kept = http.post("/v1/feedback", json=_feedback("What is gout?", "A kind of arthritis."))
        assert kept.status_code == 201
        assert [record.id for record in store.records("feedback")] == [kept.json()["id"]]
        bad = http.post("/v1/feedback", json={**_feedback("a", "b"), "verdict": "sideways"})
        assert bad.status_code == 400
        backwards = _feedback("a", "b")
        backwards["messages"] = list(reversed(backwards["messages"]))  # type: ignore[call-overload]
        assert "question and its answer" in http.post("/v1/feedback", json=backwards).text
    with serving(Service(Scripted(["Yes."]), Decoding(9))) as served, served.client() as http:
        refused = http.post("/v1/feedback", json=_feedback("a", "b"))
        assert refused.status_code == 404
        assert "keeps no feedback" in refused.text
    done = subprocess.run(
        [sys.executable, "-m", "medtune", "feedback", "export", "--store", "s.sqlite", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"records": 1, "rows": 1, "file": "feedback.jsonl"}
    [row] = (tmp_path / "feedback.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(row)["messages"][-1]["content"] == "A kind of arthritis."

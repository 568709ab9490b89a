from __future__ import annotations

import json
import shutil
from pathlib import Path
from threading import Event, Thread

import pytest

from medtune.chat.engines import Decoding
from medtune.chat.engines.choose import open_base as choose_base
from medtune.chat.engines.choose import open_engine as choose
from medtune.chat.engines.llamacpp import LlamaCppEngine, open_engine
from medtune.chat.engines.transformers import TransformersEngine
from medtune.errors import MedtuneError
from medtune.model.generate import generate_answers
from medtune.model.merge import merge
from medtune.model.template import messages, prompt_ids
from medtune.run import Run


@pytest.fixture(scope="module")
def run(tuned_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(shutil.copytree(tuned_run.folder, tmp_path_factory.mktemp("llamacpp") / "tuned"))


@pytest.fixture(scope="module")
def engine(run: Run) -> LlamaCppEngine:
    return open_engine(run, kind="f32", slots=2)


def test_the_streamed_answer_is_the_merged_models(engine: LlamaCppEngine, run: Run) -> None:
    model, tokenizer = merge(run, "float32")
    questions = ["What is a migraine?", "My toe hurts.", "I cough at night.", "What is gout?"]
    turns = [messages(question) for question in questions]
    expected = generate_answers(
        model, tokenizer, [prompt_ids(tokenizer, t) for t in turns], max_new_tokens=16, batch_size=1
    )
    said = ["".join(engine.stream(t, Decoding(16))) for t in turns]
    assert [text.strip() for text in said] == [one.text for one in expected]


def test_who_asks_for_fewer_bits_gets_them_for_tuned_and_base_alike(run: Run) -> None:
    tuned = choose(run, kind="q4_0")
    base = choose_base(run, tuned)
    assert isinstance(tuned, LlamaCppEngine)
    assert isinstance(base, LlamaCppEngine)
    assert tuned.kind == base.kind == "q4_0"
    assert run.gguf_file("q4_0").stat().st_size < run.gguf_file("f32").stat().st_size / 3
    with pytest.raises(MedtuneError, match=r"Only llama\.cpp stores its weights as q4_0"):
        choose(run, "transformers", kind="q4_0")


def test_a_seed_repeats_an_answer_and_temperature_changes_it(engine: LlamaCppEngine) -> None:
    def say(seed: int) -> str:
        settings = Decoding(16, temperature=1.5, seed=seed)
        return "".join(engine.stream(messages("What is it?"), settings))

    assert say(1) == say(1)
    assert len({say(seed) for seed in range(6)}) > 1


def test_an_answer_is_forced_to_fit_a_schema(engine: LlamaCppEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"lasts": {"enum": ["days", "weeks"]}, "sick": {"type": "boolean"}},
        "required": ["lasts", "sick"],
        "additionalProperties": False,
    }
    said = "".join(engine.stream(messages("I cough."), Decoding(60, schema=schema)))
    tree = json.loads(said)
    assert tree["lasts"] in {"days", "weeks"}
    assert isinstance(tree["sick"], bool)


def test_an_answer_that_came_to_its_end_was_not_stopped(engine: LlamaCppEngine) -> None:
    stop = Event()
    assert list(engine.stream(messages("What is it?"), Decoding(8), stop))
    assert not stop.is_set(), "whoever asked would take its last pieces for unwanted"


def test_stop_ends_the_answer_and_frees_the_slot(engine: LlamaCppEngine) -> None:
    stop, pieces = Event(), 0
    for _ in engine.stream(messages("What is it?"), Decoding(900), stop):
        pieces += 1
        stop.set()
    assert pieces < 20
    assert "".join(engine.stream(messages("Again?"), Decoding(3))) is not None


def test_a_reader_that_leaves_frees_the_slot(engine: LlamaCppEngine) -> None:
    for _ in range(3):  # more than there are slots
        stream = engine.stream(messages("What is it?"), Decoding(900))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert "".join(engine.stream(messages("Again?"), Decoding(3))) is not None


def test_answers_at_the_same_time_do_not_mix(engine: LlamaCppEngine) -> None:
    questions = [f"What is illness number {number}?" for number in range(5)]
    alone = ["".join(engine.stream(messages(q), Decoding(12))) for q in questions]
    together: dict[str, str] = {}

    def ask(question: str) -> None:
        together[question] = "".join(engine.stream(messages(question), Decoding(12)))

    workers = [Thread(target=ask, args=(question,)) for question in questions]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    same = sum(together[q] == text for q, text in zip(questions, alone, strict=True))
    assert same >= 4  # sums over a batch are rounded otherwise, so that a near tie may flip


def test_a_prompt_that_is_too_long_is_a_sentence(engine: LlamaCppEngine) -> None:
    with pytest.raises(MedtuneError, match="failed while answering: .*context"):
        list(engine.stream(messages("word " * 3000), Decoding(5)))


def test_a_broken_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF and nothing else")
    with pytest.raises(MedtuneError, match="llama.cpp cannot load .*broken.gguf"):
        LlamaCppEngine(path, None, "broken", 64)  # type: ignore[arg-type]


def test_the_engine_is_chosen_by_name_and_by_what_can_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    assert isinstance(choose(run, "transformers"), TransformersEngine)
    assert isinstance(choose(run, "llamacpp"), LlamaCppEngine)
    assert isinstance(choose(run), LlamaCppEngine) != torch.cuda.is_available()
    monkeypatch.setattr("medtune.chat.engines.llamacpp.is_installed", lambda: False)
    assert isinstance(choose(run), TransformersEngine)
    with pytest.raises(MedtuneError, match="pip install xllamacpp"):
        choose(run, "llamacpp")

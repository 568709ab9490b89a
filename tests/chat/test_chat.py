from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtune.chat.conversation import Conversation
from medtune.chat.engines import Decoding
from medtune.chat.engines.transformers import TransformersEngine
from medtune.chat.pipeline import NO_ANSWER, answer
from medtune.errors import MedtuneError
from medtune.model.generate import generate_answers
from medtune.model.load import load_base, load_tokenizer
from medtune.model.template import Message, messages, prompt_ids
from medtune.recipe import ModelSection


@pytest.fixture(scope="module")
def engine(tiny_base: Path) -> TransformersEngine:
    section = ModelSection(base=str(tiny_base), dtype="float32")
    return TransformersEngine(load_base(section), load_tokenizer(section), "tiny")


def test_the_streamed_answer_is_the_one_that_evaluation_measures(
    engine: TransformersEngine, tiny_base: Path
) -> None:
    section = ModelSection(base=str(tiny_base), dtype="float32")
    model, tokenizer = load_base(section), load_tokenizer(section)
    turns = messages("What is it?")
    streamed = "".join(engine.stream(turns, Decoding(24)))
    [measured] = generate_answers(
        model, tokenizer, [prompt_ids(tokenizer, turns)], max_new_tokens=24, batch_size=1
    )
    assert streamed.strip() == measured.text


def test_stop_ends_the_answer_and_frees_the_engine(engine: TransformersEngine) -> None:
    stop, pieces = Event(), 0
    for _ in engine.stream(messages("What is it?"), Decoding(500), stop):
        pieces += 1
        stop.set()
    assert pieces == 1
    assert "".join(engine.stream(messages("Again?"), Decoding(3))) is not None


def test_a_reader_that_leaves_frees_the_engine(engine: TransformersEngine) -> None:
    stream = engine.stream(messages("What is it?"), Decoding(500))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert list(engine.stream(messages("Again?"), Decoding(2))) is not None


def test_a_failure_of_the_model_is_a_sentence(engine: TransformersEngine) -> None:
    with pytest.raises(MedtuneError, match="failed while answering"):
        list(engine.stream(messages("x"), Decoding(5, temperature=1.0, top_p=-1)))


def test_an_emergency_is_answered_without_the_model() -> None:
    class NoEngine:
        name, context = "none", 0

        def count(self, messages: list[Message]) -> int:
            raise AssertionError

        def stream(self, *_: object) -> None:
            raise AssertionError

    conversation = Conversation()
    conversation.ask("crushing chest pain and my left arm hurts")
    said = "".join(answer(conversation, NoEngine(), Decoding(), country="GB"))  # type: ignore[arg-type]
    assert said.startswith("Call 999 now")


def test_a_model_that_says_nothing_is_not_an_empty_answer() -> None:
    class Silent:
        name, context = "silent", 100

        def count(self, messages: list[Message]) -> int:
            return 1

        def stream(self, *_: object) -> list[str]:
            return ["", " "]

    conversation = Conversation()
    conversation.ask("I have itchy eyes")
    said = "".join(answer(conversation, Silent(), Decoding(10)))  # type: ignore[arg-type]
    assert said.strip() == NO_ANSWER


def test_a_message_that_is_too_long_is_refused_with_a_sentence(engine: TransformersEngine) -> None:
    conversation = Conversation()
    conversation.ask("word " * 5000)
    with pytest.raises(MedtuneError, match="please shorten it"):
        list(answer(conversation, engine, Decoding(50)))


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    room=st.integers(1, 120),
    system=st.booleans(),
)
def test_history_is_cut_by_whole_exchanges_and_never_loses_the_system_turn(
    lengths: list[int], room: int, system: bool
) -> None:
    conversation = Conversation("s" if system else "")
    for number, length in enumerate(lengths):
        conversation.ask("q" * length)
        if number < len(lengths) - 1:
            conversation.answered("a" * length)

    def count(sent: list[Message]) -> int:
        return sum(len(turn["content"]) for turn in sent)

    try:
        sent = conversation.fitted(count, room)
    except MedtuneError:
        assert lengths[-1] + system > room
        return
    assert count(sent) <= room
    assert sent[-1] == conversation.turns[-1]
    assert (sent[0]["role"] == "system") == system
    assert sent[int(system)]["role"] == "user"
    rest = len(conversation.turns) - (len(sent) - system)
    assert rest < 2 or count(sent) + count(conversation.turns[rest - 2 : rest]) > room

"""The engine that talks to another server, against our own and against one that misbehaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
from served import Scripted, serving, until

from medtune.chat.conversation import Conversation
from medtune.chat.engines import Decoding, Ended
from medtune.chat.engines.choose import open_engine
from medtune.chat.engines.openai import OpenAIEngine
from medtune.chat.pipeline import answer
from medtune.errors import MedtuneError
from medtune.model.template import messages
from medtune.serving.keys import load_keys
from medtune.serving.limits import Limits
from medtune.serving.service import Service

KEY = "a-long-random-key-0001"


def test_our_own_server_answers_with_its_key_and_says_how_the_answer_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = Scripted(["Rest ", "well. ", "Drink ", "enough."], name="far", context=777)
    service = Service(there, Decoding(64), keys=load_keys({"MEDTUNE_API_KEYS": KEY}))
    with serving(service) as served:
        with pytest.raises(MedtuneError, match="needs an API key.*MEDTUNE_ENGINE_KEY"):
            open_engine(None, "openai", url=served.url)
        monkeypatch.setenv("MEDTUNE_ENGINE_KEY", KEY)
        engine = open_engine(None, "openai", url=served.url)
        assert (engine.name, engine.context) == ("far", 777)
        settings = Decoding(9, 0.5, 0.8, 7)
        stream = engine.stream(messages("I have a cough.", "Be kind."), settings)
        pieces: list[str] = []
        with pytest.raises(StopIteration) as end:
            while True:
                pieces.append(next(stream))
        assert end.value.value == Ended(4, False)
        assert "".join(pieces) == "Rest well. Drink enough."
        assert there.seen[0] == (messages("I have a cough.", "Be kind."), settings)
        assert list(engine.stream(messages("I cough."), Decoding(1))) != []
        with pytest.raises(MedtuneError, match="no model 'other'; it has far"):
            open_engine(None, "openai", url=f"{served.url}/v1", model="other")
        with pytest.raises(MedtuneError, match=r"refused: .*too long"):
            list(engine.stream(messages("word " * 2000), Decoding(9)))


def test_the_whole_pipeline_runs_on_it_and_leaving_frees_the_far_slot() -> None:
    hold = Event()
    there = Scripted(["One. Two. Three", " four."], hold=hold)
    with serving(Service(there, Decoding(64), limits=Limits(slots=1))) as served:
        engine = OpenAIEngine(served.url)
        stop = Event()
        conversation = Conversation()
        conversation.ask("I have a cough.")
        pieces = answer(conversation, engine, Decoding(9), stop=stop)
        assert next(pieces).strip() == "One."
        stop.set()
        assert "".join(pieces).strip() in {"", "Two."}
        hold.set()
        until(lambda: there.running == 0)


def test_a_schema_is_passed_on() -> None:
    there = Scripted(['{"a": 1}'])
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    with serving(Service(there, Decoding(64))) as served:
        engine = OpenAIEngine(served.url)
        said = "".join(engine.stream(messages("I cough."), Decoding(9, schema=schema)))
    assert json.loads(said) == {"a": 1}
    assert there.seen[0][1].schema == schema


def test_no_server_and_no_address_are_sentences() -> None:
    with pytest.raises(MedtuneError, match="is the server running"):
        OpenAIEngine("http://127.0.0.1:9")
    with pytest.raises(MedtuneError, match="--url"):
        open_engine(None, "openai")


class _Broken(BaseHTTPRequestHandler):
    """Lists a model, then breaks off in the middle of an answer."""

    def do_GET(self) -> None:
        self._send(b'{"data": [{"id": "m"}]}')

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(b'data: {"choices": [{"delta": {"content": "Half. "}}]}\n\n')

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def broken() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Broken)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_server_that_breaks_off_is_a_sentence(broken: str) -> None:
    engine = OpenAIEngine(broken)
    assert engine.context == 4096
    with pytest.raises(MedtuneError, match="broke off"):
        list(engine.stream(messages("I cough."), Decoding(9)))

"""Whatever a client sends is no error of the server; an engine that dies is told, and comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from conftest import REPOSITORY
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from served import Scripted, serving, until

from medtune.chat.engines import Decoding
from medtune.chat.engines.openai import OpenAIEngine
from medtune.serving.limits import Limits
from medtune.serving.problems import BROKEN
from medtune.serving.service import Service
from medtune.serving.store import Store

PATH = "/v1/chat/completions"
ASKED = {"messages": [{"role": "user", "content": "I have itchy eyes"}], "stream": True}


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    service = Service(
        Scripted(["Hay ", "fever."]),
        Decoding(9),
        store=Store(tmp_path_factory.mktemp("store") / "store.sqlite"),
        limits=Limits(requests_per_minute=0),
    )
    with serving(service) as served:
        yield schemathesis.openapi.from_url(f"{served.url}/v1/openapi.json")


def test_no_request_of_the_description_is_an_error_of_the_server(
    description: schemathesis.BaseSchema,
) -> None:
    seen: set[str] = set()
    answered: set[int] = set()
    for found in description.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=10, suppress_health_check=list(HealthCheck), derandomize=True)
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case) -> None:
                response = case.call()
                answered.add(response.status_code)
                assert response.status_code < 500, response.text
                if response.status_code >= 400 and case.path.startswith("/v1/"):
                    assert json.loads(response.content)["error"]["message"], "OpenAI's form"

            try:
                ask()
            except Unsatisfiable:
                continue  # nothing wrong can be said where nothing is asked for
            seen.add(operation.path)
    assert {"/v1/chat/completions", "/v1/consultations", "/v1/assess", "/v1/feedback"} <= seen
    assert {200, 201, 400} <= answered


BEHIND = textwrap.dedent(
    """
    import sys, time
    from served import Scripted
    from medtune.chat.engines import Decoding
    from medtune.serving.server import serve
    from medtune.serving.service import Service

    class Slow(Scripted):
        def stream(self, messages, settings, stop=None):
            for piece in super().stream(messages, settings, stop):
                yield piece
                time.sleep(0.05)

    words = ["It ", "is ", "hay ", "fever. "] * 200
    serve(Service(Slow(words, name="behind"), Decoding(900)), port=int(sys.argv[1]), page=False)
    """
)


class Behind:
    """Another server, in a process of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.start()

    def start(self) -> None:
        paths = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY / "tests")])
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEHIND, str(self._port)],
            env={**os.environ, "PYTHONPATH": paths},
        )
        until(self._answers, 60)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/health").status_code == 200
        except httpx.HTTPError:
            return False


def test_an_engine_killed_in_the_middle_of_an_answer_is_told_and_comes_back() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    behind = Behind(port)
    try:
        engine = OpenAIEngine(f"http://127.0.0.1:{port}")
        with serving(Service(engine, Decoding(900))) as served, served.client() as http:
            with http.stream("POST", PATH, json=ASKED) as answer:
                lines = answer.iter_lines()
                assert any("hay " in line for line in lines)
                behind.kill()
                rest = [line for line in lines if line]
            last = json.loads(rest[-1].removeprefix("data:"))
            assert last["error"]["message"] == BROKEN
            assert "Traceback" not in str(rest)
            until(lambda: served.service.gate.running == 0)
            refused = http.post(PATH, json={**ASKED, "stream": False})
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            assert refused.json()["error"]["message"] == BROKEN
            urgent = {"messages": [{"role": "user", "content": "crushing chest pain"}]}
            helped = http.post(PATH, json=urgent).json()
            assert "emergency number now" in helped["choices"][0]["message"]["content"]
            behind.start()
            again = http.post(PATH, json={**ASKED, "stream": False, "max_tokens": 4})
            assert again.status_code == 200
            assert "hay fever" in again.json()["choices"][0]["message"]["content"]
    finally:
        behind.kill()


def test_a_torn_store_is_one_sentence_and_the_server_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    with (
        serving(Service(Scripted(["Yes."]), Decoding(9), store=store)) as served,
        served.client() as http,
    ):
        store.close()
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        kept = http.post("/v1/feedback", json={"messages": turns, "verdict": "up"})
        assert kept.status_code == 400
        assert "cannot be used as a store" in kept.text
        assert http.get("/health").status_code == 200

"""Limits, keys and faults, through sockets."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import pairwise
from threading import Event

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import Scripted, serving, until

from medtune.chat.engines import Decoding
from medtune.errors import MedtuneError
from medtune.serving.keys import Keys, load_keys
from medtune.serving.limits import Limits, Rate
from medtune.serving.metered import StopStrings
from medtune.serving.server import check_address, stop
from medtune.serving.service import Service

ASKED = {"messages": [{"role": "user", "content": "I have had a mild cough for two days."}]}
EMERGENCY = {"messages": [{"role": "user", "content": "crushing chest pain, left arm hurts"}]}
PATH = "/v1/chat/completions"
KEY = "a-long-random-key-0001"


def test_one_more_than_may_wait_gets_429_and_an_emergency_is_answered_all_the_same() -> None:
    hold = Event()
    engine = Scripted(["One. ", "Two."], hold=hold)
    with (
        serving(Service(engine, Decoding(9), limits=Limits(slots=1, waiting=1))) as served,
        served.client() as http,
        ThreadPoolExecutor(2) as pool,
    ):
        first = pool.submit(http.post, PATH, json=ASKED)
        until(lambda: engine.running == 1)
        second = pool.submit(http.post, PATH, json=ASKED)
        until(lambda: served.service.gate.waiting == 1)
        refused = http.post(PATH, json=ASKED)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue"
        assert http.get("/ready").status_code == 503
        urgent = http.post(PATH, json=EMERGENCY)
        assert urgent.status_code == 200
        assert "emergency number now" in urgent.json()["choices"][0]["message"]["content"]
        hold.set()
        assert first.result().status_code == second.result().status_code == 200
        assert engine.most_running == 1
        figures = http.get("/metrics").text
        assert 'medtune_requests_total{path="/v1/chat/completions",status="429"} 1.0' in figures
        assert 'medtune_refused_total{reason="queue"} 1.0' in figures
        assert 'medtune_answers_total{urgency="emergency"} 1.0' in figures
        assert "medtune_answer_seconds_count 2.0" in figures
        assert "cough" not in figures
        assert http.get("/ready").json()["running"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_slot(stream: bool) -> None:
    engine = Scripted(["One. ", "Two. ", "Three."], hold=Event())
    with serving(Service(engine, Decoding(9), limits=Limits(slots=1))) as served:
        with served.client() as http, pytest.raises(httpx.ReadTimeout):
            with http.stream("POST", PATH, json={**ASKED, "stream": stream}, timeout=0.5) as said:
                said.read()
        until(lambda: engine.running == 0 and served.service.gate.running == 0)
        engine.hold = None
        with served.client() as http:
            assert http.post(PATH, json=ASKED).status_code == 200


def test_a_client_that_leaves_while_it_waits_takes_no_slot() -> None:
    engine = Scripted(["One. ", "Two."], hold=Event())
    with (
        serving(Service(engine, Decoding(9), limits=Limits(slots=1))) as served,
        served.client() as http,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(http.post, PATH, json=ASKED)
        until(lambda: engine.running == 1)
        with pytest.raises(httpx.ReadTimeout):
            http.post(PATH, json=ASKED, timeout=0.3)
        until(lambda: served.service.gate.waiting == 0)
        assert engine.hold is not None
        engine.hold.set()
        assert first.result().status_code == 200
        until(lambda: served.service.gate.running == 0)
        assert len(engine.seen) == 1


def test_a_wait_and_an_answer_have_a_longest_time() -> None:
    engine = Scripted(["One. ", "Two."], hold=Event())
    limits = Limits(slots=1, wait_seconds=0.2, answer_seconds=1.5)
    with (
        serving(Service(engine, Decoding(9), limits=limits)) as served,
        served.client() as http,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(http.post, PATH, json=ASKED)
        until(lambda: engine.running == 1)
        late = http.post(PATH, json=ASKED)
        assert late.status_code == 503
        assert late.headers["retry-after"]
        choice = first.result().json()["choices"][0]
        assert choice["finish_reason"] == "length"
        assert choice["message"]["content"].strip() == "One."


def test_an_engine_that_breaks_is_a_503_before_and_an_error_event_within_a_stream() -> None:
    engine = Scripted(["One. ", "Two. ", "Three. "], breaks_at=2)
    with serving(Service(engine, Decoding(9))) as served, served.client() as http:
        whole = http.post(PATH, json=ASKED)
        assert whole.status_code == 503
        assert whole.headers["retry-after"]
        assert "/secret" not in whole.text
        streamed = http.post(PATH, json={**ASKED, "stream": True})
        assert streamed.status_code == 200
        assert '"error"' in streamed.text
        assert "[DONE]" not in streamed.text
        engine.breaks_at = -1
        assert http.post(PATH, json=ASKED).status_code == 200


def test_requests_and_tokens_have_a_rate_per_client() -> None:
    limits = Limits(slots=1, requests_per_minute=3)
    with serving(Service(Scripted(["Yes."]), Decoding(9), limits=limits)) as served:
        with served.client() as http:
            codes = [http.post(PATH, json=ASKED).status_code for _ in range(4)]
            assert codes == [200, 200, 200, 429]
            assert http.get("/v1/models").status_code == 200
    limits = Limits(slots=1, tokens_per_minute=12)
    with serving(Service(Scripted(["Yes."] * 5), Decoding(9), limits=limits)) as served:
        with served.client() as http:
            assert http.post(PATH, json=ASKED).status_code == 200
            refused = http.post(PATH, json=ASKED)
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 60


def test_a_rate_refills_evenly() -> None:
    now = [0.0]
    rate = Rate(60, lambda: now[0])
    for _ in range(60):
        assert rate.wait("a") == 0
        rate.spend("a")
    assert rate.wait("a") == pytest.approx(1.0)
    assert rate.wait("b") == 0
    rate.spend("a", 30)
    assert rate.wait("a") == pytest.approx(31.0)
    now[0] = 31.0
    assert rate.wait("a") == pytest.approx(0.0)


def test_a_body_over_the_limit_is_refused_with_and_without_its_length() -> None:
    limits = Limits(slots=1, body_bytes=1000, messages=3)
    with serving(Service(Scripted(["Yes."]), Decoding(9), limits=limits)) as served:
        with served.client() as http:
            assert http.post(PATH, content=b" " * 1001).status_code == 413
            chunks = (b" " * 100 for _ in range(30))
            kind = {"Content-Type": "application/json"}
            assert http.post(PATH, content=chunks, headers=kind).status_code == 413
            many = {"messages": ASKED["messages"] * 4}
            assert http.post(PATH, json=many).json()["error"]["code"] == "too_many_messages"


def test_keys_open_the_api_and_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    hashed = "sha256:" + sha256(b"another-long-random-key").hexdigest()
    keys = load_keys({"MEDTUNE_API_KEYS": f"{KEY}, {hashed}"})
    caplog.set_level(logging.DEBUG)
    with serving(Service(Scripted(["Yes."]), Decoding(9), keys=keys)) as served:
        with served.client() as http:
            for path in ("/v1/models", "/metrics"):
                assert http.get(path).status_code == 401
            assert http.get("/health").status_code == http.get("/ready").status_code == 200
            for wrong in ("Bearer nope", f"Basic {KEY}", "Bearer", "Bearer käse"):
                said = http.post(PATH, json=ASKED, headers={"Authorization": wrong.encode()})
                assert said.status_code == 401
            for key in (KEY, "another-long-random-key"):
                right = {"Authorization": f"Bearer {key}"}
                assert http.post(PATH, json=ASKED, headers=right).status_code == 200
            with served.client(headers={"Authorization": f"Bearer {KEY}"}) as mine:
                assert KEY not in mine.get("/metrics").text
    ours = [record for record in caplog.records if not record.name.startswith("http")]
    assert all(KEY not in record.getMessage() for record in ours)
    assert KEY not in repr(keys)


def test_a_weak_key_and_an_open_address_without_keys_are_refused() -> None:
    with pytest.raises(MedtuneError, match="shorter than 16"):
        load_keys({"MEDTUNE_API_KEYS": "secret"})
    with pytest.raises(MedtuneError, match="64 hexadecimal"):
        load_keys({"MEDTUNE_API_KEYS": "sha256:12"})
    assert not load_keys({"MEDTUNE_API_KEYS": " , "})
    with pytest.raises(MedtuneError, match="MEDTUNE_API_KEYS"):
        check_address("0.0.0.0", Keys(), False)
    check_address("127.0.0.1", Keys(), False)
    check_address("0.0.0.0", Keys((b"x" * 32,)), False)
    check_address("0.0.0.0", Keys(), True)


def test_browsers_of_other_pages_are_kept_out_unless_allowed() -> None:
    origin = {"Origin": "https://clinic.example"}
    ask = {**origin, "Access-Control-Request-Method": "POST"}
    service = Service(Scripted(["Yes."]), Decoding(9))
    with serving(service) as served, served.client() as http:
        assert "access-control-allow-origin" not in http.get("/v1/models", headers=origin).headers
        assert http.options(PATH, headers=ask).status_code == 405
        plain = http.get("/health").headers
        assert plain["x-content-type-options"] == "nosniff"
        assert plain["content-security-policy"] == "frame-ancestors 'self'"
        assert "server" not in plain
    service = Service(Scripted(["Yes."]), Decoding(9))
    with serving(service, origins=["https://clinic.example"]) as served, served.client() as http:
        allowed = http.options(PATH, headers=ask)
        assert allowed.headers["access-control-allow-origin"] == "https://clinic.example"


def test_a_server_asked_to_stop_lets_the_running_answer_end() -> None:
    hold = Event()
    engine = Scripted(["One. ", "Two."], hold=hold)
    with (
        serving(Service(engine, Decoding(9))) as served,
        served.client() as http,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(http.post, PATH, json={**ASKED, "stream": True})
        until(lambda: engine.running == 1)
        stop(served.server)
        refused = http.post(PATH, json=ASKED)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert http.get("/ready").status_code == 503
        hold.set()
        said = running.result()
        assert "Two." in said.text
        assert said.text.endswith("data: [DONE]\n\n")
        served.thread.join(20)
        assert not served.thread.is_alive()


@given(
    text=st.text("ab. ", max_size=30),
    stops=st.lists(st.text("ab. ", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 30), max_size=6),
)
def test_a_stop_string_is_found_however_the_text_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    expected = text
    for end in range(1, len(text) + 1):
        found = [s for s in stops if text[:end].endswith(s)]
        if found:
            expected = text[: end - max(map(len, found))]
            break
    places = sorted({0, len(text), *(min(c, len(text)) for c in cuts)})
    finder, shown = StopStrings(stops), ""
    for start, end in pairwise(places):
        piece, stopped = finder.feed(text[start:end])
        shown += piece
        if stopped:
            break
    else:
        shown += finder.rest()
    assert shown == expected


def test_the_page_stands_beside_the_api_and_an_open_one_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(Service(Scripted(["Yes."]), Decoding(9)), page=True) as served:
        with served.client() as http, ThreadPoolExecutor(1) as pool:
            assert "Medtune" in http.get("/").text
            assert http.get("/").headers["x-frame-options"] == "SAMEORIGIN"
            assert http.post(PATH, json=ASKED).status_code == 200
            assert http.get("/v1/nowhere").status_code == 404
            beat = pool.submit(http.get, "/gradio_api/heartbeat/abc")
            until(lambda: bool(served.server.server_state.tasks))
            stop(served.server)
            served.thread.join(20)
            assert not served.thread.is_alive()
            assert beat.result().status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_with_keys_the_page_asks_for_one() -> None:
    keys = load_keys({"MEDTUNE_API_KEYS": KEY})
    with serving(Service(Scripted(["Yes."]), Decoding(9), keys=keys), page=True) as served:
        with served.client() as http:
            assert http.get("/config").status_code == 401
            wrong = http.post("/login", data={"username": "me", "password": "no"})
            assert wrong.status_code == 400
            right = http.post("/login", data={"username": "me", "password": KEY})
            assert right.status_code == 200
            assert http.get("/config").status_code == 200

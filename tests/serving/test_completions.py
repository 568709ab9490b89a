"""OpenAI's chat API, through sockets, with the official client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
import torch
from openai import BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel
from served import Scripted, Served, serving

from medtune.chat.engines import Decoding
from medtune.chat.engines.transformers import TransformersEngine
from medtune.model.generate import generate_answers
from medtune.model.load import load_base, load_tokenizer
from medtune.model.template import messages, prompt_ids
from medtune.recipe import ModelSection
from medtune.serving.limits import Limits
from medtune.serving.service import Service

QUESTION = [{"role": "user", "content": "I have had a mild cough for two days."}]
EMERGENCY = [{"role": "user", "content": "crushing chest pain and my left arm hurts"}]


@pytest.fixture
def scripted() -> Scripted:
    return Scripted(["Rest ", "and ", "drink ", "enough. ", "See ", "a ", "doctor."])


@pytest.fixture
def served(scripted: Scripted) -> Iterator[Served]:
    service = Service(
        scripted, Decoding(64), "tuned@0123456789ab", country="GB", limits=Limits(slots=2)
    )
    with serving(service) as one:
        yield one


@pytest.fixture
def client(served: Served) -> OpenAI:
    return OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


def test_the_official_client_gets_an_answer_with_usage_and_what_medtune_adds(
    client: OpenAI,
) -> None:
    raw = client.chat.completions.with_raw_response.create(model="scripted", messages=QUESTION)
    said = raw.parse()
    assert said.choices[0].message.content == "Rest and drink enough. See a doctor."
    assert said.choices[0].finish_reason == "stop"
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (9, 7)
    about = said.model_extra["medtune"]  # type: ignore[index]
    assert about["adapter"] == said.system_fingerprint == "tuned@0123456789ab"
    assert about["urgency"] == raw.headers["x-medtune-urgency"]
    assert about["rules_version"] == raw.headers["x-medtune-rules-version"] != ""
    assert "not medical advice" in about["disclosure"]


def test_a_stream_says_the_same_and_ends_with_usage(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="scripted", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Rest and drink enough. See a doctor."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 16
    assert len({c.id for c in chunks}) == 1
    assert len(chunks) >= 5  # sentence by sentence, not all at once


def test_max_tokens_ends_with_length_and_the_servers_limit_is_the_upper_one(
    client: OpenAI, scripted: Scripted
) -> None:
    said = client.chat.completions.create(model="scripted", messages=QUESTION, max_tokens=2)
    assert said.choices[0].finish_reason == "length"
    assert (said.choices[0].message.content or "").strip() == "Rest and"
    client.chat.completions.create(model="scripted", messages=QUESTION, max_tokens=100_000)
    assert scripted.seen[-1][1].max_new_tokens == 64


def test_a_stop_string_ends_the_answer_before_it(client: OpenAI) -> None:
    said = client.chat.completions.create(
        model="scripted", messages=QUESTION, stop=["gh. S", "doc"]
    )
    assert said.choices[0].message.content == "Rest and drink enou"
    assert said.choices[0].finish_reason == "stop"


def test_decoding_reaches_the_engine(client: OpenAI, scripted: Scripted) -> None:
    client.chat.completions.create(
        model="scripted", messages=QUESTION, temperature=0.7, top_p=0.9, seed=-1, max_tokens=9
    )
    assert scripted.seen[-1][1] == Decoding(9, 0.7, 0.9, 2**32 - 2)


def test_an_emergency_is_answered_by_the_rules_without_the_engine(
    client: OpenAI, scripted: Scripted
) -> None:
    said = client.chat.completions.create(model="scripted", messages=EMERGENCY, stop=["999"])
    assert (said.choices[0].message.content or "").startswith("Call 999 now")
    assert said.model_extra["medtune"]["urgency"] == "emergency"  # type: ignore[index]
    abroad = client.chat.completions.create(
        model="scripted", messages=EMERGENCY, extra_body={"country": "US"}
    )
    assert (abroad.choices[0].message.content or "").startswith("Call 911 now")
    streamed = client.chat.completions.create(model="scripted", messages=EMERGENCY, stream=True)
    text = "".join(c.choices[0].delta.content or "" for c in streamed)
    assert text == said.choices[0].message.content
    assert scripted.seen == []


def test_the_instructions_of_the_training_stay_before_the_clients() -> None:
    engine = Scripted(["Yes."])
    with serving(Service(engine, Decoding(64), system="You are careful.")) as served:
        with served.client() as http:
            turns = [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": [{"type": "text", "text": "I cough."}]},
                {"role": "user", "content": "And sneeze."},
            ]
            http.post("/v1/chat/completions", json={"messages": turns}).raise_for_status()
    assert engine.seen[0][0] == [
        {"role": "system", "content": "You are careful.\n\nBe short."},
        {"role": "user", "content": "I cough.\n\nAnd sneeze."},
    ]


def test_unsupported_and_wrong_requests_are_a_sentence_in_openais_form(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="There is no model 'gpt'"):
        client.chat.completions.create(model="gpt", messages=QUESTION)
    with pytest.raises(BadRequestError, match="n is not supported"):
        client.chat.completions.create(model="scripted", messages=QUESTION, n=2)
    with pytest.raises(BadRequestError, match="last message is empty"):
        client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": " "}]
        )
    with pytest.raises(BadRequestError, match="less than or equal to 2"):
        client.chat.completions.create(model="scripted", messages=QUESTION, temperature=3)
    with pytest.raises(BadRequestError, match="too long for this model"):
        client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "word " * 2000}]
        )
    with pytest.raises(BadRequestError, match="look-around"):
        client.chat.completions.create(
            model="scripted", messages=QUESTION, response_format=_format({"type": "string", "pattern": "(?=a)"}),
        )  # fmt: skip


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"messages": 5}', b'{"messages": []}',
             b'{"messages": [{"role": "user", "content": null}]}',
             b'{"messages": [{"role": "user", "content": "\\ud800 x"}], "seed": 1e400}']
)  # fmt: skip
def test_a_malformed_body_is_refused_and_the_server_lives(served: Served, body: bytes) -> None:
    with served.client() as http:
        said = http.post(
            "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
        )
        assert said.status_code == 400
        assert said.json()["error"]["message"]
        assert "Traceback" not in said.text
        assert http.get("/health").status_code == 200


def test_half_a_surrogate_pair_and_binary_are_text(served: Served, scripted: Scripted) -> None:
    body = b'{"messages": [{"role": "user", "content": "I cough \\ud800 \\u0000 \\u202e"}]}'
    with served.client() as http:
        said = http.post(
            "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
        )
    assert said.status_code == 200
    scripted.seen[0][0][-1]["content"].encode()


def _format(schema: dict[str, object]) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def test_json_passes_the_checks_string_by_string(client: OpenAI, scripted: Scripted) -> None:
    tree = {"advice": "Rest well. Take 400 mg ibuprofen every 6 hours.", "days": 3}
    scripted.words = [json.dumps(tree)]
    schema = {"type": "object", "properties": {"advice": {"type": "string"}}}
    said = client.chat.completions.create(
        model="scripted", messages=QUESTION, response_format=_format(schema)
    )
    got = json.loads(said.choices[0].message.content or "")
    assert got["days"] == 3
    assert got["advice"].startswith("Rest well.")
    assert "400 mg" not in got["advice"]
    assert scripted.seen[0][1].schema == schema


def test_where_json_was_asked_for_an_emergency_is_a_refusal_with_the_message(
    client: OpenAI,
) -> None:
    said = client.chat.completions.create(
        model="scripted", messages=EMERGENCY, response_format=_format({"type": "object"})
    )
    assert said.choices[0].message.content is None
    assert (said.choices[0].message.refusal or "").startswith("Call 999 now")


class Verdict(BaseModel):
    sick: bool
    lasts: Literal["days", "weeks"]


@pytest.fixture(scope="module")
def tiny(tiny_base: Path) -> TransformersEngine:
    section = ModelSection(base=str(tiny_base), dtype="float32")
    model, tokenizer = load_base(section), load_tokenizer(section)
    # Where they share the embedding, random weights repeat the last token they read: a line break.
    torch.manual_seed(0)
    head = torch.randn_like(model.get_input_embeddings().weight)
    head[tokenizer.all_special_ids] = 0
    model.lm_head.weight = torch.nn.Parameter(head * 0.1)
    return TransformersEngine(model, tokenizer, "tiny")


def test_a_real_model_answers_greedily_as_evaluation_measures_and_counts_its_tokens(
    tiny: TransformersEngine,
) -> None:
    ids = prompt_ids(tiny._tokenizer, messages(QUESTION[0]["content"]))
    [measured] = generate_answers(
        tiny._model, tiny._tokenizer, [ids], max_new_tokens=12, batch_size=1
    )
    assert measured.text
    with serving(Service(tiny, Decoding(64))) as served:
        client = OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        said = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=12)
        assert (said.choices[0].message.content or "").strip() == measured.text
        assert said.usage is not None
        assert said.usage.prompt_tokens == len(ids)
        assert said.usage.completion_tokens == measured.tokens
        assert (said.choices[0].finish_reason == "stop") == measured.ended
        sampled = {
            client.chat.completions.create(
                model="tiny", messages=QUESTION, max_tokens=8, temperature=1.5, seed=seed
            ).choices[0].message.content
            for seed in (1, 1, 2, 3)
        }  # fmt: skip
        assert 1 < len(sampled) < 4
        verdict = client.chat.completions.parse(
            model="tiny", messages=QUESTION, max_tokens=60, response_format=Verdict
        )
        assert isinstance(verdict.choices[0].message.parsed, Verdict)


def test_the_answer_names_what_httpx_sees(served: Served) -> None:
    with served.client() as http:
        listed = http.get("/v1/models").json()["data"]
        assert [(m["id"], m["max_model_len"]) for m in listed] == [("scripted", 1000)]
        assert http.get("/v1/models/scripted").json()["object"] == "model"
        assert http.get("/v1/models/other").status_code == 404
        paths = http.get("/v1/openapi.json").json()["paths"]
        assert {"/v1/chat/completions", "/v1/consultations", "/v1/assess"} <= set(paths)
        response: httpx.Response = http.get("/nowhere")
        assert response.status_code == 404
        assert response.json()["error"]["type"] == "invalid_request_error"

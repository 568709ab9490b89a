from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from medtune.errors import MedtuneError
from medtune.model.adapter import lora_config
from medtune.model.load import load_base, load_tokenizer
from medtune.model.template import PLAIN_TEMPLATE, messages, prompt_ids, prompt_text, training_pair
from medtune.recipe import AdapterSection, ModelSection


def test_nf4_holds_the_weights_in_four_bits_with_quantised_constants(tiny_base: Path) -> None:
    import bitsandbytes as bnb

    model = load_base(ModelSection(base=str(tiny_base), quantization="nf4"))
    projection = model.model.layers[0].self_attn.q_proj  # type: ignore[union-attr]
    assert isinstance(projection, bnb.nn.Linear4bit)
    assert projection.weight.quant_state.quant_type == "nf4"
    assert projection.weight.quant_state.nested
    assert projection.weight.numel() * 2 == 64 * 64


def test_an_evaluation_between_training_steps_leaves_the_gradient_of_a_4_bit_base_alone(
    tiny_base: Path,
) -> None:
    """bitsandbytes 0.50.2 would pack the weights for a kernel without a gradient."""
    model = load_base(ModelSection(base=str(tiny_base), quantization="nf4"))
    ids = torch.arange(10, 40)[None]

    def gradient() -> torch.Tensor:
        model.train()
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
        model(inputs_embeds=embedded, labels=ids).loss.backward()
        assert embedded.grad is not None
        return embedded.grad

    before = gradient()
    model.eval()
    with torch.no_grad():
        model(input_ids=ids)
    assert torch.allclose(gradient(), before, rtol=1e-2, atol=1e-6)
    assert before.abs().sum() > 0


def test_a_wrong_target_is_named_with_those_that_exist(tiny_base: Path) -> None:
    model = load_base(ModelSection(base=str(tiny_base)))
    with pytest.raises(MedtuneError, match="no projection query; .*q_proj"):
        lora_config(AdapterSection(targets=["q_proj", "query"]), model)


def test_all_linear_leaves_the_output_head_alone(tiny_base: Path) -> None:
    from peft import get_peft_model

    model = load_base(ModelSection(base=str(tiny_base)))
    tuned = get_peft_model(model, lora_config(AdapterSection(), model))
    adapted = {n for n, p in tuned.named_parameters() if p.requires_grad}
    assert len(adapted) == 2 * 2 * 7
    assert not any("lm_head" in n for n in adapted)


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("./nothing", "does not exist"),
        ("/nothing/at/all", "does not exist"),
        ("a b", "does not exist"),
    ],
)
def test_an_unknown_base_is_a_sentence(base: str, words: str) -> None:
    with pytest.raises(MedtuneError, match=words):
        load_tokenizer(ModelSection(base=base))


def test_a_folder_without_a_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="config.json is missing"):
        load_base(ModelSection(base=str(tmp_path)))


def test_broken_weights_are_a_sentence(tiny_base: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(tiny_base, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MedtuneError, match="cannot be loaded as a model"):
        load_base(ModelSection(base=str(folder)))


def _fetch(endpoint: str, home: Path) -> tuple[str, float]:
    """What loading a Hub id says in a fresh process, and how long it takes."""
    code = (
        "from medtune.model.load import load_tokenizer; from medtune.recipe import ModelSection\n"
        "from medtune.errors import MedtuneError\n"
        "try: load_tokenizer(ModelSection(base='owner/model'))\n"
        "except MedtuneError as e: print(e)"
    )
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    environment.pop("HF_HUB_OFFLINE", None)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout, time.perf_counter() - started


def test_without_a_network_a_hub_id_fails_within_seconds(tmp_path: Path) -> None:
    said, seconds = _fetch("http://127.0.0.1:9", tmp_path)
    assert "the Hub cannot be reached" in said
    assert seconds < 30


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "RepoNotFound", "has no model"),
        (403, "GatedRepo", "accept its licence"),
        (503, "", "answered 503"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence(
    tmp_path: Path, status: int, code: str, words: str
) -> None:
    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        said, _ = _fetch(f"http://127.0.0.1:{server.server_port}", tmp_path)
    finally:
        server.shutdown()
    assert words in said


def test_training_reads_exactly_what_chat_sends_and_ends_with_the_end_token(
    tiny_base: Path,
) -> None:
    tokenizer = load_tokenizer(ModelSection(base=str(tiny_base)))
    for system in ("", "Be brief."):
        pair = training_pair(tokenizer, "What is it?", "Gout.", system)
        turns = messages("What is it?", system)
        assert pair["prompt"] == prompt_text(tokenizer, turns)
        assert pair["completion"] == "Gout.</s>"
        ids = prompt_ids(tokenizer, turns)
        assert ids.count(tokenizer.bos_token_id) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["tinyllama", "qwen2.5"])
def test_genuine_tokenizers_end_their_answers(shared_data: Path, family: str) -> None:
    from transformers import AutoTokenizer

    from medtune.model.template import end_tokens

    folder = shared_data.parent / "tokenizers" / family
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_TEMPLATE
    pair = training_pair(tokenizer, "What is it?", "Gout.")
    assert pair["prompt"] == prompt_text(tokenizer, messages("What is it?"))
    last = tokenizer(pair["completion"], add_special_tokens=False)["input_ids"][-1]
    assert last in end_tokens(tokenizer)


def test_the_embedded_base_is_the_size_it_says() -> None:
    from medtune.embedded import BASE_FOLDER

    size = sum(path.stat().st_size for path in BASE_FOLDER.iterdir())
    assert size <= 25 * 2**20
    model = load_base(ModelSection())
    assert 8e6 <= model.num_parameters() <= 15e6
    assert torch.isfinite(next(model.parameters())).all()

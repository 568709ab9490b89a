"""GGUF files, judged by real llama.cpp and by the readers of the gguf package."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, config_of, model_of, tokenizer_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stories import transformers_folder

from medtune.chat.engines.llamacpp import start_server
from medtune.chat.parity import ask, compare
from medtune.errors import MedtuneError
from medtune.model.gguf.architecture import architecture, rope_factors
from medtune.model.gguf.export import gguf_adapter_of, gguf_of
from medtune.model.gguf.quantize import KINDS, weight_type
from medtune.model.gguf.vocabulary import vocabulary
from medtune.model.gguf.write import write_gguf
from medtune.model.load import load_base, load_tokenizer
from medtune.model.template import messages, prompt_ids
from medtune.recipe import ModelSection
from medtune.run import Run

QUESTIONS = (
    "I have had a sore throat for 3 days, since 12/03/2024. What's wrong?",
    "  leading spaces,\n\n\nnew lines\t and tabs ",
    "été naïve 你好 🙂 37.5°C",
    "DON'T they'll I'VE 1234567 mg/kg!!! ???",
    "x",
)


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_reads_every_family_as_transformers_does(
    request: pytest.FixtureRequest, tmp_path: Path, family: str
) -> None:
    made_here = family in ("smollm", "gpt2-tokens")
    folder = tmp_path if made_here else request.getfixturevalue("shared_data").parent
    tokenizer = tokenizer_of(family, folder / "tokenizers", tmp_path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = model_of(family, len(tokenizer))
    file = write_gguf(model, tokenizer, tmp_path / "model.gguf", "f16", name=family)
    turns = [messages(question) for question in QUESTIONS]
    if family != "mistral":  # whose template takes no system turn
        turns.append(messages(QUESTIONS[0], "Be brief."))
    found = compare(file, model, tokenizer, turns, max_new_tokens=12)
    assert found.same_tokens == len(turns)
    assert found.same_answers + found.near_ties == len(turns)
    assert found.same_answers >= len(turns) - 2
    assert found.first_difference < 0.03


def test_the_embedded_base_answers_fifty_questions_alike(tmp_path: Path) -> None:
    """Real trained weights; 16-bit arithmetic may part at a near tie, 32-bit does not."""
    from random import Random

    from medtune.embedded.consultations import consultations

    section = ModelSection(dtype="float32")
    model, tokenizer = load_base(section), load_tokenizer(section)
    rows = Random(0).sample(list(consultations("test", 200, seed=5)), 50)
    turns = [messages(row.question) for row in rows]
    for kind in ("f16", "f32"):
        file = write_gguf(model, tokenizer, tmp_path / f"{kind}.gguf", kind, name="embedded")
        found = compare(file, model, tokenizer, turns, max_new_tokens=24)
        assert found.same_tokens == 50
        assert found.first_difference < 0.03
        assert found.same_answers + found.near_ties == 50
        assert found.same_answers >= (50 if kind == "f32" else 45)


@pytest.fixture(scope="module")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    section = ModelSection(dtype="float32")
    tokenizer = load_tokenizer(section)
    path = tmp_path_factory.mktemp("gguf") / "embedded.gguf"
    write_gguf(load_base(section), tokenizer, path, "q8_0", name="embedded")
    return start_server(path, 256, key="secret", threads=1), tokenizer


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_becomes_the_same_tokens(embedded_server: Any, text: str) -> None:
    server, tokenizer = embedded_server
    read = ask(server, "secret", "/tokenize", content=text, add_special=False, parse_special=False)
    plain = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    if not any(special in text for special in tokenizer.all_special_tokens):
        assert read["tokens"] == plain.ids


def test_the_port_of_the_library_asks_for_the_key(embedded_server: Any) -> None:
    import urllib.error

    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(embedded_server[0], "wrong", "/tokenize", content="x")


@pytest.mark.parametrize(
    ("kind", "error"),
    [("bf16", 0.004), ("q8_0", 0.01), ("q4_0", 0.12), ("q4_k_m", 0.1), ("q5_k_m", 0.05), ("q6_k", 0.03)],
)  # fmt: skip
def test_stored_weights_are_as_close_as_their_type_allows(
    tmp_path: Path, kind: str, error: float
) -> None:
    """Read back with the gguf package, which shares no code with the quantiser of llama.cpp."""
    from gguf import GGUFReader, dequantize
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(ModelSection())
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=256, intermediate_size=512, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512,
        )
    )  # fmt: skip
    path = write_gguf(model, tokenizer, tmp_path / "m.gguf", kind, name="m")  # type: ignore[arg-type]
    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    for name, original in (
        ("blk.1.ffn_down.weight", model.model.layers[1].mlp.down_proj.weight),
        ("output.weight", model.lm_head.weight),
        ("token_embd.weight", model.model.embed_tokens.weight),
    ):
        stored = tensors[name]
        values = dequantize(stored.data, stored.tensor_type)
        expected = original.detach().float().numpy()
        off = np.sqrt(np.mean((values - expected) ** 2)) / expected.std()
        assert off < error, (name, stored.tensor_type.name)
    assert tensors["blk.0.attn_norm.weight"].tensor_type.name == "F32"
    head = tensors["output.weight"].tensor_type.name
    assert head == {"q4_0": "Q8_0", "q4_k_m": "Q6_K", "q5_k_m": "Q6_K"}.get(kind, kind.upper())
    server = start_server(path, 128, key="k", threads=1)
    said = ask(server, "k", "/completion", prompt=[1, 5, 9], n_predict=3, return_tokens=True)
    assert len(said["tokens"]) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_no_block_divides_fall_back_and_norms_stay_exact(kind: Any) -> None:
    assert weight_type(kind, "blk.0.ffn_up.weight", (64, 40), 2, tied=False).name in (
        "F32",
        "F16",
        "BF16",
    )
    assert weight_type(kind, "blk.0.attn_norm.weight", (64,), 2, tied=False).name == "F32"
    narrow = weight_type(kind, "blk.0.ffn_up.weight", (64, 96), 2, tied=False).name
    assert not narrow.endswith("_K")  # fmt: skip


def test_rope_factors_are_those_that_transformers_divides_by() -> None:
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = config_of("llama3", 100)
    scaled = LlamaRotaryEmbedding(config).inv_freq
    size = config.hidden_size // config.num_attention_heads
    plain = 1 / 500000.0 ** (torch.arange(0, size, 2) / size)
    factors = rope_factors(config)
    assert factors is not None
    assert factors.max() == 8
    assert factors.min() == 1
    assert np.allclose(factors, (plain / scaled).numpy(), rtol=1e-5)
    assert rope_factors(config_of("mistral", 100)) is None


def test_an_adapter_on_a_gguf_base_answers_as_the_merged_model(
    tuned_run: Run, tmp_path: Path
) -> None:
    import xllamacpp

    from medtune.model.merge import merge

    section = tuned_run.recipe().model.model_copy(
        update={"quantization": "none", "dtype": "float32"}
    )
    tokenizer = load_tokenizer(section)
    base = write_gguf(load_base(section), tokenizer, tmp_path / "base.gguf", "f32", name="base")
    adapter = gguf_adapter_of(tuned_run)
    merged, _ = merge(tuned_run, "float32")
    prompt = prompt_ids(tokenizer, messages("What is a migraine?"))

    def first(loras: list[Path]) -> dict[int, float]:
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.verbosity = str(base), 256, -1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(p), 1.0) for p in loras]
        server = xllamacpp.Server(params)
        said = ask(server, "", "/completion", prompt=prompt, n_predict=1, temperature=0, n_probs=5)
        return {e["id"]: e["logprob"] for e in said["completion_probabilities"][0]["top_logprobs"]}

    with torch.inference_mode():
        expected = merged(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    with_adapter = first([adapter])
    assert all(abs(value - float(expected[token])) < 0.02 for token, value in with_adapter.items())
    assert with_adapter != first([])


def test_a_file_is_kept_until_the_adapter_is_newer(tuned_run: Run, tmp_path: Path) -> None:
    import shutil

    run = Run(shutil.copytree(tuned_run.folder, tmp_path / "run"))
    shutil.rmtree(run.exports, ignore_errors=True)
    seen: list[int] = []
    path = gguf_of(run, "q8_0", lambda done, total: seen.append(done))
    made = path.stat().st_mtime_ns
    assert seen[-1] == len(seen)
    assert gguf_of(run, "q8_0").stat().st_mtime_ns == made
    file = run.adapter / "adapter_model.safetensors"
    os.utime(file, ns=(made + 10**9, made + 10**9))
    assert gguf_of(run, "q8_0").stat().st_mtime_ns != made
    assert os.listdir(run.exports) == [path.name]


def test_an_unknown_architecture_names_the_way() -> None:
    config = SimpleNamespace(model_type="gpt2")
    with pytest.raises(MedtuneError, match="not for gpt2; .*convert_hf_to_gguf"):
        architecture(config)


def test_an_unknown_tokenizer_names_the_way() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    odd = Tokenizer(models.BPE())
    odd.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(MedtuneError, match="no name for this model's tokenizer"):
        vocabulary(PreTrainedTokenizerFast(tokenizer_object=odd), 10)
    other = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(MedtuneError, match="WordLevel"):
        vocabulary(PreTrainedTokenizerFast(tokenizer_object=other), 10)


def test_a_tokenizer_larger_than_the_embedding_is_a_sentence() -> None:
    with pytest.raises(MedtuneError, match="only 100 rows"):
        vocabulary(load_tokenizer(ModelSection()), 100)


def test_an_interrupted_conversion_leaves_nothing(tuned_run: Run, tmp_path: Path) -> None:
    import shutil

    run = Run(shutil.copytree(tuned_run.folder, tmp_path / "run"))
    shutil.rmtree(run.exports, ignore_errors=True)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gguf_of(run, "f16", interrupt)
    assert os.listdir(run.exports) == []


def test_real_pretrained_weights_tell_the_same_story_in_llama_cpp(
    shared_data: Path, tmp_path: Path
) -> None:
    """Grouped-query attention, SentencePiece and weights that mean something."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = shared_data.parent / "weights" / "stories260K"
    if not source.is_dir():
        pytest.skip("the genuine weights for trials are not here")
    folder = transformers_folder(source, tmp_path / "stories")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    told = model.generate(torch.tensor([[tokenizer.bos_token_id]]), max_new_tokens=20, do_sample=False)  # fmt: skip
    assert "there was a little girl named Lily" in tokenizer.decode(told[0])
    who = ("girl", "boy", "dog", "cat", "bird", "tree", "doctor", "queen", "car", "fish")
    begins = (
        "Once upon a time, a {}",
        "The {} was ill.",
        "A big {} saw",
        "{}",
        "Mom told the {} to",
    )
    turns = [messages(begin.format(one)) for begin in begins for one in who]
    for kind in ("f16", "f32"):
        file = write_gguf(model, tokenizer, tmp_path / f"{kind}.gguf", kind, name="stories")
        found = compare(file, model, tokenizer, turns, max_new_tokens=32)
        assert found.prompts == found.same_tokens == 50
        assert found.same_answers + found.near_ties == 50
        assert found.same_answers >= (50 if kind == "f32" else 48)
        assert found.first_difference < 0.03


def test_a_run_that_trained_every_weight_becomes_a_file_and_has_no_adapter(
    tuned_run: Run, tmp_path: Path
) -> None:
    import shutil

    run = Run(shutil.copytree(tuned_run.folder, tmp_path / "whole"))
    shutil.rmtree(run.exports, ignore_errors=True)
    recipe = run.recipe()
    section = recipe.model.model_copy(update={"quantization": "none", "dtype": "float32"})
    optimizer = recipe.training.model_copy(update={"optimizer": "adamw_torch"})
    adapter = recipe.adapter.model_copy(update={"method": "none"})
    run.keep(
        recipe.model_copy(update={"adapter": adapter, "model": section, "training": optimizer})
    )
    with pytest.raises(MedtuneError, match="no trained model"):
        gguf_of(run, "f16")
    model = load_base(section)
    model.save_pretrained(run.full_model)
    shutil.rmtree(run.adapter)
    file = gguf_of(run, "f16")
    tokenizer = load_tokenizer(section)
    found = compare(file, model, tokenizer, [messages(q) for q in QUESTIONS], max_new_tokens=8)
    assert found.same_tokens == found.same_answers + found.near_ties == len(QUESTIONS)
    with pytest.raises(MedtuneError, match="trained every weight"):
        gguf_adapter_of(run)


def test_a_dora_adapter_is_refused_by_name(tuned_run: Run, tmp_path: Path) -> None:
    import json
    import shutil

    run = Run(shutil.copytree(tuned_run.folder, tmp_path / "dora"))
    config = run.adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_dora": True}))
    with pytest.raises(MedtuneError, match="no DoRA adapters"):
        gguf_adapter_of(run)

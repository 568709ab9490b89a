"""The Modelfile, rendered by Go's own template engine, which Ollama uses; Ollama itself is not here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from medtune.errors import MedtuneError
from medtune.model.gguf.vocabulary import begins_with_bos
from medtune.model.load import load_tokenizer
from medtune.model.template import Message, prompt_ids
from medtune.publishing.ollama import go_template, modelfile, pieces, write_modelfile
from medtune.recipe import ModelSection
from medtune.run import Run

RENDER = """
package main

import (
	"encoding/json"
	"os"
	"text/template"
)

func main() {
	var given struct {
		Template string
		Data     []map[string]any
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	parsed := template.Must(template.New("").Option("missingkey=zero").Parse(given.Template))
	for _, data := range given.Data {
		if err := parsed.Execute(os.Stdout, data); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("\\x00")
	}
}
"""


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("go") is None:
        pytest.skip(
            "there is no Go here to render the template (Debian: apt-get install golang-go)"
        )
    folder = tmp_path_factory.mktemp("go")
    (folder / "render.go").write_text(RENDER)
    subprocess.run(["go", "build", "-o", "render", "render.go"], cwd=folder, check=True)
    return folder / "render"


def _rendered(go: Path, template: str, conversations: list[list[Message]]) -> list[str]:
    data = [
        {
            "System": "\n\n".join(t["content"] for t in turns if t["role"] == "system"),
            "Messages": [{"Role": t["role"], "Content": t["content"]} for t in turns],
        }
        for turns in conversations
    ]
    done = subprocess.run(
        [go],
        input=json.dumps({"Template": template, "Data": data}),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\0")[:-1]


def _conversations(system: bool) -> list[list[Message]]:
    turns = [
        {
            "role": "user" if i % 2 == 0 else "assistant",
            "content": f"line {i}\nand «more» {{{{x}}}}",
        }
        for i in range(5)
    ]
    plain = [turns[:1], turns[:3], turns[:5]]
    first = {"role": "system", "content": "Be brief."}
    return plain + ([[first, *one] for one in plain] if system else [])


@pytest.mark.parametrize("family", ["embedded", "tinyllama", "qwen2.5", "plain"])
def test_ollama_writes_the_prompt_that_training_wrote(
    request: pytest.FixtureRequest, go: Path, tmp_path: Path, family: str
) -> None:
    tokenizer: Any
    if family in ("embedded", "plain"):
        tokenizer = load_tokenizer(ModelSection())
    else:
        folder = request.getfixturevalue("shared_data").parent / "tokenizers" / family
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
    if family == "plain":
        from medtune.model.template import PLAIN_TEMPLATE

        tokenizer.chat_template = PLAIN_TEMPLATE
    template = go_template(pieces(tokenizer))
    conversations = _conversations(system=True)
    for turns, text in zip(conversations, _rendered(go, template, conversations), strict=True):
        begin = [tokenizer.bos_token_id] if begins_with_bos(tokenizer) else []
        # TinyLlama's file adds no space of its own; the template writes it.
        text = text.removeprefix(" ") if family == "tinyllama" else text
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert begin + list(ids) == prompt_ids(tokenizer, turns)


LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set sys = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set rest = messages %}{% set sys = '' %}{% endif %}"
    "{% for m in rest %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (sys if loop.first else '') + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def test_a_system_text_inside_the_first_question_is_understood(go: Path) -> None:
    tokenizer = load_tokenizer(ModelSection())
    tokenizer.chat_template = LLAMA2
    template = go_template(pieces(tokenizer))
    conversations = _conversations(system=True)
    for turns, text in zip(conversations, _rendered(go, template, conversations), strict=True):
        expected = str(tokenizer.apply_chat_template(turns, tokenize=False))
        assert text == expected.removeprefix(str(tokenizer.bos_token))


def test_a_template_that_cannot_be_said_is_refused() -> None:
    tokenizer = load_tokenizer(ModelSection())
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ loop.index }}: {{ m['content'] }}\n{% endfor %}"
    )
    with pytest.raises(MedtuneError, match="cannot be said in Ollama"):
        pieces(tokenizer)


def test_quotes_that_a_modelfile_cannot_hold_are_refused() -> None:
    with pytest.raises(MedtuneError, match="three quotation marks"):
        modelfile("x", "t", stops=[], system='say """', context=10, max_new_tokens=5)


def test_the_modelfile_of_a_run_says_what_was_measured(tuned_run: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(tuned_run.folder, tmp_path / "tuned"))
    text = write_modelfile(run, "q4_0").read_text()
    lines = text.splitlines()
    assert "FROM ./tuned-q4_0.gguf" in lines
    assert (run.modelfile.parent / "tuned-q4_0.gguf").is_file()
    assert 'PARAMETER stop "</s>"' in lines
    assert "PARAMETER temperature 0" in lines
    assert "PARAMETER num_ctx 1024" in lines
    assert "PARAMETER num_predict 24" in lines
    assert "not medical advice" in lines[0]

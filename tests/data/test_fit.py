"""Token counts by words are those of the whole text, with every tokenizer at hand."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from medtune.data.fit import Renderer, TokenCounter
from medtune.embedded import BASE_FOLDER

EMBEDDED = AutoTokenizer.from_pretrained(BASE_FOLDER)
TEXT = "My 34-year-old son's knee (left) hurts...\n\n1. Since 12/03; 38.5°C!  2. Naïve café — 500mg/day, e.g. ibuprofen."


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=60), min_size=1, max_size=6))
def test_counts_are_exact_for_any_text(texts: list[str]) -> None:
    counter = TokenCounter(EMBEDDED)
    expected = [len(EMBEDDED(t, add_special_tokens=False)["input_ids"]) for t in texts]
    assert counter.count(texts).tolist() == expected


@pytest.mark.parametrize("name", ["tinyllama", "qwen2.5"])
def test_counting_by_words_is_exact_for_genuine_tokenizers(shared_data: Path, name: str) -> None:
    folder = shared_data.parent / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip(f"the tokenizer {name} is not here")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    draw = Random(0)
    words = TEXT.split(" ")
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 80))) for _ in range(300)]
    counter = TokenCounter(tokenizer)
    expected = [len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
    assert counter.count(texts).tolist() == expected
    assert counter._words_add_up


def test_a_padded_tokenizer_does_not_count_its_padding() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE_FOLDER)
    tokenizer(["a", "a b c d e f"], padding=True)
    assert TokenCounter(tokenizer).whole(["a", "a b c d e f"]) == [
        len(EMBEDDED(t, add_special_tokens=False)["input_ids"]) for t in ("a", "a b c d e f")
    ]


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(["", "Be kind."]))
def test_filling_in_gives_the_text_of_the_template(question: str, answer: str, system: str) -> None:
    turns = [
        *([{"role": "system", "content": system}] if system else []),
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    expected = EMBEDDED.apply_chat_template(turns, tokenize=False)
    assert Renderer(EMBEDDED).text(question, answer, (), system) == expected


def test_a_template_that_trims_is_rendered_and_not_filled_in() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE_FOLDER)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['content'].split('</think>')[-1].strip() }}]{% endfor %}"
    )
    assert Renderer(tokenizer).text("a", "x </think> b", (), "") == "[a][b]"

"""Dialogues of several turns reach the template, and inspect shows what is trained."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from medtune.data.rows import Row
from medtune.embedded import BASE_FOLDER
from medtune.errors import MedtuneError
from medtune.model.template import PLAIN_TEMPLATE
from medtune.training.examples import NOT_TRAINED, examples
from medtune.training.inspect import as_page, drawn_rows, tokens_of

HISTORY = (
    {"role": "user", "content": "My head hurts."},
    {"role": "assistant", "content": "Since when?"},
)
ROW = Row("7", "Since Monday.", "Drink <water> & rest.", system="Be kind.", history=HISTORY)


@pytest.fixture(params=["embedded", "plain"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(BASE_FOLDER)
    if request.param == "plain":
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def _trained(tokenizer: PreTrainedTokenizerBase, ids: list[int], labels: list[int]) -> list[str]:
    """The trained stretches as text."""
    stretches: list[list[int]] = [[]]
    for token, label in zip(ids, labels, strict=True):
        if label == NOT_TRAINED:
            stretches.append([])
        else:
            stretches[-1].append(token)
    return [tokenizer.decode(s).strip() for s in stretches if s]


def test_every_answer_of_a_dialogue_is_trained_with_its_end(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    [item] = examples(tokenizer, [ROW], 256)
    turns = [{"role": "system", "content": ROW.system}, *HISTORY, {"role": "user", "content": ROW.question}, {"role": "assistant", "content": ROW.answer}]  # fmt: skip
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert tokenizer.decode(item.input_ids) == tokenizer.decode(
        tokenizer(whole, add_special_tokens=False)["input_ids"]
    )
    eos = tokenizer.eos_token
    assert _trained(tokenizer, item.input_ids, item.labels) == [
        f"Since when?{eos}",
        f"{ROW.answer}{eos}",
    ]


def test_where_the_template_rewrites_earlier_answers_only_the_last_is_trained() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE_FOLDER)
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>\n"
        "{% if m['role'] == 'assistant' and not loop.last %}{{ m['content'] | upper }}{% else %}{{ m['content'] }}{% endif %}"
        "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    [item] = examples(tokenizer, [ROW], 256)
    assert len(_trained(tokenizer, item.input_ids, item.labels)) == 1


def test_a_row_without_history_is_as_before(tokenizer: PreTrainedTokenizerBase) -> None:
    [item] = examples(tokenizer, [Row("1", "a b", "c d")], 64)
    first = next(i for i, label in enumerate(item.labels) if label != NOT_TRAINED)
    assert item.labels[first:] == item.input_ids[first:]


def test_a_row_too_long_is_still_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(MedtuneError, match="Row 7 has"):
        examples(tokenizer, [ROW], 16)


def test_inspect_marks_trained_and_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    [item] = examples(tokenizer, [ROW], 256)
    tokens = tokens_of(tokenizer, ROW)
    assert [t.id for t in tokens] == item.input_ids
    assert [t.trained for t in tokens] == [label != NOT_TRAINED for label in item.labels]
    assert tokens[-1].special
    assert tokens[-1].trained
    assert "Monday" in "".join(t.text for t in tokens)
    page = as_page("rows", [(ROW, tokens)])
    assert page.count("<span class=") == len(tokens) + 2
    assert "<water>" not in page


def test_rows_are_drawn_from_everywhere() -> None:
    rows = [Row(str(i), "q", "a") for i in range(100)]
    drawn = drawn_rows(rows, 10, 1)
    assert len({r.id for r in drawn}) == 10
    assert max(int(r.id) for r in drawn) > 20
    assert drawn_rows(rows[:2], 10, 1) == rows[:2]

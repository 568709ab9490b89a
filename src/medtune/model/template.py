"""Dialogues as the model reads them: one rendering for training, evaluation and chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": ...}``."""

PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '### Answer:\n' + message['content'] + eos_token }}"
    "{% else %}{{ '### ' + {'system': 'Instructions', 'user': 'Question'}[message['role']]"
    " + ':\n' + message['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Answer:\n' }}{% endif %}"
)
"""For a base that brings no chat template.  It adds no token to the vocabulary: a token whose
embedding was never trained cannot be learned by an adapter."""


def messages(question: str, system: str = "", history: Sequence[Message] = ()) -> list[Message]:
    """The turns that ask a question, after earlier ones if there are any."""
    turns = [*history, {"role": "user", "content": question}]
    return [{"role": "system", "content": system}, *turns] if system else turns


def prompt_text(tokenizer: PreTrainedTokenizerBase, turns: list[Message]) -> str:
    """The turns as text, up to where the answer begins."""
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, turns: list[Message]) -> list[int]:
    """The tokens of ``prompt_text``; the template brings the first token, so none is added."""
    return list(tokenizer(prompt_text(tokenizer, turns), add_special_tokens=False)["input_ids"])


def training_pair(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    answer: str,
    system: str = "",
    history: Sequence[Message] = (),
) -> dict[str, str]:
    """Prompt and completion as text; together they are the whole dialogue of the template.

    The completion ends with the template's end of turn and nothing after it, so the last
    trained token is the one that ends an answer in chat.
    """
    turns = messages(question, system, history)
    prompt = prompt_text(tokenizer, turns)
    turns.append({"role": "assistant", "content": answer})
    whole = str(tokenizer.apply_chat_template(turns, tokenize=False))
    if not whole.startswith(prompt):
        # Some templates drop white space or a thinking block; what chat sends decides.
        whole = prompt + answer.strip() + str(tokenizer.eos_token)
    return {"prompt": prompt, "completion": whole[len(prompt) :].rstrip("\n ")}


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end an answer: the tokenizer's own, and the usual end-of-turn marks."""
    known = tokenizer.get_vocab()
    marks = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "</s>")
    ends: set[int] = {known[mark] for mark in marks if mark in known}
    if tokenizer.eos_token_id is not None:
        ends.add(int(tokenizer.eos_token_id))  # type: ignore[arg-type]
    return ends


def earlier_answers(
    tokenizer: PreTrainedTokenizerBase, prompt: str, system: str, history: Sequence[Message]
) -> list[tuple[int, int]]:
    """Where in ``prompt`` the earlier answers stand, end of turn included, in characters.

    Empty where the template writes an earlier answer differently once the dialogue goes on (some
    drop its reasoning): then only the last answer can be trained on as chat will produce it.
    """
    spans: list[tuple[int, int]] = []
    for place, turn in enumerate(history):
        if turn["role"] != "assistant":
            continue
        before = messages(history[place - 1]["content"], system, history[: place - 1])
        pair = training_pair(
            tokenizer, history[place - 1]["content"], turn["content"], system, history[: place - 1]
        )
        start = len(prompt_text(tokenizer, before))
        end = start + len(pair["completion"])
        if prompt[:end] != pair["prompt"] + pair["completion"]:
            return []
        spans.append((start, end))
    return spans

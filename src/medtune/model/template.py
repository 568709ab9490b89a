"""Dialogues as the model reads them: one rendering for training, evaluation and chat."""

from __future__ import annotations

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


def messages(question: str, system: str = "") -> list[Message]:
    """The turns that ask a question."""
    turn = {"role": "user", "content": question}
    return [{"role": "system", "content": system}, turn] if system else [turn]


def prompt_text(tokenizer: PreTrainedTokenizerBase, turns: list[Message]) -> str:
    """The turns as text, up to where the answer begins."""
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, turns: list[Message]) -> list[int]:
    """The tokens of ``prompt_text``; the template brings the first token, so none is added."""
    return list(tokenizer(prompt_text(tokenizer, turns), add_special_tokens=False)["input_ids"])


def training_pair(
    tokenizer: PreTrainedTokenizerBase, question: str, answer: str, system: str = ""
) -> dict[str, str]:
    """Prompt and completion as text; together they are the whole dialogue of the template.

    The completion ends with the template's end of turn and nothing after it, so the last
    trained token is the one that ends an answer in chat.
    """
    turns = messages(question, system)
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

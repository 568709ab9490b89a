"""An answer forced to fit a client's JSON schema, with the checks of every other answer."""

from __future__ import annotations

import json
from dataclasses import replace
from threading import Event
from typing import Any

from medtune.chat.conversation import Conversation
from medtune.chat.engines import Decoding, Engine
from medtune.errors import MedtuneError
from medtune.safety.answers import check_answer


def check_schema(schema: dict[str, Any]) -> None:
    """Whether answers can be forced to fit it.

    Raises:
        MedtuneError: they cannot, and why.
    """
    from llguidance import LLMatcher

    try:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
        wrong = LLMatcher.validate_grammar(grammar)
    except (ValueError, RecursionError) as error:
        wrong = str(error)
    if wrong:
        said = " ".join(wrong.split())[:300]
        raise MedtuneError(f"Answers cannot be forced to fit this JSON schema: {said}.")


def forced_answer(
    conversation: Conversation,
    engine: Engine,
    settings: Decoding,
    schema: dict[str, Any],
    stop: Event | None = None,
) -> str:
    """JSON of the schema.  Its strings pass the checks of answers one by one.

    The caller has asked the safety layer; an emergency is not answered here.  An answer that
    the length limit cut is returned as it is where nothing in it needed a change.

    Raises:
        MedtuneError: the message is too long, the engine failed, or a cut answer may not be shown.
    """
    room = engine.context - settings.max_new_tokens
    sent = conversation.fitted(engine.count, room)
    text = "".join(engine.stream(sent, replace(settings, schema=schema), stop)).strip()
    question = " ".join(conversation.questions)
    try:
        tree = json.loads(text)
    except ValueError:
        if check_answer(text, question).changes:
            raise MedtuneError(
                "The answer was cut and held what may not be said; ask for more tokens."
            ) from None
        return text
    checked = _checked(tree, question)
    return text if checked == tree else json.dumps(checked, ensure_ascii=False)


def _checked(tree: Any, question: str) -> Any:
    if isinstance(tree, str):
        checked = check_answer(tree, question)
        return checked.text if checked.changes else tree
    if isinstance(tree, list):
        return [_checked(part, question) for part in tree]
    if isinstance(tree, dict):
        return {key: _checked(part, question) for key, part in tree.items()}
    return tree

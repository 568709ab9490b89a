"""Requests as they come over the wire, in the form that OpenAI's API gave them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from medtune.chat.conversation import Conversation
from medtune.chat.engines import Decoding


def _printable(text: str) -> str:
    """Text that UTF-8 can hold; half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


Text = Annotated[str, AfterValidator(_printable)]
_Country = Annotated[str, Field(pattern=r"^([A-Za-z]{2})?$")]
# What would change the answer and is not there; nothing is ignored that a client relies on.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "tools": ([],),
    "functions": ([],),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
}


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Lenient):
    type: Literal["text"]
    text: Text


class Turn(_Lenient):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class JsonSchema(_Lenient):
    name: str = "answer"
    json_schema: dict[str, Any] = Field(alias="schema")


class ResponseFormat(_Lenient):
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("the type json_schema needs json_schema: {name, schema}")
        return self

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        if self.type == "text":
            return None
        return self.json_schema.json_schema if self.json_schema else {"type": "object"}


class StreamOptions(_Lenient):
    include_usage: bool = False


class Question(_Lenient):
    """What every question to a model has in common."""

    model: str | None = None
    messages: Annotated[list[Turn], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    country: _Country | None = None
    """Two letters for the emergency lines, instead of the server's; not part of OpenAI's API."""

    @model_validator(mode="after")
    def _asks_something(self) -> Question:
        last = self.messages[-1]
        if last.role != "user":
            raise ValueError("the last message must be of the role user")
        if not last.text.strip():
            raise ValueError("the last message is empty")
        return self

    def conversation(self, system: str) -> Conversation:
        """The turns; the client's instructions stand after those of the training.

        Messages of the same side one after the other become one, since most chat templates
        refuse them.
        """
        own = [t.text for t in self.messages if t.role in {"system", "developer"}]
        result = Conversation("\n\n".join(text for text in (system, *own) if text.strip()))
        for turn in self.messages:
            if turn.role in {"system", "developer"}:
                continue
            if result.turns and result.turns[-1]["role"] == turn.role:
                result.turns[-1]["content"] += f"\n\n{turn.text}"
            else:
                result.turns.append({"role": turn.role, "content": turn.text})
        return result

    def decoding(self, default: Decoding, context: int) -> Decoding:
        """How to decode: what was asked for, within the server's longest answer."""
        asked = self.max_completion_tokens or self.max_tokens or default.max_new_tokens
        most = min(asked, default.max_new_tokens, max(1, context * 3 // 4))
        return Decoding(
            most,
            default.temperature if self.temperature is None else self.temperature,
            default.top_p if self.top_p is None else self.top_p,
            # llama.cpp takes 32 bits, of which the last number means "any".
            default.seed if self.seed is None else self.seed % (2**32 - 1),
        )


class ChatRequest(Question):
    """``POST /v1/chat/completions``."""

    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: Text | list[Text] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_there(cls, tree: Any) -> Any:
        if isinstance(tree, dict):
            for name, harmless in _UNSUPPORTED.items():
                value = tree.get(name)
                if value is not None and value not in harmless:
                    raise ValueError(f"{name} is not supported; leave it out")
        return tree

    @model_validator(mode="after")
    def _few_stops(self) -> ChatRequest:
        if len(self.stops) > 16:
            raise ValueError("stop takes 16 strings at most")
        return self

    @property
    def stops(self) -> list[str]:
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in given if text]


class ConsultationRequest(Question):
    """``POST /v1/consultations``."""

    format: Literal["json", "markdown", "fhir"] = "json"
    forced: bool = False
    """Make the model write JSON of the draft's schema, instead of reading its prose."""


class AssessRequest(_Lenient):
    """``POST /v1/assess``: one text, or what a person wrote message by message."""

    text: Text | None = None
    messages: list[Text] | None = None
    country: _Country | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> AssessRequest:
        if (self.text is None) == (self.messages is None):
            raise ValueError("give text, or messages")
        return self

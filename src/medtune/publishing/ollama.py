"""A Modelfile for Ollama: which file, the chat template in its language, where answers end.

Ollama renders prompts with Go templates, not with the Jinja template of the model.  What stands
between the turns is read off the Jinja template by rendering marked conversations, and the
result is compared with it on other conversations before it is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medtune.errors import MedtuneError
from medtune.model.gguf.export import Progress, context_of, gguf_of
from medtune.model.gguf.quantize import Quantization
from medtune.model.gguf.vocabulary import begins_with_bos, chat_template, vocabulary
from medtune.model.load import load_tokenizer
from medtune.model.template import Message, end_tokens
from medtune.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONGEST_CONTEXT = 4096
_SYSTEM, _QUESTION, _ANSWER, _AGAIN = "[S-0]", "[Q-1]", "[A-1]", "[Q-2]"


@dataclass(frozen=True)
class Pieces:
    """What a chat template writes around the turns of a conversation that ends with a question."""

    start: str
    """Before the first question, where there is no system text."""
    system: tuple[str, str] | None
    """Before and after the system text, up to the first question; None: the model takes none."""
    answer: str
    """Between a question and its answer."""
    question: str
    """Between an answer and the next question."""
    end: str
    """After the last question, up to where the model writes."""


def write_modelfile(
    run: Run, kind: Quantization, advance: Progress = lambda done, total: None
) -> Path:
    """The run's GGUF and the Modelfile beside it.

    Returns:
        the Modelfile; ``ollama create NAME -f`` reads it.

    Raises:
        MedtuneError: llama.cpp cannot run the model, or Go templates cannot say its template.
    """
    recipe = run.recipe()
    tokenizer = load_tokenizer(recipe.model)
    template = go_template(pieces(tokenizer))
    file = gguf_of(run, kind, advance)
    text = modelfile(
        f"./{file.name}",
        template,
        stops=[str(tokenizer.decode([token])) for token in sorted(end_tokens(tokenizer))],
        system=recipe.data.system or "",
        context=min(context_of(run), _LONGEST_CONTEXT),
        max_new_tokens=recipe.evaluation.max_new_tokens,
    )
    run.write_text(run.modelfile, text)
    return run.modelfile


def modelfile(
    file: str, template: str, *, stops: list[str], system: str, context: int, max_new_tokens: int
) -> str:
    """The text of a Modelfile; decoding is greedy, as it was when the model was measured."""
    lines = [
        "# Made by Medtune.  The model gives information, not medical advice.",
        f"FROM {file}",
        f'TEMPLATE """{template}"""',
    ]
    if system:
        lines.append(f'SYSTEM """{system}"""')
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops]
    lines += [
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1.0",
        f"PARAMETER num_ctx {context}",
        f"PARAMETER num_predict {max_new_tokens}",
    ]
    if '"""' in template or '"""' in system:
        raise MedtuneError(
            'A Modelfile cannot hold three quotation marks (""") in the template or the system '
            "text; change data.system."
        )
    return "\n".join(lines) + "\n"


def pieces(tokenizer: PreTrainedTokenizerBase) -> Pieces:
    """What the tokenizer's template writes between turns, without the beginning-of-text token.

    Ollama adds that token itself, as the GGUF file tells it.

    Raises:
        MedtuneError: a template whose turns depend on more than their place.
    """
    render = _renderer(tokenizer)
    q, a, again = _turn("user", _QUESTION), _turn("assistant", _ANSWER), _turn("user", _AGAIN)
    start, tail = render([q]).split(_QUESTION)
    try:
        whole = render([_turn("system", _SYSTEM), q])
        before, rest = whole.split(_SYSTEM)
        system = (before, rest.split(_QUESTION)[0])
    except MedtuneError:
        raise
    except Exception:  # the template refuses a system turn, by whatever error its author chose
        system = None
    _, rest = render([q, a, again]).split(_QUESTION)
    answer, rest = rest.split(_ANSWER)
    question, _ = rest.split(_AGAIN)
    found = Pieces(start, system, answer, question, tail)
    _compare(render, found)
    return found


def go_template(found: Pieces) -> str:
    """The pieces in Go's template language, with the names that Ollama gives a template."""
    start = _literal(found.start)
    if found.system is not None:
        before, after = map(_literal, found.system)
        start = f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after}{{{{ else }}}}{start}{{{{ end }}}}"
    return (
        "{{ $first := true }}" + start + "{{ range .Messages }}"
        '{{ if eq .Role "user" }}{{ if $first }}{{ $first = false }}{{ else }}'
        + _literal(found.question)
        + '{{ end }}{{ .Content }}{{ else if eq .Role "assistant" }}'
        + _literal(found.answer)
        + "{{ .Content }}{{ end }}{{ end }}"
        + _literal(found.end)
    )


def _joined(found: Pieces, turns: list[Message]) -> str:
    """What the Go template will render."""
    text = found.start
    if turns[0]["role"] == "system" and found.system is not None:
        text = found.system[0] + turns[0]["content"] + found.system[1]
    first = True
    for turn in turns:
        if turn["role"] == "user":
            text += ("" if first else found.question) + turn["content"]
            first = False
        elif turn["role"] == "assistant":
            text += found.answer + turn["content"]
    return text + found.end


def _compare(render: Callable[[list[Message]], str], found: Pieces) -> None:
    """Check the pieces on conversations of up to three questions.

    Raises:
        MedtuneError: the template does something that the pieces do not say.
    """
    chat = [
        _turn("user" if i % 2 == 0 else "assistant", f"Text {i}, with words.") for i in range(5)
    ]
    starts: list[list[Message]] = [[]]
    if found.system is not None:
        starts.append([_turn("system", "Be brief.")])
    for first in starts:
        for length in (1, 3, 5):
            turns = first + chat[:length]
            if _joined(found, turns) != render(turns):
                raise MedtuneError(
                    "This model's chat template cannot be said in Ollama's template language; "
                    "export with `--to gguf` and run the file with llama.cpp, which reads the "
                    "template as it is."
                )


def _renderer(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[Message]], str]:
    """What the GGUF's template writes for a conversation, without the beginning-of-text token."""
    template = chat_template(tokenizer, vocabulary(tokenizer, len(tokenizer)))
    begin = str(tokenizer.bos_token) if begins_with_bos(tokenizer) else ""

    def render(turns: list[Message]) -> str:
        text = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, chat_template=template
        )
        return str(text).removeprefix(begin)

    return render


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _literal(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

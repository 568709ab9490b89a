"""The web page: a chat with a disclaimer, examples, stop and clear."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from threading import Event
from typing import TYPE_CHECKING, Any

from medtune.chat.conversation import Conversation
from medtune.chat.engines import Decoding, Engine
from medtune.chat.pipeline import DISCLAIMER, answer
from medtune.errors import MedtuneError

if TYPE_CHECKING:
    import gradio as gr

EXAMPLES = (
    "I have a burning feeling behind the breastbone and it is worse when I lie down after supper.",
    "My left big toe has been red, hot and very painful since last night. Which doctor should I see?",
    "I have had itchy, watery eyes and sneezing fits for two weeks. What can I do?",
    "What is a migraine and what helps against it?",
)
_STYLE = """
footer {display: none !important}
#disclaimer {border-left: 4px solid #b7791f; padding: .5rem .9rem; background: var(--background-fill-secondary)}
"""


def build_page(
    engine: Engine, settings: Decoding, system: str = "", country: str = ""
) -> gr.Blocks:
    """The page as a Gradio app, not started."""
    import gradio as gr

    def ask(message: str, history: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
        if not message.strip():
            return message, history
        return "", [*history, {"role": "user", "content": message.strip()}]

    def reply(history: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        if not history or history[-1]["role"] != "user":
            yield history
            return
        conversation = Conversation(system, [_turn(turn) for turn in history])
        stop, text = Event(), ""
        try:
            for piece in answer(conversation, engine, settings, stop=stop, country=country):
                text += piece
                if text.strip():  # until then the page shows that the model is thinking
                    shown = _with_bold_headings(text)
                    yield [*history, {"role": "assistant", "content": shown}]
        except MedtuneError as error:
            yield [*history, {"role": "assistant", "content": str(error)}]
        finally:
            stop.set()  # Gradio closes this generator when the person presses Stop or leaves

    with gr.Blocks(title="Medtune", analytics_enabled=False) as page:
        gr.Markdown(f"# Medtune\nYou are talking to **{engine.name}**.")
        gr.Markdown(DISCLAIMER, elem_id="disclaimer")
        chat = gr.Chatbot(
            label="Conversation",
            height="55vh",
            placeholder="Describe your symptoms: what, since when, how old you are.",
            sanitize_html=True,
        )
        with gr.Row():
            box = gr.Textbox(
                label="Your message",
                placeholder="For example: I have had a sore throat for three days.",
                lines=1,
                max_lines=6,
                max_length=8000,
                scale=5,
                autofocus=True,
            )
            send = gr.Button("Send", variant="primary", scale=1, min_width=80)
        with gr.Row():
            stop_button = gr.Button("Stop", variant="stop")
            clear = gr.Button("Clear")
        gr.Examples([[text] for text in EXAMPLES], inputs=box, label="Examples")
        started: list[Any] = [
            trigger(ask, [box, chat], [box, chat], queue=False).then(reply, chat, chat)
            for trigger in (box.submit, send.click)
        ]
        stop_button.click(None, cancels=started)
        # In this order: a piece of the answer that is still on its way must not undo the clearing.
        clear.click(None, cancels=started).then(lambda: ([], ""), None, [chat, box], queue=False)
    return page


def page_style() -> str:
    """The page's CSS."""
    return _STYLE


def serve(
    engine: Engine,
    settings: Decoding,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    system: str = "",
    country: str = "",
) -> None:
    """Start the page alone, without the API, and stay until Ctrl-C.

    Raises:
        MedtuneError: the port is taken.
    """
    check_port(host, port)
    page = build_page(engine, settings, system, country)
    page.queue(default_concurrency_limit=1, max_size=16)
    page.launch(
        server_name=host, server_port=port, quiet=True, show_error=True, css=_STYLE, share=False
    )


def check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise MedtuneError(
                f"{host}:{port} cannot be used ({error.strerror}); choose another with --port."
            ) from None


def _turn(turn: dict[str, Any]) -> dict[str, str]:
    """A turn of the chatbot as a message; its text may stand in a list of parts."""
    content = turn["content"]
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return {"role": turn["role"], "content": str(content).replace("**", "")}


def _with_bold_headings(text: str) -> str:
    from medtune.embedded.consultations import SECTIONS

    for heading in SECTIONS:
        text = text.replace(f"{heading}:", f"**{heading}:**")
    return text

"""The page's address: its look, and the page alone without the API."""

from __future__ import annotations

import socket
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from medtune.errors import MedtuneError
from medtune.serving.page.layout import build
from medtune.serving.service import Service

if TYPE_CHECKING:
    import gradio as gr


def build_page(service: Service) -> gr.Blocks:
    """The page with its queue, not started: as many answers at a time as there are slots."""
    page = build(service)
    page.queue(default_concurrency_limit=service.limits.slots, max_size=service.limits.waiting)
    return page


@cache
def look() -> dict[str, Any]:
    """Theme and style, for whatever starts the page.  Nothing is loaded from elsewhere."""
    import gradio as gr

    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    theme = gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "monospace"]
    ).set(
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#0f766e",
        button_primary_text_color="#ffffff",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_text_color="#ffffff",
        # Contrasts of 4.5 and more, which the theme's own greys do not have.
        color_accent="#0f766e",
        body_text_color_subdued="#475569",
        body_text_color_subdued_dark="#cbd5e1",
        block_info_text_color="#475569",
        block_info_text_color_dark="#cbd5e1",
        input_placeholder_color="#64748b",
        input_placeholder_color_dark="#94a3b8",
    )
    css = resources.files("medtune.serving.page").joinpath("style.css").read_text("utf-8")
    return {"theme": theme, "css": css, "footer_links": []}


def launch(service: Service, *, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Start the page alone, without the API, and stay until Ctrl-C.

    For places that start Gradio apps themselves, such as a Space with a lent GPU.

    Raises:
        MedtuneError: the port is taken.
    """
    check_port(host, port)
    build_page(service).launch(
        server_name=host, server_port=port, quiet=True, show_error=True, share=False, **look()
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

"""A chat page that knows nothing of Medtune, in front of Medtune's API: Gradio's own."""

from __future__ import annotations

import gradio
from gradio_client import Client
from served import Scripted, serving

from medtune.chat.engines import Decoding
from medtune.serving.service import Service


def test_an_llm_web_ui_works_unchanged() -> None:
    service = Service(Scripted(["Rest ", "and ", "drink. ", "See ", "a ", "doctor."]), Decoding(64))
    with serving(service) as served:
        page = gradio.load_chat(f"{served.url}/v1", model="scripted", token="none")
        _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
        try:
            for question, answer in (
                ("I have had a mild cough for two days.", "Rest and drink. See a doctor."),
                ("crushing chest pain and my left arm hurts", "Call"),
            ):
                message = {"text": question, "files": []}
                visitor = Client(address, verbose=False)
                assert answer in visitor.predict(message, api_name="/open_api_stream")
        finally:
            page.close()

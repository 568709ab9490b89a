"""A medical chatbot made with Medtune: the web page, the safety layer, the tuned model.

Runs as it is: `pip install -r requirements.txt && python app.py`.  The adapter lies in the
folder `run`, or is fetched from the Hub where ADAPTER names one.
"""

import os
from pathlib import Path

# Before torch: on a ZeroGPU Space this package lends a GPU for the time of an answer.
try:
    import spaces  # pyright: ignore[reportMissingImports]
except ImportError:
    spaces = None

from medtune.chat.engines import Decoding
from medtune.chat.engines.choose import open_engine
from medtune.publishing.pull import PREFIX, run_from_hub, with_own_template
from medtune.run import Run
from medtune.serving.server import serve
from medtune.serving.service import Service, adapter_of
from medtune.serving.web import launch

ADAPTER = os.environ.get("ADAPTER", "{{ADAPTER}}")
HERE = Path(__file__).parent


class OnLentGPU:
    """The engine with each answer inside a call that ZeroGPU lends a GPU to."""

    def __init__(self, engine):
        self.name, self.context, self.count = engine.name, engine.context, engine.count
        self._stream = spaces.GPU(duration=60)(engine.stream)  # pyright: ignore[reportOptionalMemberAccess]

    def stream(self, messages, settings, stop=None):
        # Nothing but plain values crosses into the call; leaving it early ends the answer.
        yield from self._stream(messages, settings)


def main() -> None:
    run = run_from_hub(PREFIX + ADAPTER, HERE / "runs") if ADAPTER else Run(HERE / "run")
    run.keep(with_own_template(run.recipe(), run.adapter))
    recipe = run.recipe()
    engine = open_engine(run)
    engine.name = recipe.name
    service = Service(
        OnLentGPU(engine) if spaces else engine,
        Decoding(recipe.evaluation.max_new_tokens),
        adapter_of(run),
        recipe.data.system or "",
        os.environ.get("COUNTRY", ""),
    )
    host = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    if spaces:  # ZeroGPU prepares itself when Gradio is launched
        launch(service, host=host, port=port)
    else:  # with the API beside the page, which huggingface.co shows in a frame
        serve(service, host=host, port=port, frames=["https://huggingface.co"])


if __name__ == "__main__":
    main()

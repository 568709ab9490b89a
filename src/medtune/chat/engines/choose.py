"""Which engine answers: llama.cpp on a CPU, transformers on a GPU, unless somebody says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from medtune.chat.engines import Engine
from medtune.run import Run

EngineName = Literal["auto", "transformers", "llamacpp", "openai"]


def open_engine(
    run: Run | None,
    name: EngineName = "auto",
    *,
    slots: int = 1,
    url: str = "",
    model: str = "",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Engine:
    """The engine of a trained run.

    Args:
        run: trained; ``openai`` needs none.
        name: ``auto`` is llama.cpp where there is no GPU and llama.cpp can run the model.
        slots: answers at a time, where the engine can.
        url: of the server, for ``openai``.
        model: of that server; empty is its first.
        advance: told how much of the model is converted on llama.cpp's first use.

    Raises:
        MedtuneError: the run has not been trained, this engine cannot run its model, or the
            server does not answer.
    """
    if name == "openai":
        from medtune.chat.engines import openai

        return openai.open_engine(url, model)
    from medtune.chat.engines import llamacpp, transformers

    if run is None:
        return transformers.open_engine(None)
    if name == "llamacpp" or (name == "auto" and _suits_llamacpp(run)):
        return llamacpp.open_engine(run, slots=slots, advance=advance)
    return transformers.open_engine(run)


def _suits_llamacpp(run: Run) -> bool:
    import torch

    from medtune.chat.engines.llamacpp import is_installed
    from medtune.model.gguf.export import is_supported

    return not torch.cuda.is_available() and is_installed() and is_supported(run)

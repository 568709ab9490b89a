"""Which engine answers: llama.cpp on a CPU, transformers on a GPU, unless somebody says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from medtune.chat.engines import Engine
from medtune.errors import MedtuneError
from medtune.model.gguf.quantize import Quantization
from medtune.run import Run

_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, Windows' own Linux
EngineName = Literal["auto", "transformers", "llamacpp", "openai"]


def open_engine(
    run: Run | None,
    name: EngineName = "auto",
    *,
    slots: int = 1,
    kind: Quantization | None = None,
    url: str = "",
    model: str = "",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Engine:
    """The engine of a trained run.

    Args:
        run: trained; ``openai`` needs none.
        name: ``auto`` is llama.cpp where there is no GPU and llama.cpp can run the model.
        slots: answers at a time, where the engine can.
        kind: how llama.cpp stores the weights, ``q8_0`` where nobody says; with ``auto`` it asks
            for llama.cpp.
        url: of the server, for ``openai``.
        model: of that server; empty is its first.
        advance: told how much of the model is converted on llama.cpp's first use.

    Raises:
        MedtuneError: the run has not been trained, this engine cannot run its model, or the
            server does not answer.
    """
    if kind is not None and (name in ("transformers", "openai") or run is None):
        raise MedtuneError(
            f"Only llama.cpp stores its weights as {kind}; leave out --quantization, or give "
            "--engine llamacpp and a trained run."
        )
    if name == "openai":
        from medtune.chat.engines import openai

        return openai.open_engine(url, model)
    from medtune.chat.engines import llamacpp, transformers

    if run is None:
        return transformers.open_engine(None)
    if name == "llamacpp" or kind is not None or (name == "auto" and _suits_llamacpp(run)):
        return llamacpp.open_engine(run, kind=kind or "q8_0", slots=slots, advance=advance)
    return transformers.open_engine(run)


def open_base(
    run: Run,
    tuned: Engine,
    *,
    slots: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Engine:
    """The untuned base of a run, run as its tuned model is, so that they differ in the tuning alone.

    Args:
        run: trained.
        tuned: the engine of its tuned model, as ``open_engine`` gave it.
        slots: answers at a time, where the engine can.
        advance: told how much of the base is converted on llama.cpp's first use.

    Raises:
        MedtuneError: the base cannot be loaded.
    """
    from medtune.chat.engines import llamacpp, transformers

    if isinstance(tuned, llamacpp.LlamaCppEngine):
        return llamacpp.open_base(run, kind=tuned.kind, slots=slots, advance=advance)
    name = f"{run.name}, untuned base"
    if isinstance(tuned, transformers.TransformersEngine):
        base = tuned.without_adapter(name)
        if base is not None:
            return base
    section = run.recipe().model
    return transformers.TransformersEngine(
        transformers.load_base(section), transformers.load_tokenizer(section), name
    )


def _suits_llamacpp(run: Run) -> bool:
    from medtune.chat.engines.llamacpp import is_installed
    from medtune.model.gguf.export import is_supported

    return not _has_gpu() and is_installed() and is_supported(run)


def _has_gpu() -> bool:
    """Whether PyTorch has one; it is not loaded, for seconds, where Linux has no driver at all."""
    if sys.platform == "linux" and not any(Path(driver).exists() for driver in _DRIVERS):
        return False
    import torch

    return torch.cuda.is_available()

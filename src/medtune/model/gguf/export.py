"""GGUF files of a run, made when they are first asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medtune.errors import MedtuneError
from medtune.model.gguf.architecture import architecture
from medtune.model.gguf.quantize import Quantization
from medtune.model.gguf.vocabulary import vocabulary
from medtune.model.gguf.write import write_gguf, write_gguf_adapter
from medtune.model.load import base_folder, load_base, load_tokenizer, trained_folder
from medtune.model.merge import MergeDtype, merge
from medtune.run import Run

Progress = Callable[[int, int], None]


def gguf_of(run: Run, kind: Quantization, advance: Progress = lambda done, total: None) -> Path:
    """The run's merged model as GGUF; written unless it is there and newer than the adapter.

    Args:
        run: trained.
        kind: how the weights are stored.
        advance: told how many of how many weights are written.

    Raises:
        MedtuneError: the run is not trained, or llama.cpp cannot run its model.
    """
    trained = trained_folder(run)
    path = run.gguf_file(kind)
    if _is_made(trained, path):
        return path
    refuse_unsupported(run)
    model, tokenizer = merge(run, merge_dtype(kind))
    base = Path(run.recipe().model.base)
    about = f"{base.name if base.is_dir() else base} tuned with Medtune; information, not medical advice"
    return write_gguf(
        model, tokenizer, path, kind, name=run.name, description=about, advance=advance
    )


def base_gguf_of(
    run: Run, kind: Quantization, advance: Progress = lambda done, total: None
) -> Path:
    """The run's untuned base as GGUF, stored as the tuned model is; written unless it is there.

    Raises:
        MedtuneError: llama.cpp cannot run the base.
    """
    path, section = run.base_gguf_file(kind), run.recipe().model
    if path.exists() and path.stat().st_mtime >= run.recipe_file.stat().st_mtime:
        return path
    refuse_unsupported(run)
    plain = section.model_copy(update={"quantization": "none", "dtype": merge_dtype(kind)})
    return write_gguf(
        load_base(plain, cpu=True), load_tokenizer(section), path, kind,
        name=f"{run.name} base", description=f"{section.base}, untuned", advance=advance,
    )  # fmt: skip


def merge_dtype(kind: Quantization) -> MergeDtype:
    """What the weights are merged in; those of 16 bits or fewer gain nothing from 32."""
    return "float32" if kind == "f32" else "bfloat16"


def gguf_adapter_of(run: Run) -> Path:
    """The run's adapter alone as GGUF, a few megabytes, to be put on a GGUF of its base.

    Raises:
        MedtuneError: the run is not trained or has no adapter, or llama.cpp cannot run it.
    """
    folder = trained_folder(run)
    if folder == run.full_model:
        raise MedtuneError(
            f"The run {run.name!r} trained every weight, so it has no adapter; export with `--to gguf`."
        )
    return write_gguf_adapter(folder, _config(run), run.gguf_adapter, name=run.name)


def refuse_unsupported(run: Run) -> None:
    """Look whether llama.cpp can run the run's model, before anything large is loaded.

    Raises:
        MedtuneError: it cannot; the sentence names the way that can.
    """
    section, config = run.recipe().model, _config(run)
    architecture(config)
    vocabulary(load_tokenizer(section), config.vocab_size)


def is_supported(run: Run) -> bool:
    """Whether llama.cpp can run the run's model."""
    try:
        if _is_made(trained_folder(run), run.gguf_file("q8_0")):
            return True  # without a look at the configuration, which loads PyTorch
        refuse_unsupported(run)
    except MedtuneError:
        return False
    return True


def context_of(run: Run) -> int:
    """Tokens of prompt and answer together that the run's model was made for."""
    section = run.recipe().model
    file = base_folder(section.base, section.revision) / "config.json"
    # The plain file where it says so, since transformers' reader loads PyTorch.
    said = json.loads(file.read_bytes()).get("max_position_embeddings")
    return said if isinstance(said, int) else _config(run).max_position_embeddings


def _is_made(trained: Path, path: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= _newest(trained)


def _config(run: Run) -> Any:
    from transformers import AutoConfig

    section = run.recipe().model
    return AutoConfig.from_pretrained(base_folder(section.base, section.revision))


def _newest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.iterdir())

"""An engine on llama.cpp, in this process: the merged model as GGUF, several answers at a time."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Generator
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from medtune.chat.engines import Decoding, Ended, Leaving
from medtune.errors import MedtuneError
from medtune.model.gguf.export import base_gguf_of, context_of, gguf_of
from medtune.model.gguf.quantize import Quantization
from medtune.model.load import load_tokenizer
from medtune.model.template import Message, prompt_ids
from medtune.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONGEST_CONTEXT = 4096  # tokens per answer; a longer one costs memory whether it is used or not


class LlamaCppEngine:
    """``slots`` answers at a time share each pass over the weights; more wait their turn.

    Prompts are made into tokens by the tokenizer of the training, so that llama.cpp reads
    exactly what the model was trained on.
    """

    def __init__(
        self,
        file: Path,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        context: int,
        slots: int = 1,
        kind: Quantization = "q8_0",
    ) -> None:
        """Load the file.

        Args:
            file: GGUF.
            tokenizer: of the training.
            name: shown to people.
            context: tokens of prompt and answer that the model was made for.
            slots: answers at a time.
            kind: how the file stores its weights.

        Raises:
            MedtuneError: llama.cpp is not installed or cannot load the file.
        """
        self.name = name
        self.kind: Quantization = kind
        self.context = min(context, _LONGEST_CONTEXT)
        self._tokenizer = tokenizer
        self._server = start_server(file, self.context, slots)

    def count(self, messages: list[Message]) -> int:
        return len(prompt_ids(self._tokenizer, messages))

    def stream(
        self, messages: list[Message], settings: Decoding, stop: Event | None = None
    ) -> Generator[str, None, Ended | None]:
        cancelled = Leaving(stop)
        pieces: Queue[str | BaseException | None] = Queue()
        ended: list[Ended] = []
        request = _request(prompt_ids(self._tokenizer, messages), settings)

        def receive(chunk: Any) -> bool:
            """Called by llama.cpp for every piece; True ends the answer."""
            if not isinstance(chunk, dict) or "error" in chunk:
                pieces.put(MedtuneError(f"The model failed while answering: {_reason(chunk)}"))
                return True
            for choice in chunk.get("choices", ()):
                if choice.get("text"):
                    pieces.put(choice["text"])
                if choice.get("finish_reason"):
                    wrote = (chunk.get("timings") or {}).get("predicted_n", 0)
                    ended.append(Ended(wrote, choice["finish_reason"] == "length"))
            return cancelled.is_set()

        def generate() -> None:
            try:
                self._server.handle_completions(request, receive)
            except Exception as error:  # handed to the reader, who raises it
                pieces.put(MedtuneError(f"The model failed while answering: {_reason(error)}"))
            pieces.put(None)

        worker = Thread(target=generate, daemon=True)
        worker.start()
        try:
            while True:
                try:
                    piece = pieces.get(timeout=0.5)  # wakes up for Ctrl-C
                except Empty:
                    continue
                if piece is None:
                    return ended[0] if ended else None
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            cancelled.set()  # a reader that leaves frees the slot
            worker.join()


def open_engine(
    run: Run,
    *,
    kind: Quantization = "q8_0",
    slots: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> LlamaCppEngine:
    """The engine of a trained run; its GGUF is made on first use and kept in the run.

    Raises:
        MedtuneError: the run has not been trained, or llama.cpp cannot run its model.
    """
    _library()
    return _opened(run, gguf_of(run, kind, advance), run.name, slots, kind)


def open_base(
    run: Run,
    *,
    kind: Quantization = "q8_0",
    slots: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> LlamaCppEngine:
    """The engine of a run's untuned base, with the weights stored as those of the tuned model.

    Raises:
        MedtuneError: llama.cpp cannot run the base.
    """
    _library()
    name = f"{run.name}, untuned base"
    return _opened(run, base_gguf_of(run, kind, advance), name, slots, kind)


def _opened(run: Run, file: Path, name: str, slots: int, kind: Quantization) -> LlamaCppEngine:
    tokenizer = load_tokenizer(run.recipe().model)
    return LlamaCppEngine(file, tokenizer, name, context_of(run), slots, kind)


def is_installed() -> bool:
    from importlib.util import find_spec

    return find_spec("xllamacpp") is not None


def _library() -> Any:
    if not is_installed():
        raise MedtuneError(
            "llama.cpp is not installed; `pip install xllamacpp`, or choose --engine transformers."
        )
    import xllamacpp

    return xllamacpp


def start_server(
    file: Path, context: int, slots: int = 1, key: str = "", threads: int | None = None
) -> Any:
    """llama.cpp's server with a model, in this process.

    The library opens a port on this machine as well.  It asks for ``key``; without one nobody
    can use it.

    Raises:
        MedtuneError: llama.cpp is not installed or cannot load the file.
    """
    library = _library()
    params = library.CommonParams()
    params.model.path = str(file)
    params.n_ctx = context * slots
    params.n_parallel = slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or _cores()
    params.verbosity = -1
    params.cache_ram_mib = 0  # conversations are not kept once they leave their slot
    params.ui = params.endpoint_slots = False
    params.api_keys = [key or secrets.token_urlsafe(32)]
    params.warmup = False  # the one token below does that
    try:
        server = library.Server(params)
        # A server that is closed before its loop has begun never ends (xllamacpp 2026.10.11549).
        server.handle_completions({"prompt": [0], "max_tokens": 1})
        return server
    except Exception as error:
        raise MedtuneError(
            f"llama.cpp cannot load {file}: {_reason(error)} Delete the file to have it made anew."
        ) from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _request(prompt: list[int], settings: Decoding) -> dict[str, Any]:
    """The same choice of tokens as transformers makes: temperature, then top_p, nothing else."""
    request: dict[str, Any] = {
        "prompt": prompt,
        "max_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "samplers": ["temperature", "top_p"],
        "stream": True,
        "cache_prompt": True,
    }
    if settings.seed is not None:
        request["seed"] = settings.seed
    if settings.schema is not None:
        # Any white space would let a small model write nothing else until the limit.
        strict = {"whitespace_flexible": False}
        request["json_schema"] = {**settings.schema, "x-guidance": strict}
    return request


def _reason(cause: Any) -> str:
    if isinstance(cause, dict) and isinstance(cause.get("error"), dict):
        cause = cause["error"].get("message", cause)
    text = str(cause).strip().splitlines()
    return text[0] if text else type(cause).__name__

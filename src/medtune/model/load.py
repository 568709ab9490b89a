"""Load a base model and its tokenizer from the package, a folder or the Hub."""

from __future__ import annotations

import json
import os
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medtune.embedded import BASE_FOLDER
from medtune.errors import MedtuneError
from medtune.hub import fetch
from medtune.model.memory import keep_few_kernels, keep_freed_memory
from medtune.model.template import PLAIN_TEMPLATE
from medtune.recipe import ModelSection
from medtune.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]


@cache
def base_folder(base: str, revision: str = "main") -> Path:
    """The folder with the base model: the embedded one, a local one, or one from the Hub.

    Raises:
        MedtuneError: there is no such base, or it cannot be fetched.
    """
    if base == "embedded":
        return BASE_FOLDER
    path = Path(base).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise MedtuneError(
                f"The folder {base} holds no model: config.json is missing; name the folder with it."
            )
        return path
    if path.is_absolute() or base.startswith(".") or base.count("/") != 1:
        raise MedtuneError(
            f"The base {base!r} does not exist; name a folder, a Hub id (owner/name), or `embedded`."
        )
    return fetch(base, "model", revision, _HUB_FILES)


def load_tokenizer(section: ModelSection) -> PreTrainedTokenizerBase:
    """The tokenizer of the base, with a chat template and a padding token.

    A base without a template gets a plain one.  A base without a padding token borrows one
    that never ends a turn, where it has one; padding is masked out of attention and loss.
    """
    folder = base_folder(section.base, section.revision)
    with quiet(), _readable(folder):
        tokenizer: PreTrainedTokenizerBase = _tokenizer_class(folder).from_pretrained(folder)
    if section.chat_template != "auto":
        path = Path(section.chat_template)
        if not path.is_file():
            raise MedtuneError(
                f"The chat template {path} does not exist; mend model.chat_template."
            )
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    elif not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def _tokenizer_class(folder: Path) -> Any:
    """The tokenizer's class; the general one directly, where the base names no other.

    ``AutoTokenizer`` loads PyTorch to find it, which takes longer than a first answer should.
    """
    file = folder / "tokenizer_config.json"
    name = json.loads(file.read_bytes()).get("tokenizer_class") if file.is_file() else ""
    if name in {"TokenizersBackend", "PreTrainedTokenizerFast"}:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def load_base(
    section: ModelSection, *, cpu: bool = False, sharded: bool = False
) -> PreTrainedModel:
    """The base model in evaluation mode, quantised if the section says so.

    Args:
        section: which base, and how.
        cpu: keep it in main memory even where there is a GPU.
        sharded: FSDP will split it over the processes of the group.  Then it stays in main memory,
            where the first process alone reads it; a 4-bit base is on every GPU for that moment.

    Raises:
        MedtuneError: the base cannot be found, fetched or read.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder = base_folder(section.base, section.revision)
    dtype = resolve_dtype(section)
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa"}
    if section.quantization != "none":
        options["quantization_config"] = _quantization(section, dtype, sharded=sharded)
    elif sharded:
        cpu = True
        # Read by transformers; the others' weights are made without being filled.
        os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_CPU_RAM_EFFICIENT_LOADING="true")
    if torch.cuda.is_available() and not cpu:
        # Of several processes on one machine, each has a GPU of its own.
        options["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    else:
        keep_freed_memory()
        keep_few_kernels()
    with quiet(), _readable(folder):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, **options)
    if section.quantization == "nf4":
        _keep_differentiable(model)
    model.config.use_cache = True
    return model.eval()


def load_tuned(run: Run) -> PreTrainedModel:
    """The run's base with its adapter on top, not merged, in evaluation mode.

    Of a run that trained every weight it is the trained model itself.

    Raises:
        MedtuneError: the run has not been trained to the end.
    """
    return tuned_on(run, run.recipe().model)


def tuned_on(run: Run, section: ModelSection, *, cpu: bool = False) -> PreTrainedModel:
    """The run's adapter on a base that is loaded as ``section`` says.

    Of a run that trained every weight it is the trained model itself, loaded that way.

    Raises:
        MedtuneError: the run has not been trained to the end.
    """
    trained = trained_folder(run)
    if trained == run.full_model:
        return load_base(section.model_copy(update={"base": str(trained)}), cpu=cpu)
    base = load_base(section, cpu=cpu)
    with quiet(), _readable(trained):
        from peft import PeftModel

        model: Any = PeftModel.from_pretrained(base, str(trained))
    return model.eval()


def trained_folder(run: Run) -> Path:
    """What the training made: the adapter, or the whole model where every weight was trained.

    Raises:
        MedtuneError: the run has not been trained to the end.
    """
    whole_model = run.recipe().adapter.method == "none"
    folder, what = (run.full_model, "model") if whole_model else (run.adapter, "adapter")
    run.require(
        folder / ("config.json" if whole_model else "adapter_config.json"),
        f"The run {run.name!r} has no trained {what}; start with `medtune train`.",
    )
    return folder


def resolve_dtype(section: ModelSection) -> torch.dtype:
    """What the arithmetic runs in: ``auto`` is bfloat16 where the hardware multiplies it.

    On a GPU without bfloat16 (T4, P100) ``auto`` is float16, on a CPU without it float32.
    """
    import torch

    if section.dtype != "auto":
        return getattr(torch, section.dtype)
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    return cpu_dtype()


def cpu_dtype() -> torch.dtype:
    """bfloat16 where this CPU multiplies it, else float32."""
    import torch

    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


def float16_note(section: ModelSection) -> str | None:
    """A sentence where ``auto`` falls back on float16 because the GPU has no bfloat16."""
    import torch

    if section.dtype != "auto" or resolve_dtype(section) != torch.float16:
        return None
    return (
        f"The {torch.cuda.get_device_name()} has no bfloat16, so it trains in float16; a loss "
        "that is no number any more calls for half the training.learning_rate."
    )


@cache
def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags or " bf16" in flags


def _quantization(section: ModelSection, dtype: torch.dtype, *, sharded: bool) -> Any:
    from transformers import BitsAndBytesConfig

    if section.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=section.double_quantization,
        bnb_4bit_compute_dtype=dtype,
        # FSDP splits and casts what it takes for floats: the 4-bit weights hide in such.
        bnb_4bit_quant_storage=dtype if sharded else None,
    )


def _keep_differentiable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from repacking 4-bit weights on a CPU.

    In evaluation mode it packs them for a kernel that has no gradient, and leaves them packed
    when training goes on: after the first validation no gradient passes such a layer any more
    (seen in 0.50.2).
    """
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn what the libraries raise on missing or broken files into a sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, json.JSONDecodeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MedtuneError(f"{folder} cannot be loaded as a model: {reason}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and notices of the libraries out of the terminal while loading."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import typer

_NEEDED = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "daft",
    "gguf",
    "gradio",
    "huggingface-hub",
)
_WANTED = {"xllamacpp": "llama.cpp, which answers several times faster on a CPU"}
_TIMEOUT_SECONDS = 4.0


@dataclass(frozen=True)
class Finding:
    what: str
    state: Literal["ok", "note", "wrong"]
    """``note``: works, but could be better; ``wrong``: something will fail."""
    says: str
    mend: str = ""
    """The command that mends it."""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the Hub.")] = False,
) -> None:
    """Look whether this machine can do the work, and say what mends what is wrong.

    Exits with 1 where something will fail.

    Example: medtune doctor
    """
    import json

    from medtune.cli.output import say

    findings = [
        Finding("Python", "ok", platform.python_version()),
        *_packages(),
        *_torch(),
        _memory(),
        _disk(),
        *([] if offline else [_hub()]),
        _token(),
    ]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            say(f"{finding.state:5}  {finding.what:16} {finding.says}")
            if finding.mend:
                say(f"{'':24}mend it: {finding.mend}")
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def _packages() -> list[Finding]:
    found = []
    for name in _NEEDED:
        try:
            found.append(Finding(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Finding(name, "wrong", "is not installed", f"pip install {name}"))
    for name, gain in _WANTED.items():
        try:
            found.append(Finding(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Finding(name, "note", f"is missing: {gain}", f"pip install {name}"))
    return found


def _torch() -> list[Finding]:
    if importlib.util.find_spec("torch") is None:
        return []
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        return [
            Finding("torch", "wrong", f"cannot be loaded: {reason}", "pip install --force-reinstall torch")
        ]  # fmt: skip
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        free, total = (part / 2**30 for part in torch.cuda.mem_get_info())
        kind = "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16"
        return [Finding("GPU", "ok", f"{name}, {free:.1f} of {total:.1f} GiB free, {kind}")]
    if shutil.which("nvidia-smi") and not torch.version.cuda:
        return [
            Finding(
                "GPU", "wrong", "there is one, but this torch is built for CPUs only",
                "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128",
            )
        ]  # fmt: skip
    cores = os.cpu_count() or 1
    return [Finding("GPU", "note", f"none; small models train on {cores} CPU cores")]


def _memory() -> Finding:
    if not hasattr(os, "sysconf"):
        return Finding("memory", "note", "cannot be told on this system")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    says = f"{total:.1f} GiB, {free:.1f} GiB unused"
    if total < 3.5:
        return Finding("memory", "wrong", f"{says}; the smallest training needs 4", "use a machine with 4 GiB")  # fmt: skip
    return Finding("memory", "ok", says)


def _disk() -> Finding:
    folder = Path.cwd()
    free = shutil.disk_usage(folder).free / 2**30
    says = f"{free:.1f} GiB free in {folder}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "wrong", f"{folder} cannot be written to", "cd ~")
    if free < 2:
        return Finding("disk", "wrong", f"{says}; a run needs 2", "hf cache prune")
    if free < 20:
        return Finding("disk", "note", f"{says}; a 7B model needs 20", "hf cache prune")
    return Finding("disk", "ok", says)


def _hub() -> Finding:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return Finding("Hub", "note", "HF_HUB_OFFLINE is set: only downloaded models work", "unset HF_HUB_OFFLINE")  # fmt: skip
    import httpx
    from huggingface_hub import constants

    try:
        httpx.head(constants.ENDPOINT, timeout=_TIMEOUT_SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        return Finding(
            "Hub", "note", f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}): the "
            "embedded base, local folders and what was downloaded work",
            "export HTTPS_PROXY=..., if there is a proxy",
        )  # fmt: skip
    return Finding("Hub", "ok", f"{constants.ENDPOINT} can be reached")


def _token() -> Finding:
    if os.environ.get("HF_TOKEN", "").strip():
        return Finding("token", "ok", "HF_TOKEN is set")
    return Finding(
        "token", "note", "HF_TOKEN is not set: gated models and pushing need it",
        "export HF_TOKEN=..., made at https://huggingface.co/settings/tokens",
    )  # fmt: skip

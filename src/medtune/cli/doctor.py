from __future__ import annotations

import os
import platform
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

_NAMED = ("torch", "transformers", "trl", "peft", "bitsandbytes", "daft", "xllamacpp", "gradio")
"""Packages whose version is shown; of the others only what is wrong."""
_LOADED = ("torch", "xllamacpp", "daft")
"""Those with machine code of their own, which may be installed and yet not load."""
_LIBRARIES = {"libgomp": "libgomp1", "libstdc++": "libstdc++6"}
_TIMEOUT_SECONDS = 4.0
_TOKENS = "https://huggingface.co/settings/tokens"
_GIB = 2**30


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

    findings = [
        *_checked("Python", lambda: [Finding("Python", "ok", platform.python_version())]),
        *_checked("packages", _packages),
        *_checked("packages", _loading),
        *_checked("GPU", _gpu),
        *_checked("memory", _memory),
        *_checked("disk", _disks),
        *_checked("Hub", lambda: _hub(ask=not offline)),
    ]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{finding.state:5}  {finding.what:16} {finding.says}")
            if finding.mend:
                typer.echo(f"{'':24}mend it: {finding.mend}")
        typer.echo(_sum(findings))
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def _checked(what: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """A check that breaks is itself a finding: a sick machine is what this command is for."""
    try:
        return check()
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return [Finding(what, "wrong", f"could not be looked at: {reason[0]}", "pip check")]


def _sum(findings: list[Finding]) -> str:
    wrong = sum(finding.state == "wrong" for finding in findings)
    if wrong:
        return f"\n{wrong} to mend before the work can be done."
    return "\nThis machine can do the work."


def _packages() -> list[Finding]:
    """What Medtune needs, at the versions it needs, as its own metadata says."""
    from packaging.requirements import Requirement

    found = []
    for line in metadata.requires("medtune") or []:
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        mend = f"pip install {shlex.quote(f'{needed.name}{needed.specifier}')}"
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            found.append(Finding(needed.name, "wrong", "is not installed", mend))
            continue
        if not needed.specifier.contains(version, prereleases=True):
            says = f"{version} is installed, but {needed.specifier} is needed"
            found.append(Finding(needed.name, "wrong", says, mend))
        elif needed.name in _NAMED:
            found.append(Finding(needed.name, "ok", version))
    return found


def _loading() -> list[Finding]:
    return [
        finding
        for name in _LOADED
        if _is_installed(name) and (finding := _broken(name)) is not None
    ]


def _is_installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _broken(name: str) -> Finding | None:
    try:
        import_module(name)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        library = next((p for word, p in _LIBRARIES.items() if word in reason), None)
        mend = f"pip install --force-reinstall {name}"
        if library:
            mend = f"sudo apt-get install {library}"
        return Finding(name, "wrong", f"is installed but cannot be loaded: {reason}", mend)
    return None


def _gpu() -> list[Finding]:
    if not _is_installed("torch") or _broken("torch"):
        return []
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        free, total = (part / _GIB for part in torch.cuda.mem_get_info())
        kind = "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16"
        return [Finding("GPU", "ok", f"{name}, {free:.1f} of {total:.1f} GiB free, {kind}")]
    if shutil.which("nvidia-smi") and not torch.version.cuda:
        return [
            Finding(
                "GPU", "wrong", "there is one, but this torch is built for CPUs only",
                "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128",
            )
        ]  # fmt: skip
    if shutil.which("nvidia-smi"):
        return [
            Finding(
                "GPU", "wrong", f"there is one, but torch for CUDA {torch.version.cuda} cannot use it; "
                "mostly its driver is too old or the GPU is hidden from this process",
                "nvidia-smi, which names the newest CUDA that the driver knows; unset CUDA_VISIBLE_DEVICES",
            )
        ]  # fmt: skip
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [Finding("GPU", "note", f"none; small models train on {cores} CPU cores")]


def _memory() -> list[Finding]:
    if not hasattr(os, "sysconf"):
        return [Finding("memory", "note", "cannot be told on this system")]
    page = os.sysconf("SC_PAGE_SIZE") / _GIB
    total, free = os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page
    limit = _container_limit()
    says = f"{total:.1f} GiB, {free:.1f} GiB unused"
    if limit is not None and limit < total:
        total, says = limit, f"this container may use {limit:.1f} of {total:.1f} GiB"
    if total < 3.5:
        return [Finding("memory", "wrong", f"{says}; the smallest training needs 4", "use a machine, or give the container, 4 GiB")]  # fmt: skip
    return [Finding("memory", "ok", says)]


def _container_limit() -> float | None:
    """GiB that a container's control group allows; None without a limit."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text()) / _GIB
    except (OSError, ValueError):
        return None


def _disks() -> list[Finding]:
    """The folder for runs, and the disk for downloads where it is another one."""
    from huggingface_hub import constants

    here = Path.cwd()
    found = [_disk("disk", here, 2, "a run needs 2", "rm -r of runs that are no longer needed, in runs/")]  # fmt: skip
    cache = Path(constants.HF_HUB_CACHE)
    above = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if above.stat().st_dev != here.stat().st_dev:
        mend = "export HF_HOME=... to a folder on another disk, or hf cache prune"
        found.append(_disk("disk of the Hub", above, 2, "the smallest models need 2", mend))
    return found


def _disk(what: str, folder: Path, least: int, why: str, mend: str) -> Finding:
    free = shutil.disk_usage(folder).free / _GIB
    says = f"{free:.1f} GiB free in {folder}"
    if not os.access(folder, os.W_OK):
        return Finding(what, "wrong", f"{folder} cannot be written to", "cd ~")
    if free < least:
        return Finding(what, "wrong", f"{says}; {why}", mend)
    if free < 20:
        return Finding(what, "note", f"{says}; a 7B model needs 20", mend)
    return Finding(what, "ok", says)


def _hub(*, ask: bool) -> list[Finding]:
    """Whether the Hub can be reached and knows the token."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        says = "HF_HUB_OFFLINE is set: only what was downloaded works"
        return [Finding("Hub", "note", says, "unset HF_HUB_OFFLINE"), *_token(ask=False)]
    if not ask:
        return _token(ask=False)
    import httpx
    from huggingface_hub import constants

    try:
        httpx.head(constants.ENDPOINT, timeout=_TIMEOUT_SECONDS, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        says = (
            f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}): the embedded base, local "
            "folders and what was downloaded work"
        )
        mend = "export HTTPS_PROXY=..., if there is a proxy"
        if "HF_ENDPOINT" in os.environ:
            mend = "unset HF_ENDPOINT, which names this address"
        return [Finding("Hub", "note", says, mend), *_token(ask=False)]
    return [Finding("Hub", "ok", f"{constants.ENDPOINT} can be reached"), *_token(ask=True)]


def _token(*, ask: bool) -> list[Finding]:
    from huggingface_hub import get_token

    given = os.environ.get("HF_TOKEN", "").strip()
    if not given:
        if get_token() is None:
            says = "HF_TOKEN is not set: gated models and pushing need it"
            return [Finding("token", "note", says, f"export HF_TOKEN=..., made at {_TOKENS}")]
        says = "the one that `hf auth login` kept serves for downloads; pushing needs HF_TOKEN"
        return [Finding("token", "note", says, "export HF_TOKEN=$(hf auth token)")]
    if not ask:
        return [
            Finding("token", "ok", "HF_TOKEN is set; the Hub was not asked whether it knows it")
        ]
    return [_known_token(given)]


def _known_token(given: str) -> Finding:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        who: dict[str, Any] = HfApi(token=given).whoami()
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            says = "the Hub does not know the one in HF_TOKEN: downloads fail, too, even of public models"
            return Finding("token", "wrong", says, f"export HF_TOKEN=..., made anew at {_TOKENS}; or unset HF_TOKEN")  # fmt: skip
        return Finding("token", "note", f"HF_TOKEN is set; the Hub answered {status} when asked")
    except Exception as error:  # a connection that broke, whatever the transport calls it
        return Finding("token", "note", f"HF_TOKEN is set; the Hub did not answer ({type(error).__name__})")  # fmt: skip
    role = who.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        says = (
            f"HF_TOKEN belongs to {who['name']} and can only read; pushing needs one that can write"
        )
        return Finding("token", "note", says, f"export HF_TOKEN=..., made at {_TOKENS}")
    return Finding("token", "ok", f"HF_TOKEN belongs to {who['name']}")

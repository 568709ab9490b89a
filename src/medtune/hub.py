"""The Hugging Face Hub: files from it, patience with it, plain sentences where it fails."""

from __future__ import annotations

import errno
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

from medtune.errors import MedtuneError

T = TypeVar("T")
Say = Callable[[str], None]

_TIMEOUT_SECONDS = 5.0
_TRIES = 4
_AGAIN = frozenset({409, 412, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0
_DISK = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "has no more room for you (your quota is used up)",
    errno.EROFS: "cannot be written to",
    errno.EACCES: "may not be written to by you",
}


def _on_stderr(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def fetch(
    repo_id: str,
    kind: Literal["model", "dataset"],
    revision: str = "main",
    patterns: list[str] | None = None,
    say: Say = _on_stderr,
) -> Path:
    """The local folder of a Hub repository, downloaded if need be.

    Without a network, and where the Hub itself is down, what an earlier download left in the cache
    is used.  A busy Hub and a connection that breaks off are tried again; what has arrived is not
    fetched again.

    Raises:
        MedtuneError: no network (said within seconds), no such repository or revision, a gated
            one that needs a token, a token that the Hub does not know, a Hub that keeps failing,
            or a full disk.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    what = f"the {kind} {repo_id!r}"

    def look() -> Any:
        return HfApi().repo_info(
            repo_id, repo_type=kind, revision=revision, timeout=_TIMEOUT_SECONDS
        )

    def download() -> str:
        return snapshot_download(
            repo_id, repo_type=kind, revision=revision, allow_patterns=patterns
        )

    answered = 0

    def refused(error: Exception, status: int) -> MedtuneError:
        nonlocal answered
        answered = status
        return _download_refused(error, status, what, kind, repo_id, revision)

    try:
        # Where there is no network at all, that is said at once.
        patiently(look, refused, say, cut=None)
    except HFValidationError:
        raise MedtuneError(
            f"{repo_id!r} is no file or folder here, nor a Hub id (owner/name); check the spelling."
        ) from None
    except MedtuneError:
        folder = _cached(repo_id, kind, revision) if answered in _AGAIN else None
        if folder is None:
            raise
        say(f"The Hub answered {answered}; {what} is taken as an earlier download left it.")
        return folder
    except (OSError, OfflineModeIsEnabled, *_transport_errors()):
        folder = _cached(repo_id, kind, revision)
        if folder is None:
            local = "folder" if kind == "model" else "file"
            raise MedtuneError(
                f"{repo_id!r} is not on this machine and the Hub cannot be reached; connect to the "
                f"network once to download it, or name a local {local}."
            ) from None
        return folder
    cut = f"The connection to the Hub broke off {_TRIES} times while {what} was fetched; start again, what has arrived is kept."  # fmt: skip
    try:
        with _client_silent():
            return Path(patiently(download, refused, say, cut=cut))
    except Exception as error:
        if sentence := _disk_sentence(error, what):
            raise MedtuneError(sentence) from error
        raise


def patiently(
    call: Callable[[], T],
    refused: Callable[[Exception, int], MedtuneError],
    say: Say,
    cut: str | None,
) -> T:
    """Call the Hub, and call again where it is busy or the connection was cut.

    Args:
        call: talks to the Hub, by ``huggingface_hub``.
        refused: the error for an HTTP status that is final; 0 where it is not known.
        say: told before each wait.
        cut: the sentence for a connection that cannot be made or keeps breaking; None: one that
            cannot be made is not tried again, and the transport's own error is raised.

    Raises:
        MedtuneError: refused, or still failing at the last try.
    """
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    for tried in range(1, _TRIES + 1):
        try:
            return call()
        except (HFValidationError, OfflineModeIsEnabled):
            raise
        except (OSError, *_transport_errors()) as error:
            # A file that could not be asked for looks like one that is missing from the cache.
            reason = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
            if isinstance(reason, HfHubHTTPError):
                status = reason.response.status_code if reason.response is not None else 0
                if status not in _AGAIN or tried == _TRIES:
                    raise refused(reason, status) from error
                wait, what = _asked_wait(reason) or 2.0 ** (tried - 1), f"answered {status}"
            elif _of_the_disk(error) or (cut is None and not _is_cut(error)):
                raise
            elif tried == _TRIES:
                if cut is None:
                    raise
                raise MedtuneError(cut) from error
            else:
                wait, what = 2.0 ** (tried - 1), "cut the connection"
        say(f"The Hub {what}; trying again in {wait:.0f} s ({tried} of {_TRIES - 1}).")
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


@contextmanager
def _client_silent() -> Iterator[None]:
    """The client's own lines about each failed request are left out; ours say it once."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _cached(repo_id: str, kind: Literal["model", "dataset"], revision: str) -> Path | None:
    """What lies on this machine of it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(repo_id, repo_type=kind, revision=revision, local_files_only=True)
        )
    except (OSError, LocalEntryNotFoundError):
        return None


def _download_refused(
    error: Exception, status: int, what: str, kind: str, repo_id: str, revision: str
) -> MedtuneError:
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return MedtuneError(
            f"The Hub grants no access to {what}: accept its licence on its page, then set HF_TOKEN."
        )
    if status == 401 and _has_token():  # huggingface_hub also calls this "not found"
        return MedtuneError(
            f"The Hub does not know your token, so it does not give {what}; make a new one at "
            "https://huggingface.co/settings/tokens and set HF_TOKEN to it, or unset HF_TOKEN "
            "where the repository is public."
        )
    if isinstance(error, RepositoryNotFoundError):
        return MedtuneError(
            f"The Hub has no {kind} {repo_id!r}, or it is private; check the spelling, or set HF_TOKEN."
        )
    if isinstance(error, RevisionNotFoundError):
        return MedtuneError(f"The Hub has {what}, but no revision {revision!r} of it.")
    sentences = {
        401: f"The Hub gives {what} to nobody without a token; set HF_TOKEN to one from "
        "https://huggingface.co/settings/tokens.",
        403: f"Your token may not read {what}; give it that right at "
        "https://huggingface.co/settings/tokens, or use another.",
        429: f"The Hub asks to slow down and goes on asking; fetch {what} again in an hour, or set "
        "HF_TOKEN, which allows more; what has arrived is kept.",
    }
    default = f"The Hub answered {status} for {what} and went on doing so; try again later, what has arrived is kept."  # fmt: skip
    return MedtuneError(sentences.get(status, default))


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _is_cut(error: Exception) -> bool:
    """A connection that was there and broke, unlike one that could not be made or timed out."""
    return type(error).__name__ in ("RemoteProtocolError", "ReadError", "WriteError")


def _of_the_disk(error: Exception) -> int | None:
    """Which trouble of the disk an error comes from; the Rust downloader tells it in words only."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in _DISK:
            return found.errno
        if "No space left on device" in str(found):
            return errno.ENOSPC
        found = found.__cause__ or found.__context__
    return None


def _disk_sentence(error: Exception, what: str) -> str:
    from huggingface_hub import constants

    number = _of_the_disk(error)
    if number is None:
        return ""
    return (
        f"The disk with {constants.HF_HUB_CACHE} {_DISK[number]}, so {what} could not be fetched "
        "whole; free some space (`hf cache ls` shows what lies there), or set HF_HOME to a folder on "
        "another disk, and start again."
    )


def _transport_errors() -> list[type[Exception]]:
    """What a broken connection raises: huggingface_hub talks through httpx, from 2.4 on httpx2."""
    return [import_module(name).TransportError for name in ("httpx", "httpx2") if find_spec(name)]


def _asked_wait(error: Any) -> float | None:
    """Seconds that the server asks for, in reason."""
    try:
        return min(float(error.response.headers["Retry-After"]), _LONGEST_WAIT)
    except (KeyError, TypeError, ValueError):
        return None

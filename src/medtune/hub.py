"""Files from the Hugging Face Hub, with plain sentences where they cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medtune.errors import MedtuneError

_TIMEOUT_SECONDS = 5.0


def fetch(
    repo_id: str,
    kind: Literal["model", "dataset"],
    revision: str = "main",
    patterns: list[str] | None = None,
) -> Path:
    """The local folder of a Hub repository, downloaded if need be.

    Without a network, what an earlier download left in the cache is used.

    Raises:
        MedtuneError: no network (said within seconds), no such repository or revision, or a
            gated one that needs a token.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = f"the {kind} {repo_id!r}"
    try:
        HfApi().repo_info(repo_id, repo_type=kind, revision=revision, timeout=_TIMEOUT_SECONDS)
        return Path(
            snapshot_download(repo_id, repo_type=kind, revision=revision, allow_patterns=patterns)
        )
    except HFValidationError:
        raise MedtuneError(
            f"{repo_id!r} is no file or folder here, nor a Hub id (owner/name); check the spelling."
        ) from None
    except GatedRepoError:
        raise MedtuneError(
            f"The Hub grants no access to {what}: accept its licence on its page, then set HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        raise MedtuneError(
            f"The Hub has no {kind} {repo_id!r}, or it is private; check the spelling, or set HF_TOKEN."
        ) from None
    except RevisionNotFoundError:
        raise MedtuneError(f"The Hub has {what}, but no revision {revision!r} of it.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise MedtuneError(f"The Hub answered {status} for {what}; try again later.") from None
    except Exception:
        # No connection, whatever the transport library of the day calls it: the cache may do.
        pass
    try:
        return Path(
            snapshot_download(repo_id, repo_type=kind, revision=revision, local_files_only=True)
        )
    except Exception:
        raise MedtuneError(
            f"{repo_id!r} is not on this machine and the Hub cannot be reached; connect to the "
            f"network once to download it, or name a local {'folder' if kind == 'model' else 'file'}."
        ) from None

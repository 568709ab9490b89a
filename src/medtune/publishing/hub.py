"""Push a run to the Hugging Face Hub: what goes, whether it may, and what happens when it fails."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from medtune.errors import MedtuneError
from medtune.hub import patiently
from medtune.model.gguf.export import Progress, gguf_of
from medtune.model.gguf.quantize import Quantization
from medtune.model.load import trained_folder
from medtune.model.merge import write_merged
from medtune.publishing.card import What, model_card
from medtune.publishing.facts import FOLDER, without_path, write_facts
from medtune.run import Run, whole

T = TypeVar("T")


@dataclass(frozen=True)
class Pushed:
    url: str
    files: dict[str, int]
    """Name and bytes of everything that went."""


def collect(
    run: Run,
    repo_id: str,
    what: What,
    kind: Quantization = "q8_0",
    advance: Progress = lambda done, total: None,
) -> Path:
    """Put together the folder that goes to the Hub.

    It holds the model, its card, and the run's facts.  Rows of the data and paths of this machine
    stay here.

    Returns:
        ``exports/hub`` of the run.

    Raises:
        MedtuneError: the run is not trained, has no adapter, or llama.cpp cannot run its model.
    """
    trained = trained_folder(run)
    if what == "adapter" and trained == run.full_model:
        raise MedtuneError(
            f"The run {run.name!r} trained every weight, so it has no adapter; push it with "
            "`--what merged`."
        )
    model = {"merged": write_merged, "gguf": lambda r: gguf_of(r, kind, advance)}.get(what)
    source = model(run) if model else trained
    card = model_card(run, what, repo_id)
    with whole(run.hub_folder) as part:
        part.mkdir()
        for file in [source] if source.is_file() else sorted(source.iterdir()):
            if file.is_file() and file.name not in ("README.md", "training_args.bin"):
                _link(file, part / file.name)
        if what == "adapter":
            _name_base(part / "adapter_config.json", run)
        (part / "README.md").write_text(card, encoding="utf-8")
        write_facts(run, part / FOLDER)
    return run.hub_folder


def check_access(repo_id: str, *, private: bool = True, say: Callable[[str], None] = print) -> None:
    """Make sure that this token may write to ``repo_id``; the repository is made if need be.

    Meant to be called before a training, so that hours of work do not end at a missing right.

    Raises:
        MedtuneError: no token, a token that cannot write, a wrong owner, or no network.
    """
    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        raise MedtuneError(f"{repo_id!r} is no Hub repository; write owner/name.", exit_code=2)
    api = _api()
    owner = repo_id.split("/")[0]
    me = _asked(api.whoami, repo_id, say)
    mine = [me["name"], *(one["name"] for one in me.get("orgs", []))]
    if owner not in mine:
        raise MedtuneError(
            f"The token in HF_TOKEN belongs to {me['name']}, who cannot write to {owner}; "
            f"push to {me['name']}/{repo_id.split('/')[1]} or use another token."
        )
    if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise MedtuneError(
            "The token in HF_TOKEN can only read; make one that can write at "
            "https://huggingface.co/settings/tokens."
        )
    _asked(lambda: api.create_repo(repo_id, private=private, exist_ok=True), repo_id, say)


def push(
    folder: Path, repo_id: str, *, private: bool = True, say: Callable[[str], None] = print
) -> Pushed:
    """Upload a folder to a model repository.

    What is there already is not sent again, so a push that was cut off goes on when it is
    started once more.  Busy or failing servers are asked again a few times.

    Raises:
        MedtuneError: see ``check_access``, or the Hub keeps failing, or refuses the model card.
    """
    check_access(repo_id, private=private, say=say)
    api = _api()
    try:
        done: Any = _asked(
            lambda: api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message="Push from Medtune"
            ),
            repo_id,
            say,
        )
    except ValueError as error:  # what the Hub's check of the card's head comes back as
        reason = " ".join(str(error).split())
        raise MedtuneError(
            f"The Hub refuses the model card: {reason} Mend publishing.license or "
            "publishing.data_license in the run's recipe.yaml and push again."
        ) from error
    return Pushed(str(done.commit_url).split("/commit/")[0], files_of(folder))


def files_of(folder: Path) -> dict[str, int]:
    """Name and bytes of every file in a folder, in order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def token() -> str:
    """The token of the environment.

    Raises:
        MedtuneError: there is none.
    """
    found = os.environ.get("HF_TOKEN", "").strip()
    if not found:
        raise MedtuneError(
            "There is no token; make one that can write at https://huggingface.co/settings/tokens "
            "and set HF_TOKEN to it."
        )
    return found


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(token=token())


def _asked(call: Callable[[], T], repo_id: str, say: Callable[[str], None]) -> T:
    """Ask the Hub with patience.

    Raises:
        MedtuneError: refused, or still failing at the last try.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled

    cut = (
        "The connection to the Hub cannot be made or keeps breaking off; push again, what has "
        "arrived is not sent again."
    )
    try:
        return patiently(call, lambda error, status: _refusal(status, repo_id), say, cut)
    except OfflineModeIsEnabled:
        raise MedtuneError(
            "HF_HUB_OFFLINE is set, so nothing can be pushed; unset it and push again."
        ) from None


def _refusal(status: int, repo_id: str) -> MedtuneError:
    sentences = {
        401: "The Hub does not know the token in HF_TOKEN; make a new one at "
        "https://huggingface.co/settings/tokens.",
        403: f"The token in HF_TOKEN may not write to {repo_id}; give it write access, or push to a "
        "repository of your own.",
        404: f"The Hub has no {repo_id}, or the token may not see it; check the name.",
        409: f"Somebody else is changing {repo_id} at the same time; push again later.",
        412: f"Somebody else is changing {repo_id} at the same time; push again later.",
        413: "The Hub refuses a file as too large; push the adapter, or a smaller quantisation.",
        429: "The Hub asks to slow down; push again in an hour, what has arrived is not sent again.",
    }
    default = f"The Hub answered {status} and went on doing so; push again later, what has arrived "
    return MedtuneError(sentences.get(status, default + "is not sent again."))


def _link(source: Path, target: Path) -> None:
    """A second name for a large file costs nothing; a copy where the disk cannot do that."""
    if source.suffix in (".json", ".jinja"):  # may be rewritten below
        shutil.copyfile(source, target)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _name_base(config: Path, run: Run) -> None:
    """Name the base for others: the path it was loaded from means nothing elsewhere."""
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = without_path(run.recipe().model.base)
    config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

"""A folder that Hugging Face Spaces runs as it is: the web page with the same safety layer."""

from __future__ import annotations

import re
import shutil
from importlib import metadata, resources
from pathlib import Path

import medtune
from medtune.errors import MedtuneError
from medtune.publishing.facts import FOLDER
from medtune.publishing.hub import collect
from medtune.run import Run, whole

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")
# What preparing data, training and drawing reports need, but a chat does not.
_NOT_FOR_CHAT = {
    "daft",
    "datasets",
    "matplotlib",
    "prompt-toolkit",
    "rouge-score",
    "sacrebleu",
    "trl",
}


def write_space(run: Run, adapter: str = "") -> Path:
    """Write ``app.py``, ``requirements.txt``, ``README.md``, Medtune itself and the adapter.

    Medtune travels along as source, so that the page answers by the very rules that were
    tested with this run, whatever version is current.

    Args:
        run: trained.
        adapter: owner/name on the Hub, fetched when the page starts; empty: the adapter goes
            into the folder.

    Returns:
        ``exports/space`` of the run.

    Raises:
        MedtuneError: the run is not trained, or ``adapter`` is no address.
    """
    if adapter and not re.fullmatch(r"[\w.-]+/[\w.-]+", adapter):
        raise MedtuneError(f"{adapter!r} is no Hub repository; write owner/name.", exit_code=2)
    base = run.recipe().model.base
    if base != "embedded" and Path(base).is_dir():
        raise MedtuneError(
            f"The base {base} is a folder on this machine, which a Space cannot load; train on a base "
            "from the Hub, or push the base first and name it in the recipe."
        )
    prepared = collect(run, adapter or f"local/{run.name}", "adapter")
    files = resources.files("medtune.publishing").joinpath("space_files")
    with whole(run.space) as part:
        part.mkdir()
        page = files.joinpath("app.py").read_text(encoding="utf-8")
        (part / "app.py").write_text(page.replace("{{ADAPTER}}", adapter), encoding="utf-8")
        (part / "requirements.txt").write_text(requirements(), encoding="utf-8")
        (part / "README.md").write_text(_readme(run, adapter), encoding="utf-8")
        shutil.copytree(Path(medtune.__file__).parent, part / "medtune", ignore=_LEFT_OUT)
        if not adapter:
            shutil.copytree(prepared, part / "run" / "adapter")
            shutil.copyfile(prepared / FOLDER / "recipe.yaml", part / "run" / "recipe.yaml")
    return run.space


def requirements() -> str:
    """What a chat needs, at the versions that stand here.

    Spaces brings its own Gradio and, with a GPU, its own torch; both accept these lines.
    """
    lines = []
    for requirement in metadata.requires("medtune") or []:
        name = re.split(r"[<>=!~;\[ ]", requirement)[0]
        if "extra ==" in requirement or name in _NOT_FOR_CHAT:
            continue
        version = metadata.version(name).partition("+")[0]
        lines.append(requirement if name == "torch" else f"{name}=={version}")
    return "\n".join(sorted(lines)) + "\n"


def _readme(run: Run, adapter: str) -> str:
    model = f"models: [{adapter}]\n" if adapter else ""
    return (
        "---\n"
        f"title: {run.name}\n"
        "sdk: gradio\n"
        f"sdk_version: {metadata.version('gradio')}\n"
        'python_version: "3.11"\n'
        "app_file: app.py\n"
        "license: apache-2.0\n"
        "pinned: false\n"
        "short_description: Medical chatbot for information, not advice\n"
        f"{model}"
        "---\n\n"
        f"# {run.name}\n\n"
        "A chatbot made with Medtune. **It gives information, not medical advice, and it can be "
        "wrong. In an emergency call your local emergency number.**\n\n"
        "Rules that recognise emergencies stand before the model and answer without it. Set the "
        "variable `COUNTRY` to two letters, such as `GB`, for the emergency lines of a country. "
        "Hardware: the free CPU runs small models, ZeroGPU larger ones.\n"
    )

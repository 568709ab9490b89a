"""The run folder: the only module that knows a file name inside a run.

Every file appears whole or not at all: it is written beside its place and renamed.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from medtune.errors import MedtuneError
from medtune.recipe import Recipe, load_recipe

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

_PACKAGES = [
    "medtune",
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "daft",
    "sacrebleu",
    "rouge-score",
]


@dataclass(frozen=True)
class Run:
    """One run's folder and the places inside it."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def recipe_file(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def manifest_file(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def data_folder(self) -> Path:
        """The splits, the data card and what the preparation left."""
        return self.folder / "data"

    def split_file(self, split: SplitName) -> Path:
        """The prepared rows of a split, parquet."""
        return self.folder / "data" / f"{split}.parquet"

    @property
    def dropped_file(self) -> Path:
        """Rows that preparation left out, with the reason, parquet."""
        return self.folder / "data" / "dropped.parquet"

    @property
    def card_json(self) -> Path:
        return self.folder / "data" / "card.json"

    @property
    def card_markdown(self) -> Path:
        return self.folder / "data" / "card.md"

    @property
    def card_page(self) -> Path:
        """The data card as a page with pictures."""
        return self.folder / "data" / "card.html"

    @property
    def stages(self) -> Path:
        """What the steps of a preparation left, so that a changed setting redoes only what follows."""
        return self.folder / "data" / "stages"

    @property
    def checkpoints(self) -> Path:
        """What ``--resume`` goes on from."""
        return self.folder / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The trained adapter with tokenizer and template; there only after a whole training."""
        return self.folder / "adapter"

    @property
    def full_model(self) -> Path:
        """The trained model of a run without an adapter (full fine-tuning)."""
        return self.folder / "model"

    @property
    def metrics_file(self) -> Path:
        """One JSON object per logged training step."""
        return self.folder / "metrics.jsonl"

    @property
    def samples_file(self) -> Path:
        """Answers to a few fixed questions at each evaluation, one JSON object each."""
        return self.folder / "samples.jsonl"

    @property
    def sweep_file(self) -> Path:
        """The table of a sweep, whose experiments are runs beside this one."""
        return self.folder / "sweep.json"

    @property
    def study_file(self) -> Path:
        """The trials of a sweep's search, as Optuna keeps them (SQLite)."""
        return self.folder / "search.sqlite"

    @property
    def training_file(self) -> Path:
        """What the training came to: steps, seconds, peak memory, losses."""
        return self.folder / "training.json"

    @property
    def results_file(self) -> Path:
        return self.folder / "evaluation" / "results.json"

    @property
    def answers_file(self) -> Path:
        """Every test question with the answers of base and tuned, parquet."""
        return self.folder / "evaluation" / "answers.parquet"

    @property
    def answers_cache(self) -> Path:
        """Answers and losses by what they depend on, so that nothing is computed twice."""
        return self.folder / "evaluation" / "cache.sqlite"

    @property
    def report_summary(self) -> Path:
        """The report in short, Markdown."""
        return self.folder / "report" / "summary.md"

    @property
    def report_file(self) -> Path:
        return self.folder / "report" / "index.html"

    @property
    def exports(self) -> Path:
        return self.folder / "exports"

    @property
    def merged(self) -> Path:
        """The merged model as transformers reads it."""
        return self.exports / "merged"

    def gguf_file(self, kind: str) -> Path:
        """The merged model for llama.cpp; ``kind`` is its quantisation, such as ``q8_0``."""
        return self.exports / f"{self.name}-{kind}.gguf"

    def base_gguf_file(self, kind: str) -> Path:
        """The untuned base for llama.cpp, to compare with."""
        return self.exports / f"{self.name}-base-{kind}.gguf"

    @property
    def gguf_adapter(self) -> Path:
        """The adapter alone for llama.cpp, to be put on a GGUF of the base."""
        return self.exports / f"{self.name}-lora.gguf"

    @property
    def modelfile(self) -> Path:
        """What ``ollama create`` reads."""
        return self.exports / "Modelfile"

    @property
    def space(self) -> Path:
        """The web page as a folder that Hugging Face Spaces runs."""
        return self.exports / "space"

    @property
    def hub_folder(self) -> Path:
        """What was last put together for the Hub."""
        return self.exports / "hub"

    def keep(self, recipe: Recipe) -> None:
        """Write the resolved recipe into the run; an earlier one is replaced."""
        self.write_text(self.recipe_file, recipe.to_yaml())

    @classmethod
    def open(cls, name_or_path: str | Path, root: Path = Path("runs")) -> Run:
        """An existing run, by path or by its name under ``root``.

        Raises:
            MedtuneError: there is no such run; the sentence names those that exist.
        """
        for folder in (Path(name_or_path), root / name_or_path):
            if (folder / "recipe.yaml").is_file():
                return cls(folder)
        known = sorted(path.parent.name for path in root.glob("*/recipe.yaml"))
        hint = f"there are: {', '.join(known)}" if known else "start one with `medtune demo`"
        raise MedtuneError(f"There is no run {str(name_or_path)!r}; {hint}.")

    def recipe(self) -> Recipe:
        """The resolved recipe that this run was made with."""
        return load_recipe(self.recipe_file)

    def require(self, path: Path, missing: str) -> Path:
        """``path`` if it exists.

        Raises:
            MedtuneError: it does not; ``missing`` is the sentence with what to do.
        """
        if not path.exists():
            raise MedtuneError(missing)
        return path

    def write_text(self, path: Path, text: str) -> None:
        with whole(path) as part:
            part.write_text(text, encoding="utf-8")

    def write_json(self, path: Path, value: Any) -> None:
        self.write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise MedtuneError(
                f"{path} cannot be read ({error}); make it again with the command that wrote it."
            ) from None

    def write_manifest(self, **facts: Any) -> None:
        """Add facts to ``manifest.json``: what is needed to repeat the run.

        Package versions, hardware and the command line are always recorded; callers add the
        fingerprint of the data, seeds and timings.
        """
        manifest = self.read_json(self.manifest_file) if self.manifest_file.exists() else {}
        manifest.update(
            created=manifest.get("created") or datetime.now(UTC).isoformat(timespec="seconds"),
            python=platform.python_version(),
            platform=platform.platform(),
            packages=_versions(),
            hardware=hardware(),
        )
        manifest.setdefault("commands", []).append(shlex.join(["medtune", *sys.argv[1:]]))
        manifest.update(facts)
        self.write_json(self.manifest_file, manifest)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` (file or folder) that takes its place when all went well.

    Raises:
        MedtuneError: the disk is full or cannot be written to.  Nothing half-written stays.
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)) / path.name
        yield part
        if part.is_dir() and path.is_dir():
            shutil.rmtree(path)
        part.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        if part is not None:
            shutil.rmtree(part.parent, ignore_errors=True)


def disk_error(error: OSError, path: Path) -> Exception:
    """The sentence for a disk that is full or read-only; any other error unchanged."""
    sentences = {
        errno.ENOSPC: f"The disk is full while writing {path}; free some space and start again.",
        errno.EDQUOT: f"Your disk quota is used up while writing {path}; free some space.",
        errno.EROFS: f"{path} cannot be written: the disk is read-only; choose another folder.",
        errno.EACCES: f"{path} cannot be written: permission denied; choose another folder.",
        errno.EPERM: f"{path} cannot be written: not permitted; choose another folder.",
        errno.ENOTDIR: f"{path} cannot be written: a part of its path is a file, not a folder.",
        errno.EEXIST: f"{path} cannot be written: a part of its path is a file, not a folder.",
    }
    sentence = sentences.get(error.errno or 0)
    return MedtuneError(sentence) if sentence else error


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and, where torch is loaded already, the GPU."""
    found: dict[str, Any] = {"cpu": _cpu_name(), "cores": os.cpu_count()}
    if hasattr(os, "sysconf"):
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found["memory_gib"] = round(pages / 2**30, 1)
    torch = sys.modules.get("torch")  # asked for only where the command has loaded it anyway
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

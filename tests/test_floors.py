"""Imports never point upward, and the command line loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import medtune

PACKAGE = Path(medtune.__file__).parent
FLOORS = (
    {"errors", "recipe", "run", "hub"},
    {"embedded", "safety"},
    {"data", "model"},
    {"training", "chat"},
    {"evaluation"},
    {"experiments", "publishing", "serving"},
    {"cluster"},
    {"cli", "__main__", "__init__"},
)
HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "daft",
    "gradio",
    "matplotlib",
    "pyarrow",
    "gguf",
    "xllamacpp",
    "huggingface_hub",
    "ray",
)


def _floor(part: str) -> int:
    return next(i for i, floor in enumerate(FLOORS) if part in floor)


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.startswith("medtune.")}


def test_every_module_stands_on_a_floor() -> None:
    for path in PACKAGE.iterdir():
        if path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists()):
            _floor(path.stem)


def test_no_import_points_upward() -> None:
    upward = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in PACKAGE.rglob("*.py")
        for name in _imports(path)
        if _floor(name.split(".")[1])
        > _floor(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    ]
    assert upward == []


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; import medtune.cli.app; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

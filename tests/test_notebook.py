"""The notebook runs from top to bottom on a CPU, on few rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "notebooks" / "medtune_colab.ipynb"


def test_it_holds_no_output_no_token_and_no_logic_of_its_own() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        text = "".join(cell["source"])
        assert "hf_" not in text
        assert not any(line.startswith(("def ", "class ")) for line in cell["source"])
        assert not cell.get("outputs")


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("MEDTUNE_ROWS", "60")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    printed = json.dumps(notebook.cells)
    assert "Call your local emergency number now" in printed
    assert (tmp_path / "runs/colab/exports/colab-q8_0.gguf").is_file()
    assert (tmp_path / "runs/colab/report/index.html").is_file()

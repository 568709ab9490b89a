from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medtune.cli.app import app
from medtune.errors import MedtuneError
from medtune.experiments.compare import compare, write_page
from medtune.run import Run


def _score(value: float) -> dict[str, object]:
    return {"value": value, "ci": [value - 0.1, value + 0.1], "n": 40}


@pytest.fixture
def runs(tuned_run: Run, tmp_path: Path) -> list[Run]:
    made: list[Run] = []
    for name, value in (("small", 0.4), ("<large>", 0.7)):
        run = Run(shutil.copytree(tuned_run.folder, tmp_path / name))
        change = {"value": value - 0.1, "ci": [0.2, 0.5], "p": 0.001}
        results = {
            "base": {"condition_top1": _score(0.1), "perplexity": _score(9)},
            "tuned": {"condition_top1": _score(value), "perplexity": _score(5 + value)},
            "delta": {"condition_top1": change, "perplexity": change},
            "gate": {"passed": value > 0.5, "primary": "condition_top1", "reasons": ["no gain"]},
        }
        run.write_json(run.results_file, results)
        made.append(run)
    return made


def test_the_best_of_a_line_is_the_largest_or_of_perplexity_the_smallest(runs: list[Run]) -> None:
    lines = {line["label"]: line["cells"] for line in compare(runs).lines()}
    assert [cell["best"] for cell in lines["Right condition first"]] == [False, True]
    assert [cell["best"] for cell in lines["Perplexity"]] == [True, False]
    assert lines["Right condition first"][1]["value"] == "70.0%"


def test_other_rows_are_warned_of(runs: list[Run], tmp_path: Path) -> None:
    page = write_page(compare(runs), tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "different rows" not in page
    assert "<large>" not in page
    assert "&lt;large&gt;" in page
    card = runs[1].read_json(runs[1].card_json)
    runs[1].write_json(runs[1].card_json, {**card, "fingerprint": "another"})
    found = compare(runs)
    assert not found.same_rows
    assert "different rows" in write_page(found, tmp_path / "c.html").read_text(encoding="utf-8")


def test_one_run_is_too_few_and_an_unmeasured_one_is_named(runs: list[Run]) -> None:
    with pytest.raises(MedtuneError, match="two different runs"):
        compare([runs[0], runs[0]])
    runs[1].results_file.unlink()
    with pytest.raises(MedtuneError, match="medtune evaluate <large>"):
        compare(runs)


def test_the_command_prints_json(runs: list[Run]) -> None:
    folders = [str(run.folder) for run in runs]
    done = CliRunner().invoke(app, ["compare", *folders, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["runs"]["small"]["tuned"]["condition_top1"]["value"] == 0.4

"""``medtune evaluate`` from the command line to the report, with benchmarks and a judge."""

from __future__ import annotations

import gzip
import json
import shutil
from itertools import islice
from pathlib import Path

import pytest
from click.testing import Result
from judge_server import JudgeServer, Reply, verdict
from typer.testing import CliRunner

from medtune.cli.app import app
from medtune.errors import MedtuneError
from medtune.run import Run


@pytest.fixture
def run(tuned_run: Run, tmp_path: Path) -> Run:
    copy = Run(shutil.copytree(tuned_run.folder, tmp_path / "runs" / "tuned"))
    recipe = copy.recipe()
    asked = {"benchmark_limit": 6, "max_new_tokens": 6, "metrics": ["perplexity", "condition"]}
    section = recipe.evaluation.model_copy(update=asked)
    copy.keep(recipe.model_copy(update={"evaluation": section}))
    return copy


def _evaluate(run: Run, *options: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", str(run.folder), *options])


def _said(done: Result) -> str:
    """What was printed, and the sentence that the command line would print last."""
    assert done.exception is None or isinstance(done.exception, MedtuneError | SystemExit), done
    return f"{' '.join(done.output.split())} {done.exception or ''}"


def _healthbench(folder: Path) -> str:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"I have had complaint {i} since Monday."}],
            "rubrics": [
                {"criterion": f"Asks about point {i}.", "points": 5, "tags": ["axis:accuracy"]},
                {"criterion": "Names a wrong dose.", "points": -3, "tags": ["axis:accuracy"]},
            ],
            "example_tags": ["theme:context_seeking"],
        }
        for i in range(6)
    ]
    path = folder / "healthbench.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return f"healthbench={path}"


def _labels(folder: Path) -> str:
    rows = [
        {"prompt": "I cough.", "completion": "Rest.", "rubric": f"Asks about point {i}.",
         "binary_labels": [i % 2 == 0, True]}
        for i in range(8)
    ]  # fmt: skip
    path = folder / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_genuine_benchmarks_run_end_to_end(run: Run, shared_data: Path, tmp_path: Path) -> None:
    """Multiple choice, yes/no/maybe, long answers (one in K-QA's columns) and safety."""
    with gzip.open(shared_data / "medquad.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, 8)]
    kqa = tmp_path / "kqa.jsonl"
    named = [{"Question": r["question"], "Free_form_answer": r["answer"]} for r in rows]
    kqa.write_text("\n".join(map(json.dumps, named)), encoding="utf-8")
    files = {
        "medmcqa": shared_data / "medmcqa_600.jsonl.gz",
        "pubmedqa": shared_data / "pubmedqa" / "pqal_500.json.gz",
        "medquad": shared_data / "medquad.jsonl.gz",
        "kqa": kqa,
        "xstest": shared_data / "xstest" / "xstest_prompts.csv",
        "medsafetybench": shared_data / "medsafetybench",
    }
    options = [part for name, file in files.items() for part in ("--benchmark", f"{name}={file}")]
    done = _evaluate(run, *options)
    assert done.exit_code == 0, done.output
    found = run.read_json(run.results_file)["benchmarks"]
    assert found.keys() == files.keys()
    for one in found.values():
        assert one["n"] + one["too_long"] == 6
        assert one["tuned"].keys() == one["base"].keys() == one["delta"].keys()
    assert found["medmcqa"]["chance"] == 0.25
    assert found["medmcqa"]["calibration"]["tuned"]["ece"]["n"] == found["medmcqa"]["n"]
    assert {"refusal", "over_refusal", "refusal_deployed"} <= found["xstest"]["tuned"].keys()
    page = run.report_file.read_text(encoding="utf-8")
    for name in files:
        assert f"{name}: " in page


def test_rubrics_are_graded_and_the_judge_is_named_with_its_agreement(
    run: Run, tmp_path: Path
) -> None:
    with JudgeServer(lambda prompt, _: verdict("Asks about" in prompt)) as server:
        options = (
            "--benchmark", _healthbench(tmp_path), "--judge", server.url, "--judge-model", "strict",
            "--judge-labels", _labels(tmp_path),
        )  # fmt: skip
        done = _evaluate(run, *options)
        assert done.exit_code == 0, done.output
        asked = len(server.prompts)
        assert _evaluate(run, *options).exit_code == 0
        assert len(server.prompts) == asked  # kept
    results = run.read_json(run.results_file)
    one = results["benchmarks"]["healthbench"]
    assert one["tuned"]["rubric"]["value"] == 1
    assert one["by_tag"]["theme:context_seeking"]["n"] == 6
    assert results["unfinished"] == []
    # Of 16 labels the judge says "met" to all: 4 "not met" are missed.
    assert results["judge"]["agreement"]["share"]["value"] == pytest.approx(9 / 12)
    page = run.report_file.read_text(encoding="utf-8")
    assert f"Graded by strict at {server.url}/v1. It agrees with physicians" in page
    assert "points of the criteria" in page


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [(429, "answers HTTP 429"), ("It is met, I think.", "not the JSON object"), (1.0, "no answer within")],
)  # fmt: skip
def test_a_judge_that_fails_leaves_a_report_of_the_rest_and_a_sentence(
    fault: Reply, sentence: str, run: Run, tmp_path: Path
) -> None:
    recipe = run.recipe()
    with JudgeServer(lambda prompt, _: fault if "point 3" in prompt else verdict(True)) as server:
        judge = {"url": server.url, "model": "m", "attempts": 1, "seconds": 0.5}
        section = recipe.evaluation.model_validate(
            {**recipe.evaluation.model_dump(), "judge": judge}
        )
        run.keep(recipe.model_copy(update={"evaluation": section}))
        done = _evaluate(run, "--benchmark", _healthbench(tmp_path))
    assert done.exit_code == 1
    assert sentence in _said(done)
    assert "The report is" in done.output
    results = run.read_json(run.results_file)
    assert results["benchmarks"]["healthbench"]["n"] == 5
    assert results["benchmarks"]["healthbench"]["ungraded"] == 1
    assert results["tuned"]["perplexity"]["n"] == results["test_rows"]
    assert "Unfinished: The judge" in run.report_file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ("question,reply\na,b\n", "no column for the answer"),
        ("question,answer\n", "holds no questions"),
        ("question,answer\n,\n", "none with a question that can be scored"),
    ],
)
def test_a_wrong_file_is_said_before_anything_is_computed_and_keeps_the_last_results(
    content: str, sentence: str, run: Run, tmp_path: Path
) -> None:
    run.write_json(run.results_file, {"kept": True})
    file = tmp_path / "wrong.csv"
    file.write_text(content, encoding="utf-8")
    done = _evaluate(run, "--benchmark", f"answers={file}")
    assert done.exit_code != 0
    assert sentence in _said(done)
    assert run.read_json(run.results_file) == {"kept": True}


def test_what_needs_a_judge_says_so(run: Run, tmp_path: Path) -> None:
    done = _evaluate(run, "--benchmark", _healthbench(tmp_path))
    assert "give --judge ADDRESS --judge-model NAME" in _said(done)
    assert "needs both --judge" in _said(_evaluate(run, "--judge", "http://127.0.0.1:9"))

"""The judge against a real server that grades, times out, answers garbage, or says 429."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import JudgeServer, Reply, verdict

from medtune.errors import MedtuneError
from medtune.evaluation.benchmarks import Criterion, Item, read_benchmark
from medtune.evaluation.cache import Cache, opened
from medtune.evaluation.judge import Judge, Question, open_judge, read_verdict
from medtune.evaluation.rubrics import agreement, by_tag, grade_answers, mean_clipped, rubric_score
from medtune.evaluation.statistics import score
from medtune.recipe import JudgeSection


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with opened(tmp_path / "cache.sqlite") as kept:
        yield kept


def _judge(server: JudgeServer, cache: Cache, **more: object) -> Judge:
    section = JudgeSection.model_validate({"url": server.url, "model": "strict-one", **more})
    return Judge(section, cache, key="secret", first_wait=0.01)


def _questions(count: int) -> list[Question]:
    return [Question((("user", "I cough."),), "Rest.", f"Says point {i}.") for i in range(count)]


def _odd(prompt: str) -> bool:
    return any(f"point {i}." in prompt for i in range(1, 100, 2))


def test_grades_come_in_order_with_the_key_and_are_never_asked_twice(cache: Cache) -> None:
    with JudgeServer(lambda prompt, _: verdict(_odd(prompt))) as server:
        judge = _judge(server, cache)
        told: list[int] = []
        grades = judge.grade(_questions(12), told.append)
        assert grades.met == tuple(i % 2 == 1 for i in range(12))
        assert grades.trouble == ""
        assert sum(told) == 12
        assert server.keys == {"Bearer secret"}
        assert judge.grade(_questions(12)) == grades
        assert len(server.prompts) == 12
        assert judge.name == f"strict-one at {server.url}/v1"


@pytest.mark.parametrize(
    "fault",
    [503, 429, {"Retry-After": "0.02"}, 0.6, None, "I think it is met.", '{"criteria_met": "yes"}'],
)
def test_a_fault_that_passes_is_asked_again(fault: Reply, cache: Cache) -> None:
    with JudgeServer(lambda _, before: verdict(True) if before else fault) as server:
        grades = _judge(server, cache, seconds=0.3).grade(_questions(3))
        assert grades.met == (True, True, True)
        assert len(server.prompts) == 6


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (0.5, "no answer within 0.15 seconds"),
        (429, "it answers HTTP 429"),
        (500, "it answers HTTP 500"),
        (None, "no connection"),
        ("met: yes", "its replies are not the JSON object"),
        ("", "its replies are not the JSON object"),
    ],
)
def test_what_was_graded_before_a_lasting_fault_is_kept(
    fault: Reply, sentence: str, cache: Cache
) -> None:
    broken = True

    def reply(prompt: str, _: int) -> Reply:
        return fault if broken and _odd(prompt) else verdict(True)

    with JudgeServer(reply) as server:
        judge = _judge(server, cache, seconds=0.15, attempts=2)
        grades = judge.grade(_questions(6))
        assert grades.met == (True, None, True, None, True, None)
        assert sentence in grades.trouble
        assert "3 of 6 criteria without a grade" in grades.trouble
        assert "is kept" in grades.trouble
        broken, before = False, len(server.prompts)
        assert judge.grade(_questions(6)).met == (True,) * 6
        assert len(server.prompts) == before + 3  # only what was missing is asked


def test_a_judge_that_is_away_is_not_asked_for_ever(cache: Cache) -> None:
    with JudgeServer(lambda *_: 503) as server:
        grades = _judge(server, cache, attempts=2, parallel=1).grade(_questions(200))
    assert set(grades.met) == {None}
    assert len(server.prompts) < 40


def test_a_refused_key_is_not_tried_again(cache: Cache) -> None:
    with JudgeServer(lambda *_: 401) as server:
        grades = _judge(server, cache, parallel=1).grade(_questions(50))
    assert "refuses with HTTP 401 (as the test wants); set MEDTUNE_JUDGE_KEY" in grades.trouble
    assert len(server.prompts) <= 2


def test_no_server_and_no_address_are_said(cache: Cache) -> None:
    gone = JudgeSection(url="http://127.0.0.1:9", model="m", attempts=1)
    assert "no connection" in Judge(gone, cache, first_wait=0).grade(_questions(2)).trouble
    with pytest.raises(MedtuneError, match="write http://"):
        open_judge(JudgeSection(url="localhost", model="m"), cache)


@pytest.mark.parametrize(
    ("reply", "met"),
    [
        (verdict(True), True),
        (f"```json\n{verdict(False)}\n```", False),
        (f"Here it is: {verdict(True)}", None),
        (verdict(True) + verdict(False), None),
        ('{"criteria_met": 1}', None),
        ('{"criteria_met": null}', None),
        ('["criteria_met", true]', None),
        ("true", None),
        ("[" * 100_000, None),
    ],
)
def test_a_reply_is_read_strictly(reply: str, met: bool | None) -> None:
    assert read_verdict(reply) is met


@given(st.text(max_size=100))
def test_no_reply_breaks_the_reader(reply: str) -> None:
    assert read_verdict(reply) in (True, False, None)


CRITERIA = (Criterion("a", 5), Criterion("b", 3), Criterion("c", -4))


def test_points_are_healthbenchs() -> None:
    assert rubric_score(CRITERIA, [True, False, False]) == 5 / 8
    assert rubric_score(CRITERIA, [True, True, True]) == 4 / 8
    assert rubric_score(CRITERIA, [False, False, True]) == -4 / 8
    # One answer below nought takes from the others; only the mean is clipped.
    assert score(mean_clipped([1.0, -0.5])).value == pytest.approx(0.25)
    assert score(mean_clipped([-0.5, -0.5])).value == 0


def test_an_item_counts_only_with_all_its_grades_for_all_speakers(cache: Cache) -> None:
    items = [Item(f"question {i}", criteria=CRITERIA) for i in range(3)]

    def reply(prompt: str, _: int) -> Reply:
        return "garbage" if "question 1" in prompt and "worse" in prompt else verdict(True)

    with JudgeServer(reply) as server:
        judge = _judge(server, cache, attempts=1)
        sides = {"base": ["worse"] * 3, "tuned": ["better"] * 3}
        met, whole, trouble = grade_answers(judge, items, sides)
    assert whole == [0, 2]
    assert met == {"base": [[True] * 3] * 2, "tuned": [[True] * 3] * 2}
    assert "3 of 18 criteria" in trouble


def test_themes_take_whole_items_and_axes_their_criteria_only() -> None:
    item = Item(
        "q",
        criteria=(Criterion("a", 4, ("axis:accuracy",)), Criterion("b", 6, ("axis:tone",))),
        tags=("theme:emergency",),
    )
    found = by_tag([item] * 5, {"base": [[False, False]] * 5, "tuned": [[True, False]] * 5})
    assert found["theme:emergency"] == {"base": 0.0, "tuned": 0.4, "n": 5}
    assert found["axis:accuracy"]["tuned"] == 1.0
    assert found["axis:tone"]["tuned"] == 0.0


def _rows(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_agreement_with_physicians_is_sklearns_macro_f1(cache: Cache, tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    labels = [[True, True], [True, False], [False], [False, False, True], [True], [False]]
    rows: list[dict[str, object]] = [
        {
            "prompt": [{"role": "user", "content": "I cough."}],
            "completion": "Rest.",
            "rubric": f"Says point {i}.",
            "binary_labels": one,
        }
        for i, one in enumerate(labels)
    ]
    file = _rows(tmp_path / "meta.jsonl", rows)
    with JudgeServer(lambda prompt, _: verdict(_odd(prompt))) as server:
        found = agreement(_judge(server, cache), file, 100)
    truth = [label for one in labels for label in one]
    said = [i % 2 == 1 for i, one in enumerate(labels) for _ in one]
    assert found["macro_f1"]["value"] == pytest.approx(
        metrics.f1_score(truth, said, average="macro")
    )
    assert found["share"]["value"] == pytest.approx(metrics.accuracy_score(truth, said))
    assert found["physicians"] == {"value": pytest.approx(2 / 5), "n": 5}
    low, high = found["macro_f1"]["ci"]
    assert low < found["macro_f1"]["value"] < high


@pytest.mark.parametrize(
    "row",
    [{"prompt": "q"}, {"prompt": "q", "completion": "a", "rubric": "r", "binary_labels": []},
     {"prompt": "q", "completion": "a", "rubric": "r", "binary_labels": ["yes"]}],
)  # fmt: skip
def test_labels_in_another_format_are_said(
    row: dict[str, object], cache: Cache, tmp_path: Path
) -> None:
    file = _rows(tmp_path / "meta.jsonl", [row])
    with JudgeServer(lambda *_: verdict(True)) as server:
        with pytest.raises(MedtuneError, match="row 1, is not in HealthBench's meta-evaluation"):
            agreement(_judge(server, cache), file, 100)
        with pytest.raises(MedtuneError, match="does not exist"):
            agreement(_judge(server, cache), "nowhere.jsonl", 100)


def test_healthbench_rows_are_read_with_their_turns(tmp_path: Path) -> None:
    row = {
        "prompt": [
            {"role": "user", "content": "I cough."},
            {"role": "assistant", "content": "Since when?"},
            {"role": "user", "content": "A week."},
        ],
        "rubrics": [{"criterion": "Asks for fever.", "points": 3, "tags": ["axis:completeness"]}],
        "example_tags": ["theme:context_seeking"],
    }
    [item] = read_benchmark("healthbench", _rows(tmp_path / "h.jsonl", [row]), 10, 0).items
    assert item.question == "A week."
    assert item.history() == row["prompt"][:2]
    assert item.criteria == (Criterion("Asks for fever.", 3.0, ("axis:completeness",)),)
    assert item.tags == ("theme:context_seeking",)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [], "rubrics": [{"criterion": "c", "points": 1}]},
        {"prompt": [{"role": "assistant", "content": "x"}], "rubrics": [{"criterion": "c", "points": 1}]},
        {"prompt": "q", "rubrics": [{"criterion": "c", "points": -1}]},
        {"prompt": "q", "rubrics": [{"criterion": "c"}]},
        {"prompt": "q", "rubrics": "none"},
    ],
)  # fmt: skip
def test_rubrics_that_cannot_be_scored_are_said(row: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(MedtuneError, match="question 1, is not in HealthBench's format"):
        read_benchmark("healthbench", _rows(tmp_path / "h.jsonl", [row]), 10, 0)

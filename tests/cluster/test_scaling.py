"""The model on paper: its parts against hand calculation, its constants against what was measured."""

from __future__ import annotations

import json

import pytest
from conftest import REPOSITORY
from typer.testing import CliRunner

from medtune.cluster import scaling
from medtune.cluster.scaling import exchange_seconds, preparation_hours, scale
from medtune.errors import MedtuneError
from medtune.recipe import load_recipe
from medtune.training.plan import card_of, plan

RESULT = REPOSITORY / "benchmarks" / "results" / "scaling.json"


def test_the_measured_constants_are_those_of_the_result_file() -> None:
    if not RESULT.exists():
        pytest.skip("benchmarks/scaling.py has not been run")
    found = json.loads(RESULT.read_text())
    assert pytest.approx(max(0.0, found["overhead_of_ray"]), abs=5e-4) == scaling.OVERHEAD_OF_RAY
    assert pytest.approx(found["starting_seconds"]["ray-1"], abs=0.5) == scaling.STARTING_SECONDS
    rate = found["prepared_rows_per_second"]["one_core"]
    assert pytest.approx(rate, rel=0.01) == scaling.PREPARED_ROWS_PER_CORE_SECOND


def test_the_exchange_is_that_of_a_ring() -> None:
    assert exchange_seconds(10**8, 1) == 0
    # 4 workers send 3/4 of 400 MB twice at 20 GB/s, in 6 hops.
    assert exchange_seconds(10**8, 4) == pytest.approx(0.03 + 6 * 30e-6)
    assert exchange_seconds(10**8, 16) > exchange_seconds(10**8, 8)


def test_more_workers_are_faster_never_more_efficient_and_rows_set_the_limit() -> None:
    recipe = load_recipe("llama3-8b-qlora")
    table = scale(recipe, plan(recipe, card_of("a100")), [1, 2, 3, 4, 8, 16, 32])
    assert [line.workers for line in table] == [1, 2, 4, 8, 16], "16 rows in a step"
    hours = [line.hours for line in table]
    assert hours == sorted(hours, reverse=True)
    efficiency = [line.efficiency for line in table]
    assert efficiency[0] == 1
    assert efficiency == sorted(efficiency, reverse=True)
    dollars = [line.dollars or 0 for line in table]
    assert dollars == sorted(dollars)


def test_what_is_not_known_is_not_guessed() -> None:
    recipe = load_recipe("embedded-qlora", ["data.limit=null"])
    with pytest.raises(MedtuneError, match="needs the number of tokens and a known card"):
        scale(recipe, plan(recipe, card_of("8GB")), [1])


def test_preparation_on_more_cores_takes_less_than_on_one_and_more_than_its_share() -> None:
    one, many = preparation_hours(10**8, 1), preparation_hours(10**8, 64)
    assert one == pytest.approx(10**8 / scaling.PREPARED_ROWS_PER_CORE_SECOND / 3600)
    assert one / 64 < many < one / 50


def test_plan_prints_the_table_with_its_assumptions() -> None:
    from medtune.cli.app import app

    arguments = ["plan", "llama3-8b-qlora", "--gpu", "a100", "--workers", "16"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert "100 million dialogues prepared on" in done.output
    assert "nothing on a cluster." in done.output
    facts = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert [line["workers"] for line in facts["workers"]] == [1, 2, 4, 8, 16]
    assert facts["assumptions"]

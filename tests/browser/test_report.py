"""The report in a real Chromium: on a phone, on paper, and for a screen reader."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from medtune.evaluation.evaluate import evaluate
from medtune.evaluation.report import write_report
from medtune.experiments.compare import compare, write_page
from medtune.run import Run

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def pages(tuned_run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a run, and the comparison of two."""
    folder = tmp_path_factory.mktemp("report")
    runs = [Run(shutil.copytree(tuned_run.folder, folder / name)) for name in ("one", "two")]
    for run in runs:
        recipe = run.recipe()
        evaluate(recipe, run)
        run.metrics_file.write_text(
            '{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0, "eval_loss": 2.5}\n'
        )
        report = write_report(run)
    return {"report": report, "compare": write_page(compare(runs), folder / "compare.html")}


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        one = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield one
        one.close()


@pytest.mark.parametrize("name", ["report", "compare"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_every_screen_and_axe_finds_no_fault(
    name: str, width: int, pages: dict[str, Path], browser: object
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page(viewport={"width": width, "height": 900})  # type: ignore[attr-defined]
    page.goto(pages[name].as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    faults = axe.run(page).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in faults] == []
    page.close()


@pytest.mark.parametrize("name", ["report", "compare"])
def test_paper_shows_what_a_click_would_open(
    name: str, pages: dict[str, Path], browser: object
) -> None:
    page = browser.new_page(viewport={"width": 794, "height": 1123})  # type: ignore[attr-defined]
    page.goto(pages[name].as_uri())
    page.emulate_media(media="print")
    closed = "[...document.querySelectorAll('details')].map(d => d.lastElementChild.getBoundingClientRect().height)"
    heights = page.evaluate(closed)
    assert heights
    assert min(heights) > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    page.close()

"""The web page in a real Chromium, as a person uses it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def address(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A served page of a tiny model."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    folder = tmp_path_factory.mktemp("page")
    train = [
        sys.executable, "-m", "medtune", "train", "embedded-qlora", "name=tiny", f"model.base={tiny_base}",
        "data.limit=100", "training.max_steps=2", "training.evaluate_every=2",
    ]  # fmt: skip
    subprocess.run(train, cwd=folder, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [sys.executable, "-m", "medtune", "serve", "tiny", "--port", str(port)]
    server = subprocess.Popen(serve, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, server.stderr.read() if server.stderr else ""
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def page(address: str) -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-sync",
            ],
        )
        opened = browser.new_page(viewport={"width": 1100, "height": 900})
        opened.goto(address)
        opened.get_by_label("Your message").wait_for()
        yield opened
        browser.close()


def test_a_person_reads_the_disclaimer_asks_and_clears(page: object) -> None:
    assert page.get_by_text("not medical advice").is_visible()  # type: ignore[attr-defined]
    box = page.get_by_label("Your message")  # type: ignore[attr-defined]
    box.fill("I have a sore throat")
    box.press("Enter")
    page.locator(".bot.message, .message.bot").first.wait_for(timeout=60_000)  # type: ignore[attr-defined]
    assert (
        page.locator(".message.user, .user.message").first.inner_text().strip()
        == "I have a sore throat"
    )  # type: ignore[attr-defined]
    page.get_by_role("button", name="Clear", exact=True).last.click()  # type: ignore[attr-defined]
    page.locator(".message.user, .user.message").first.wait_for(state="detached")  # type: ignore[attr-defined]


def test_an_emergency_is_answered_at_once(page: object) -> None:
    box = page.get_by_label("Your message")  # type: ignore[attr-defined]
    box.fill("crushing chest pain and my left arm hurts")
    page.get_by_role("button", name="Send").click()  # type: ignore[attr-defined]
    page.get_by_text("Call your local emergency number now").wait_for(timeout=20_000)  # type: ignore[attr-defined]


def test_stop_ends_an_answer_and_the_next_question_is_answered(page: object) -> None:
    box = page.get_by_label("Your message")  # type: ignore[attr-defined]
    box.fill("I have a cough")
    box.press("Enter")
    page.locator(".message.user, .user.message").first.wait_for()  # type: ignore[attr-defined]
    page.get_by_role("button", name="Stop", exact=True).last.click()  # type: ignore[attr-defined]
    box.fill("crushing chest pain")
    box.press("Enter")
    page.get_by_text("Call your local emergency number now").wait_for(timeout=60_000)  # type: ignore[attr-defined]


def test_markup_in_a_message_is_not_run(page: object) -> None:
    box = page.get_by_label("Your message")  # type: ignore[attr-defined]
    box.fill("<img src=x onerror=\"document.title='owned'\"> hello")
    box.press("Enter")
    page.locator(".message.user, .user.message").first.wait_for()  # type: ignore[attr-defined]
    time.sleep(1)
    assert page.title() == "Medtune"  # type: ignore[attr-defined]


def test_an_example_fills_the_message(page: object) -> None:
    page.get_by_text("What is a migraine").first.click()  # type: ignore[attr-defined]
    page.wait_for_function(  # type: ignore[attr-defined]
        "document.querySelector('textarea').value.includes('migraine')"
    )

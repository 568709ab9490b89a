"""The exported Space, started as it is, its adapter from a Hub, driven in a real Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "publishing"))

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from hub_server import TOKEN, Hub

    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    hub, folder = Hub(), tmp_path_factory.mktemp("space")
    environment = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    for command in (
        ["train", "embedded-qlora", "name=s", "data.limit=60", "training.max_steps=2", "training.evaluate_every=2"],
        ["push", "s", "me/s"],
        ["export", "s", "--to", "space", "--adapter", "me/s"],
    ):  # fmt: skip
        subprocess.run(
            [sys.executable, "-m", "medtune", *command], cwd=folder, env=environment, check=True,
            capture_output=True,
        )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment |= {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "COUNTRY": "GB",
    }
    environment.pop("PYTHONPATH", None)  # Medtune travels along
    page = subprocess.Popen(
        [sys.executable, "app.py"], cwd=folder / "runs/s/exports/space", env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        for _ in range(900):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert page.poll() is None, page.stderr.read() if page.stderr else ""
            time.sleep(0.2)
        assert any("/resolve/" in line for line in hub.log), "the adapter came from the Hub"
        yield f"http://127.0.0.1:{port}"
    finally:
        page.terminate()
        page.wait(20)
        hub.close()


def test_a_person_asks_and_an_emergency_is_answered_by_the_rules(space: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto(space)
        box = page.get_by_label("Your message")
        box.wait_for()
        assert page.get_by_text("not medical advice").is_visible()
        box.fill("crushing chest pain and my left arm hurts")
        box.press("Enter")
        page.get_by_text("Call 999 now").wait_for(timeout=60_000)
        page.get_by_role("button", name="Clear", exact=True).last.click()
        box.fill("I have a sore throat")
        box.press("Enter")
        page.locator(".bot.message, .message.bot").first.wait_for(timeout=60_000)
        browser.close()

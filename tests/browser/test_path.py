"""A person's whole path over the page, in a real Chromium, on a real server."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from served import Scripted, Served, serving

from medtune.chat.engines import Decoding
from medtune.serving.limits import Limits
from medtune.serving.service import Service
from medtune.serving.store import Store

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ANSWER = (
    "It sounds like a migraine.\n\nPossible conditions: A migraine is very likely.\n\n"
    "What you can do: Rest in the dark.\n\nPrecautions: Avoid alcohol.\n\n"
    "Specialist: A neurologist.\n\nWhen to seek help: If it is sudden and severe.\n"
)
# A sentence is shown once the next one begins: then it is known to be fit.
FIRST, REST = "It sounds like a migraine.\n\nPossible ", ANSWER.partition("Possible ")[2]
WORDS = [FIRST, *(f"{word} " for word in REST.split(" "))]
QUESTION = "My head throbs on one side and light is unpleasant. What could it be?"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def engine() -> Scripted:
    return Scripted(WORDS, name="headache")


@pytest.fixture(scope="module")
def served(engine: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = Store(tmp_path_factory.mktemp("store") / "store.sqlite")
    service = Service(
        engine, Decoding(200), system="Be kind.", store=store, limits=Limits(slots=2),
        open_base=lambda: Scripted(["the ", "the ", "the "], name="base"),
    )  # fmt: skip
    with serving(service, page=True) as running:
        yield running


@pytest.fixture
def page(browser: Browser, served: Served, engine: Scripted) -> Iterator[Page]:
    engine.hold = None
    engine.seen.clear()
    yield from _opened(browser, served, width=1280, height=900)


def _opened(
    browser: Browser, served: Served, *, width: int, height: int, **more: str
) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": height}, **more)  # type: ignore[arg-type]
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("response", lambda r: wrong.append(r.url) if r.status >= 500 else None)
    elsewhere: list[str] = []
    opened.on(
        "request",
        lambda r: (
            elsewhere.append(r.url)
            if not r.url.startswith((served.url, "blob:", "data:"))
            else None
        ),
    )
    opened.goto(served.url)
    _ready(opened)
    yield opened
    context.close()
    assert wrong == []
    assert elsewhere == [], "nothing is loaded from another server"


def _ready(page: Page) -> None:
    page.get_by_label("Your message").wait_for()
    page.locator("#talks").get_by_role("radio").first.wait_for()


def _ask(page: Page, text: str) -> None:
    box = page.get_by_label("Your message")
    box.fill(text)
    box.press("Enter")


def _answered(page: Page) -> None:
    expect(page.locator("#card")).to_contain_text("Who to see")


def _card(page: Page) -> str:
    return page.locator("#card").inner_text()


def test_an_answer_streams_and_its_card_stands_beside_it(page: Page, engine: Scripted) -> None:
    engine.hold = Event()
    _ask(page, QUESTION)
    expect(page.locator("#chat")).to_contain_text("It sounds")
    assert "What you can do" not in page.locator("#chat").inner_text()
    engine.hold.set()
    _answered(page)
    card = _card(page)
    for said in ("How urgent", "Migraine\nfits very well", "Rest in the dark", "Avoid alcohol"):
        assert said in card
    for title in ("Neurologist", "When to seek help", "Questions back to you", "no diagnosis"):
        assert title in card
    expect(page.locator("#chat strong", has_text="Possible conditions:")).to_be_visible()


def test_stop_keeps_what_was_written_and_retry_draws_anew(page: Page, engine: Scripted) -> None:
    engine.hold = Event()
    _ask(page, QUESTION)
    expect(page.locator("#chat")).to_contain_text("It sounds")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#chat")).to_contain_text("It sounds")
    engine.hold = None
    asked = len(engine.seen)
    page.get_by_role("button", name="Retry").click()
    _until(lambda: len(engine.seen) > asked)
    _answered(page)
    assert [turn["content"] for turn in engine.seen[-1][0]] == ["Be kind.", QUESTION]
    assert engine.seen[-1][1].temperature == 0.7
    assert page.locator("#chat").inner_text().count("It sounds") == 1


def test_edit_brings_the_question_back(page: Page, engine: Scripted) -> None:
    _ask(page, QUESTION)
    _answered(page)
    page.get_by_role("button", name="Edit").click()
    box = page.get_by_label("Your message")
    expect(box).to_have_value(QUESTION)
    expect(page.locator("#chat")).not_to_contain_text("migraine")
    box.fill("My head throbs and I see zigzag lines. What could it be?")
    box.press("Enter")
    _answered(page)
    assert len(engine.seen[-1][0]) == 2


def test_an_emergency_has_a_call_button_with_the_countrys_number(page: Page) -> None:
    _ask(page, "crushing chest pain and my left arm hurts")
    call = page.get_by_role("link", name="Call 112")
    expect(call).to_have_attribute("href", "tel:112")
    expect(page.get_by_role("alert").filter(has_text="Emergency")).to_be_visible()
    page.get_by_role("button", name="About you").click()
    page.get_by_label("Country").fill("GB")
    page.get_by_label("Country").press("Enter")
    _ask(page, "it is still there")
    expect(page.get_by_role("link", name="Call 999")).to_have_attribute("href", "tel:999")


def test_an_emergency_is_answered_while_every_slot_is_busy(
    browser: Browser, served: Served, engine: Scripted
) -> None:
    engine.hold = Event()
    pages = [_opened(browser, served, width=900, height=700) for _ in range(3)]
    try:
        first, second, third = (next(one) for one in pages)
        for busy in (first, second):
            _ask(busy, QUESTION)
            expect(busy.locator("#chat")).to_contain_text("It sounds")
        _ask(third, "crushing chest pain and my left arm hurts")
        expect(third.get_by_role("link", name="Call 112")).to_be_visible()
    finally:
        engine.hold.set()
        for one in pages:
            next(one, None)


def test_what_a_person_says_about_themselves_reaches_the_model(
    page: Page, engine: Scripted
) -> None:
    page.get_by_role("button", name="About you").click()
    page.get_by_label("Age in years").fill("34")
    page.get_by_label("Sex").click()
    page.get_by_role("option", name="Female", exact=True).click()
    page.get_by_label("I am pregnant").check()
    page.get_by_label("Medicines").fill("ibuprofen")
    _ask(page, QUESTION)
    _answered(page)
    about = "I am a 34 year old woman. I am pregnant. I take ibuprofen."
    assert engine.seen[-1][0][-1]["content"] == f"{about} {QUESTION}"
    assert about in _card(page)
    assert about not in page.locator("#chat").inner_text()


def test_several_conversations_are_searched_and_deleted(page: Page) -> None:
    for question in (QUESTION, "My knee clicks. What could it be?"):
        _ask(page, question)
        _answered(page)
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator("#chat")).not_to_contain_text("migraine")
    talks = page.locator("#talks")
    expect(talks.get_by_role("radio")).to_have_count(3)
    page.get_by_label("Search").fill("knee")
    expect(talks.get_by_role("radio")).to_have_count(1)
    talks.get_by_text("My knee clicks").click()
    expect(page.locator("#chat")).to_contain_text("My knee clicks")
    page.get_by_label("Search").fill("")
    expect(talks.get_by_role("radio")).to_have_count(2)
    page.get_by_role("button", name="Delete all", exact=True).click()
    page.get_by_role("button", name="Yes, delete all").click()
    expect(talks.get_by_role("radio")).to_have_count(1)
    expect(page.locator("#chat")).not_to_contain_text("knee")


def test_conversations_are_kept_for_those_who_ask_and_forgotten_otherwise(
    page: Page, served: Served
) -> None:
    _ask(page, QUESTION)
    _answered(page)
    page.reload()
    _ready(page)
    expect(page.locator("#talks").get_by_role("radio")).to_have_count(1)
    page.get_by_label("Keep my conversations").check()
    _ask(page, QUESTION)
    _answered(page)
    page.wait_for_function("localStorage.getItem('medtune')?.length > 60")
    page.reload()
    _ready(page)
    expect(page.locator("#talks").get_by_text("My head throbs")).to_be_visible()
    expect(page.get_by_label("Keep my conversations")).to_be_checked()
    page.get_by_label("Keep my conversations").uncheck()
    store = served.service.store
    assert store is not None
    _until(lambda: store._read("SELECT count(*) FROM conversations", ())[0][0] == 0)


def test_a_thumb_with_a_reason_is_kept(page: Page, served: Served) -> None:
    _ask(page, QUESTION)
    _answered(page)
    page.get_by_role("button", name="Helpful", exact=True).click()
    expect(page.get_by_text("Thank you, it is noted").first).to_be_visible()
    page.get_by_role("button", name="Not helpful").click()
    page.get_by_text("It could do harm").click()
    page.get_by_label("What should it have said?").fill("See a doctor.")
    page.get_by_role("button", name="Send feedback").click()
    store = served.service.store
    assert store is not None
    _until(lambda: len(store.records("feedback")) == 2)
    up, down = (record.document for record in store.records("feedback"))
    assert up["verdict"] == "up"
    assert (down["verdict"], down["reason"]) == ("down", "unsafe")
    assert down["correction"] == "See a doctor."
    assert down["messages"][-1]["content"].startswith("It sounds like a migraine")


def test_base_and_tuned_answer_side_by_side_and_the_vote_is_blind(
    page: Page, served: Served
) -> None:
    page.get_by_role("tab", name="Compare with the base").click()
    vote = page.get_by_role("button", name="A is better")
    expect(vote).to_be_disabled()
    page.get_by_label("Question for both").fill("What is a migraine?")
    page.get_by_role("button", name="Ask both").click()
    expect(vote).to_be_enabled()
    a, b = page.locator("#answer-a").inner_text(), page.locator("#answer-b").inner_text()
    assert {"the the" in a, "the the" in b} == {True, False}
    pane = page.locator(".pane").first.inner_text() + page.locator("#verdict").inner_text()
    assert "tuned" not in pane
    vote.click()
    better = "its base" if "the the" in a else "the tuned model"
    expect(page.locator("#verdict")).to_contain_text(f"A was {better}")
    expect(vote).to_be_disabled()
    store = served.service.store
    assert store is not None
    [record] = store.records("vote")
    assert record.document["winner"] == ("base" if "the the" in a else "tuned")


def test_a_conversation_is_taken_along_in_three_forms(page: Page, tmp_path: Path) -> None:
    _ask(page, QUESTION)
    _answered(page)
    page.get_by_role("button", name="Take it with you").click()
    texts = {}
    for button in ("Summary for the doctor", "Markdown", "JSON"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=button, exact=True).click()
        file = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(file)
        texts[button] = file.read_text(encoding="utf-8")
    assert texts["Summary for the doctor"].startswith("# Summary for my doctor")
    assert "**Possible conditions:**" in texts["Markdown"]
    messages = json.loads(texts["JSON"])["messages"]
    assert [turn["role"] for turn in messages] == ["user", "assistant"]


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    _answered(page)
    names = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        names.add(page.evaluate("document.activeElement.innerText || ''").strip())
    assert {"Stop", "Retry", "Edit", "Clear", "New conversation"} <= names


@pytest.mark.parametrize(
    ("width", "height", "scheme"),
    [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark")],
)
def test_axe_finds_nothing_serious_and_nothing_sticks_out(
    browser: Browser, served: Served, engine: Scripted, width: int, height: int, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    engine.hold = None
    opened = _opened(browser, served, width=width, height=height, color_scheme=scheme)
    page = next(opened)
    dark = "document.querySelector('.dark') !== null"
    page.wait_for_function(dark if scheme == "dark" else f"!({dark})")
    _serious(Axe().run(page))
    _ask(page, QUESTION)
    _answered(page)
    page.get_by_role("button", name="About you").click()
    page.get_by_role("button", name="Not helpful").click()
    page.get_by_label("What should it have said?").wait_for()
    _serious(Axe().run(page))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="New conversation").click()
    _ask(page, "crushing chest pain and my left arm hurts")
    call = page.get_by_role("link", name="Call 112")
    call.wait_for()
    expect(call).to_be_in_viewport(ratio=1)  # without scrolling, also on a phone
    _serious(Axe().run(page))
    page.get_by_role("tab", name="Compare with the base").click()
    page.get_by_label("Question for both").wait_for()
    _serious(Axe().run(page))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    next(opened, None)


def _serious(found: object) -> None:
    violations = found.response["violations"]  # type: ignore[attr-defined]
    assert [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in violations
        if one["impact"] in ("serious", "critical")
    ] == []


def _until(condition: object) -> None:
    end = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)

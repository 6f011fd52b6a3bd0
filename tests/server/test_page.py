"""The server's page in a real browser: a chat that streams, and the engine at work beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import astrai
from astrai.inference.server.background import BackgroundServer, serve_in_background
from tests.browser import CHROMIUM, NO_CHROMIUM, Complaints, chromium

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM), pytest.mark.timeout(120)]
ANSWERS = ".message.assistant"


@pytest.fixture(scope="module")
def engine() -> Iterator[astrai.InferenceEngine]:
    with astrai.InferenceEngine(*astrai.load("tiny", device="cpu"), num_slots=4) as engine:
        yield engine


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def server(engine: astrai.InferenceEngine) -> Iterator[BackgroundServer]:
    with serve_in_background(engine, trace=True) as server:
        yield server


class Tab:
    """One page of the server, with what a person does on it."""

    def __init__(self, context: Any, url: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.complaints = Complaints(self.page)
        self.page.goto(f"{url}/")

    def say(self, text: str) -> None:
        self.page.get_by_label("Your message").fill(text)
        self.page.keyboard.press("Enter")

    def wait_until_answered(self, count: int = 1) -> str:
        """The last answer, once there are ``count`` that say what they took."""
        self.page.wait_for_function("count => document.querySelectorAll('.message .took').length === count", arg=count)
        return self.page.locator(ANSWERS).last.inner_text()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


def test_a_chat_streams_and_the_next_turn_finds_it_in_the_cache(context: Any, server: BackgroundServer) -> None:
    tab = Tab(context, server.url)
    tab.say("Tell me a story about a fox.")
    first = tab.wait_until_answered()
    assert "fox" in first and "stop" in first
    tab.say("Give it a title.")
    second = tab.wait_until_answered(2)
    found = int(second.split(" prompt tokens, ")[1].split(" ")[0])
    assert found > 50, second
    tab.complaints.assert_none()


def test_an_answer_can_be_stopped_and_frees_its_slot(
    context: Any, server: BackgroundServer, engine: astrai.InferenceEngine
) -> None:
    import time

    tab = Tab(context, server.url)
    tab.page.get_by_text("Settings").click()
    tab.page.get_by_label("Longest answer, in tokens").fill("900")
    tab.page.get_by_label("Temperature").fill("2")
    cancelled = engine.stats().finished.get("cancelled", 0)
    tab.say("Tell me a story about a fox.")
    tab.page.get_by_role("button", name="Stop").click()
    tab.page.wait_for_function("() => document.getElementById('chat-status').textContent === 'Stopped.'")
    deadline = time.monotonic() + 20
    while engine.stats().running and time.monotonic() < deadline:
        time.sleep(0.02)
    assert engine.stats().running == 0
    assert engine.stats().finished.get("cancelled", 0) == cancelled + 1
    tab.complaints.assert_none()


def test_the_live_pictures_stand_beside_the_chat_in_both_of_two_tabs(context: Any, server: BackgroundServer) -> None:
    tabs = [Tab(context, server.url) for _ in range(2)]
    for tab in tabs:
        tab.page.wait_for_selector(".dashboard canvas")
    for tab in tabs:
        tab.say("Tell me a story about a kite.")
    for tab in tabs:
        assert "kite" in tab.wait_until_answered()
    steps = [tab.page.evaluate("() => +document.querySelector('.dashboard').dataset.step") for tab in tabs]
    assert min(steps) > 0
    tabs[0].page.wait_for_function(
        "least => +document.querySelector('.dashboard').dataset.step >= least", arg=max(steps)
    )
    for tab in tabs:
        tab.complaints.assert_none()


def test_without_the_trace_there_are_counters_and_the_reason(context: Any, engine: astrai.InferenceEngine) -> None:
    with serve_in_background(engine) as server:
        page = context.new_page()
        page.goto(f"{server.url}/")
        page.wait_for_selector("#counters dd")
        assert "trace" in page.locator("#engine-note").inner_text()
        assert "slots in use" in page.locator("#counters").inner_text()


def test_a_key_is_asked_for_and_then_used(context: Any, engine: astrai.InferenceEngine) -> None:
    with serve_in_background(engine, api_key="open sesame") as server:
        page = context.new_page()
        page.goto(f"{server.url}/")
        page.get_by_label("Your message").fill("Hello")
        page.keyboard.press("Enter")
        page.wait_for_selector(".message.error")
        assert "API key" in page.locator(".message.error").inner_text()
        page.get_by_label("API key").fill("open sesame")
        page.get_by_label("Your message").fill("Hello")
        page.keyboard.press("Enter")
        page.wait_for_selector(".message .took")


def test_the_page_may_load_nothing_and_send_nothing_elsewhere(context: Any, server: BackgroundServer) -> None:
    tab = Tab(context, server.url)
    reached = tab.page.evaluate("""() => fetch('http://127.0.0.2:9/').then(() => 'reached', () => 'refused')""")
    assert reached == "refused"
    assert tab.page.locator("script[src], link[rel=stylesheet], img").count() == 0

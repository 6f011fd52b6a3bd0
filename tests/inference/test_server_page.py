"""What the server's page makes of a person's second thoughts: a new chat in mid-answer, odd settings, hidden fields."""

import json

import pytest

import astrai
from astrai.inference.server.background import serve_in_background
from tests.browser import CHROMIUM, NO_CHROMIUM, Complaints, chromium

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM), pytest.mark.timeout(120)]
MANY_WORDS = "() => document.querySelector('.message.assistant')?.innerText.length > 30"
ONE_ANSWER = "() => document.querySelectorAll('.took').length === 1"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server():
    with (
        astrai.InferenceEngine(*astrai.load("tiny", device="cpu"), num_slots=2) as engine,
        serve_in_background(engine, trace=True) as server,
    ):
        yield server


@pytest.fixture
def page(browser, server):
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(30_000)
    complaints = Complaints(page)
    page.goto(f"{server.url}/")
    yield page
    complaints.assert_none()
    context.close()


def say(page, text):
    """Send a message as a person does; gives the body of the request."""
    page.get_by_label("Your message").fill(text)
    with page.expect_request("**/v1/chat/completions") as request:
        page.keyboard.press("Enter")
    return json.loads(request.value.post_data)


def test_a_new_chat_in_mid_answer_begins_empty(page):
    say(page, "Tell me a story about a fox.")
    page.wait_for_function(MANY_WORDS)
    page.get_by_role("button", name="New chat").click()
    page.wait_for_selector("#send:enabled")
    assert say(page, "Hello")["messages"] == [{"role": "user", "content": "Hello"}]
    page.wait_for_function(ONE_ANSWER)


def test_settings_that_are_empty_are_not_sent_and_odd_ones_are_sent_even_when_folded_away(page):
    page.get_by_text("Settings").click()
    page.get_by_label("Longest answer").fill("")
    page.get_by_label("Temperature").fill("0.75")
    page.get_by_text("Settings").click()
    body = say(page, "Hello")
    assert "max_tokens" not in body and body["temperature"] == 0.75
    page.wait_for_function(ONE_ANSWER)


def test_no_key_is_asked_for_where_none_is_needed(page):
    page.wait_for_function("() => document.getElementById('health').innerText === 'ready'")
    assert not page.locator("#key").is_visible()

"""The frame around the pictures: what it says of the moment that is shown, and where the keyboard is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from astrai.widgets.data import frames
from astrai.widgets.data.view import RunView
from astrai.widgets.twins.sheet import SCRIPTS
from tests.widgets.runs import scripted_log


@pytest.fixture
def page(mount: Any) -> Any:
    """A live dashboard of a run of 12 steps, which answers a wish for the recording at once."""
    log = scripted_log(seed=3, steps=12)
    view = RunView.of(log)
    for record in log.records:
        view.apply(record)
    page = mount(*SCRIPTS, functions=["makeDashboard"])
    told = {"view": {"state": view.state(), "timeline": view.timeline()}, "recording": frames.recording(log)}
    page.evaluate(
        """text => {
          const { view, recording } = JSON.parse(text);
          const host = document.body.appendChild(document.createElement("div"));
          const onAsk = (what) => dashboard.play(what === "live" ? null : recording);
          window.dashboard = makeDashboard(host, { onAsk });
          dashboard.draw(view);
          dashboard.say("live");
        }""",
        json.dumps(told),
    )
    return page


def note(page: Any) -> str:
    return page.locator(".dashboard > .bar .note").inner_text()


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_only_the_present_is_called_live(page: Any) -> None:
    assert note(page) == "live"
    page.get_by_role("button", name="Pause the picture").click()
    assert note(page) == "paused: the engine goes on"
    page.get_by_role("button", name="Pause the picture").click()
    assert note(page) == "live"
    page.get_by_role("button", name="Rewind this run").click()
    assert note(page) == "rewound: the engine goes on"
    page.evaluate("dashboard.say('ended: the engine was shut down')")
    assert note(page) == "ended: the engine was shut down"
    page.get_by_role("button", name="Back to the live engine").click()
    assert note(page) == "ended: the engine was shut down"


def test_the_keyboard_stays_at_the_bar_when_its_button_goes(page: Any) -> None:
    page.get_by_role("button", name="Rewind this run").focus()
    page.keyboard.press("Enter")
    assert focused(page) == "Frame"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.querySelector('.dashboard').dataset.step") == "11"
    page.get_by_role("button", name="Back to the live engine").focus()
    page.keyboard.press("Enter")
    assert focused(page) == "Rewind this run"


def test_a_part_looks_as_it_does_by_itself(page: Any) -> None:
    bar = page.locator(".dashboard .radix .row:not([data-node='0']) .bar").first
    assert bar.evaluate("element => getComputedStyle(element).height") == "10px"

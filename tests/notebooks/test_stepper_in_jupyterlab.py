"""The stepper in a real JupyterLab, with a scheduler that the learner has just typed in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.notebooks.jupyterlab import Lab, command, failures, open_notebook, run_all

pytestmark = pytest.mark.timeout(240)

TYPED = """
import astrai
from astrai.inference.scheduler import InferenceScheduler
from astrai.widgets.stepping.stepper import SchedulerStepper

class NewestFirst(InferenceScheduler):
    def refill(self):
        with self._in_phase("refill"):
            for request in reversed(list(self.waiting.values())):
                if self.can_admit():
                    self._admit(request, self.cache.match(request.prompt_ids))

engine = astrai.InferenceEngine(*astrai.load("tiny"), num_slots=1, scheduler=NewestFirst, start=False)
stepper = SchedulerStepper(engine)
stepper.add("Once upon a time", max_tokens=6)
stepper.add("A fox", max_tokens=6)
stepper
"""


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def wait_for_label(page: Any, words: str) -> None:
    page.wait_for_function("words => document.querySelector('.stepper .bar .label')?.textContent === words", arg=words)


def test_a_typed_scheduler_is_stepped_by_clicks_and_keys_and_survives_a_reload(lab: Lab, page: Any) -> None:
    open_notebook(page, lab, lab.write("stepping", TYPED))
    run_all(page)
    assert failures(page) == []
    wait_for_label(page, "before the first step")
    press(page, "One phase on (P)")
    wait_for_label(page, "step 1, after cleanup")
    page.locator(".stepper").focus()
    page.keyboard.press("p")
    wait_for_label(page, "step 1, after refill")
    assert page.locator(".stepper .source .caption").inner_text() == "NewestFirst.refill in this notebook"
    marked = page.locator(".stepper .line.work .code").all_inner_texts()
    assert [line.strip() for line in marked] == ["self._admit(request, self.cache.match(request.prompt_ids))"]
    assert "request 1: owns slot 0 v1" in page.locator(".stepper .lines").inner_text()
    page.keyboard.press("s")
    wait_for_label(page, "step 1, after decode")
    page.keyboard.press("Home")
    wait_for_label(page, "before the first step (frame 0 of 4)")

    command(page, "docmanager:save")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    page.reload()
    wait_for_label(page, "before the first step (frame 0 of 4)")
    press(page, "One step on (S)")
    wait_for_label(page, "step 2, after decode")

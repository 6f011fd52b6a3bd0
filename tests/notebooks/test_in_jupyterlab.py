"""Notebooks in a real JupyterLab and a real browser, as a learner opens them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser import Complaints
from tests.notebooks.jupyterlab import (
    PANEL,
    Lab,
    command,
    failures,
    open_notebook,
    run_all,
    wait_for_kernel,
    wait_until_run,
)

pytestmark = pytest.mark.timeout(240)

LONG_RUN = """
import time, astrai
model, tokenizer = astrai.load("tiny")
engine = astrai.InferenceEngine(model, tokenizer, num_slots=4)
sampling = astrai.SamplingParams(max_tokens=900, ignore_eos=True)
def slowly(token_id): time.sleep(0.02)
requests = [astrai.GenerationRequest(text, sampling=sampling, on_token=slowly) for text in ("Once", "A fox")]
streams = [engine.submit(request) for request in requests]
dashboard = astrai.watch(engine)
dashboard
"""


def steps_drawn(page: Any) -> int:
    """The number of the step that the dashboard shows."""
    return int(page.evaluate("() => document.querySelector('.dashboard').dataset.step"))


def wait_for_step(page: Any, at_least: int) -> None:
    page.wait_for_function("least => +document.querySelector('.dashboard')?.dataset.step >= least", arg=at_least)


def test_the_map_of_notebook_00_opens_a_chapter(lab: Lab, page: Any) -> None:
    chapter = next(path.name for path in sorted(lab.folder.glob("*.ipynb"), reverse=True))
    open_notebook(page, lab, lab.write("map", "from astrai.course.contents import course_map\ncourse_map()"))
    run_all(page)
    page.locator(f".jp-OutputArea-output a[href*='{chapter}']").click()
    page.wait_for_function(f"name => {PANEL}?.context?.path === name", arg=chapter)
    wait_for_kernel(page)


def test_a_dashboard_moves_while_the_engine_runs_and_survives_reloads_and_a_second_page(lab: Lab, page: Any) -> None:
    name = lab.write("long_run", LONG_RUN)
    open_notebook(page, lab, name)
    run_all(page)
    assert failures(page) == []
    wait_for_step(page, 5)
    drawn = steps_drawn(page)
    wait_for_step(page, drawn + 5)
    command(page, "docmanager:save")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")

    page.reload()
    page.wait_for_selector(".dashboard canvas")
    wait_for_step(page, drawn + 6)

    second = page.context.new_page()
    complaints = Complaints(second)
    open_notebook(second, lab, name, query="")
    second.wait_for_selector(".dashboard canvas")
    least = steps_drawn(page)
    wait_for_step(second, least)
    complaints.assert_none()
    second.close()

    command(page, "notebook:restart-kernel")
    dialog = page.locator(".jp-Dialog .jp-mod-accept")
    dialog.click()
    wait_for_kernel(page)


def test_a_run_can_be_rewound_while_the_engine_goes_on(lab: Lab, page: Any) -> None:
    open_notebook(page, lab, lab.write("rewind", LONG_RUN))
    run_all(page)
    wait_for_step(page, 10)
    page.get_by_role("button", name="Rewind this run").click()
    slider = page.get_by_role("slider", name="Frame")
    slider.wait_for()
    last = steps_drawn(page)
    slider.press("ArrowLeft")
    page.wait_for_function("want => +document.querySelector('.dashboard').dataset.step === want", arg=last - 1)
    slider.press("Home")
    page.wait_for_function("() => +document.querySelector('.dashboard').dataset.step === 0")
    page.get_by_role("button", name="Back to the live engine").click()
    wait_for_step(page, last + 1)


def test_watching_twice_and_shutting_down_while_watched(lab: Lab, page: Any) -> None:
    name = lab.write(
        "twice",
        LONG_RUN,
        "assert astrai.watch(engine) is dashboard\nastrai.watch(engine)",
        "engine.shutdown()",
    )
    open_notebook(page, lab, name)
    run_all(page)
    assert failures(page) == []
    page.wait_for_function("""() => {
        const notes = [...document.querySelectorAll('.dashboard > .bar .note')].map(note => note.textContent)
        return notes.length === 2 && notes.every(note => note.includes('shut down'))
    }""")


def test_a_recorded_run_is_played_in_a_notebook(lab: Lab, page: Any) -> None:
    name = lab.write(
        "play",
        """
import astrai
engine = astrai.InferenceEngine(*astrai.load("tiny"), num_slots=2)
with engine.trace.record("run.jsonl"):
    engine.generate(["Once upon a time", "Once upon a hill"], max_tokens=12)
    engine.shutdown()
astrai.play("run.jsonl")""",
    )
    open_notebook(page, lab, name)
    run_all(page)
    assert failures(page) == []
    page.wait_for_selector(".dashboard canvas")
    last = steps_drawn(page)
    assert last >= 12
    page.get_by_role("slider", name="Frame").press("Home")
    page.wait_for_function("() => +document.querySelector('.dashboard').dataset.step === 0")
    page.get_by_role("slider", name="Frame").press("ArrowRight")
    page.wait_for_function("() => +document.querySelector('.dashboard').dataset.step === 1")


def test_a_saved_notebook_exports_with_pictures_in_the_place_of_widgets(lab: Lab, page: Any) -> None:
    name = lab.write("export", LONG_RUN.replace("max_tokens=900", "max_tokens=5"), "dashboard")
    open_notebook(page, lab, name)
    run_all(page)
    wait_until_run(page)
    command(page, "docmanager:save")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    import nbformat
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter().from_notebook_node(nbformat.read(lab.folder / name, as_version=4))
    assert html.count("data:image/svg+xml;base64,") >= 2

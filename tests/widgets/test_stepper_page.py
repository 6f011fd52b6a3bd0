"""The stepper on a page: the module as a notebook loads it, with the real stepper behind it."""

import json

import pytest

from astrai.inference.scheduler import InferenceScheduler
from astrai.widgets.assemble import css
from astrai.widgets.stepping.stepper_view import StepperView
from tests.widgets.stepping import ask, make_stepper

PROMPT = ".requests input[type=text]"

# What a notebook does: it loads the module, gives it a model and an element. Answers come one after the other.
START = """async (source) => {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const widget = (await import(url)).default;
  const listeners = new Set();
  window.sent = [];
  window.model = {
    face: await window.answer(null),
    get: (name) => window.model[name],
    on: (name, listener) => listeners.add(listener),
    off: (name, listener) => listeners.delete(listener),
    listeners,
    async send(message) {
      window.sent.push(message);
      window.model.face = await window.answer(message);
      for (const listener of listeners) listener();
    },
  };
  window.stop = widget.render({ model: window.model, el: document.getElementById("cell") });
}"""


class Shown:
    """A stepper with its page."""

    def __init__(self, page, stepper):
        self.page, self.stepper, self.view = page, stepper, StepperView(stepper)
        page.set_content(f"<!doctype html><style>body {{ margin: 0 }} {css()}</style><div id=cell></div>")
        page.expose_function("answer", self._answer)
        page.evaluate(START, self.view._esm)

    def _answer(self, message):
        if message is not None:
            self.view._answer(self.view, message, [])
        return self.view.face

    def press(self, name):
        """Press a button, and wait until what it asked for is shown."""
        self.page.get_by_role("button", name=name, exact=True).first.click()
        self.wait()

    def key(self, name):
        self.page.locator(".stepper").focus()
        self.page.keyboard.press(name)
        self.wait()

    def wait(self):
        asked = "!window.sent.length || JSON.parse(window.model.face).answered === window.sent.at(-1).id"
        self.page.wait_for_function(f"() => {asked}")

    def text(self, selector):
        return self.page.locator(selector).first.inner_text()

    def texts(self, selector):
        return self.page.locator(selector).all_inner_texts()

    @property
    def label(self):
        return self.text(".bar .label")


@pytest.fixture
def show(page):
    return lambda stepper=None, **settings: Shown(page, stepper or make_stepper(**settings))


def test_buttons_drive_the_real_scheduler(show):
    shown = show()
    ask(shown.stepper, 5, 9)
    shown.press("One step on (S)")
    assert shown.stepper.scheduler.step_count == 1 and shown.label == "step 1, after decode"
    assert shown.text(".said") == "Step 1 is done."
    shown.press("One phase on (P)")
    assert shown.stepper.next_phase == "refill" and shown.label == "step 2, after cleanup"
    assert shown.text("button[aria-label='One phase on (P)']") == "Phase: refill"
    assert shown.page.locator(".slot-map [data-slot]").count() >= 3


def test_keys_drive_it_and_look_back_and_a_look_back_drives_nothing(show):
    shown = show()
    ask(shown.stepper, 5)
    shown.key("s")
    shown.key("p")
    assert shown.stepper.scheduler.step_count == 2
    labels = []
    for key in ("ArrowLeft", "Home", "ArrowRight", "End"):
        shown.key(key)
        labels.append(shown.label)
    assert labels == [
        "step 1, after decode (frame 4 of 5)",
        "before the first step (frame 0 of 5)",
        "step 1, after cleanup (frame 1 of 5)",
        "step 2, after cleanup",
    ]
    assert shown.stepper.scheduler.step_count == 2
    shown.key("Home")
    assert "a step goes on from the newest frame" in shown.text(".said")
    shown.key("s")
    assert shown.label == "step 2, after decode"


def test_keys_typed_into_a_field_belong_to_the_field(show):
    shown = show()
    field = shown.page.locator(PROMPT)
    field.fill("")
    field.press_sequentially("sip ")
    assert field.input_value() == "sip " and shown.stepper.scheduler.step_count == 0


def test_the_slider_scrubs_through_the_frames(show):
    stepper = make_stepper()
    ask(stepper, 5)
    stepper.step(3)
    shown = show(stepper)
    slider = shown.page.get_by_label("Frame", exact=True)
    for frame in (9, 4, 7, 2):
        slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", frame)
    shown.page.wait_for_function("() => JSON.parse(window.model.face).frame === 2")
    assert slider.input_value() == "2" and shown.label == "step 1, after refill (frame 2 of 12)"
    assert shown.stepper.scheduler.step_count == 3


def test_it_plays_until_nothing_is_left_to_do_and_asks_for_one_step_at_a_time(show):
    shown = show()
    ask(shown.stepper, 5, max_tokens=4)
    shown.page.get_by_label("Speed, in steps a second").select_option("10")
    shown.page.get_by_role("button", name="Play: step after step (space)").click()
    shown.page.wait_for_function("() => !JSON.parse(window.model.face).has_work")
    shown.page.wait_for_function(
        "() => document.querySelector('.controls button:nth-of-type(3)').textContent === 'Play'"
    )
    steps = [message for message in shown.page.evaluate("window.sent") if message["do"] == "step"]
    assert len(steps) == shown.stepper.scheduler.step_count == 4
    assert shown.stepper.scheduler.finished == {"length": 1}


def test_space_plays_and_stops(show):
    shown = show()
    ask(shown.stepper, 5, max_tokens=50)
    shown.key(" ")
    shown.page.wait_for_function("() => window.sent.length >= 2")
    shown.page.locator(".stepper").focus()
    shown.page.keyboard.press(" ")
    assert shown.text("button[aria-label^='Play']") == "Play"
    shown.wait()
    count = shown.stepper.scheduler.step_count
    shown.key("ArrowLeft")
    assert shown.stepper.scheduler.step_count == count


def test_the_lines_that_were_at_work_are_marked_and_say_what_came_from_them(show):
    shown = show()
    ask(shown.stepper, 5)
    shown.press("One phase on (P)")
    shown.press("One phase on (P)")
    assert shown.text(".source .title") == "InferenceScheduler.refill"
    (line,) = shown.texts(".line.work .code")
    assert line.strip() == "self._admit(request, match)"
    assert shown.texts(".line.work .sign") == ["▸"]
    number = shown.page.locator(".line.work").get_attribute("data-line")
    assert [int(number), "                self._admit(request, match)", "work"] in map(
        list, shown.stepper.face()["rows"]
    )
    notes = shown.texts(".lines .note")
    assert "• request 0: owns slot 0 v1, nothing found in the cache (in _admit)" in notes
    style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e.querySelector('.code')).fontWeight]"
    marked, plain = (shown.page.locator(s).first.evaluate(style) for s in (".line.work", ".line:not(.work)"))
    assert marked[0] != plain[0] and marked[1] != plain[1], "neither by colour alone"


class Broken(InferenceScheduler):
    def refill(self):
        raise ZeroDivisionError("I divide nobody")


def test_what_a_learners_phase_raises_stands_at_its_line(show):
    shown = show(scheduler=Broken)
    shown.press("One step on (S)")
    (line,) = shown.texts(".line.error .code")
    assert line.strip() == 'raise ZeroDivisionError("I divide nobody")'
    assert shown.text(".said.wrong").startswith("refill raised ZeroDivisionError: I divide nobody, in line")
    assert shown.text(".note.error").startswith("refill raised ZeroDivisionError")


def test_requests_are_added_cancelled_and_sent_to_the_back_by_hand(show):
    shown = show(num_slots=1)
    for prompt in ("The fox", "river", "sat"):
        shown.page.locator(PROMPT).fill(prompt)
        shown.page.get_by_label("Tokens, at most").fill("20")
        shown.press("Add")
    assert shown.texts("[data-list=inbox] li") == ["request 0", "request 1", "request 2"]
    shown.key("s")
    assert [text.split(",")[0] for text in shown.texts("[data-list=waiting] li")] == ["request 1", "request 2"]
    shown.press("Send request 1 to the back of the queue, under a new id")
    shown.press("Cancel request 0")
    assert shown.texts("[data-list=inbox] li") == ["cancel 1", "request 3", "cancel 0"]
    shown.key("p")
    assert [text.split(",")[0] for text in shown.texts("[data-list=waiting] li")] == ["request 2", "request 3"]
    assert shown.stepper.scheduler.waiting[3].sampling.max_tokens == 20
    shown.page.locator(PROMPT).fill("The fox " * 60)
    shown.press("Add")
    assert "shorten it" in shown.text(".said")


def test_a_fork_is_asked_for_in_the_form_and_both_runs_are_scrubbed_together(show):
    stepper = make_stepper()
    ask(stepper, 3, 5, 9, max_tokens=5)
    while stepper.scheduler.has_work:
        stepper.step()
    shown = show(stepper)
    shown.page.locator(".fork form input").first.fill("2")
    shown.page.locator(".fork form select").select_option("grouped")
    shown.press("Fork")
    assert shown.stepper.forked.then == {"decode_policy": "grouped"} and shown.stepper.forked.step == 2
    assert "4 more forwards" in shown.text(".fork .words")
    assert shown.texts(".fork thead th") == ["as it was", "decode_policy=grouped"]
    assert shown.page.locator(".run .slot-map").count() == 2
    slider = shown.page.get_by_label("Step of both runs")
    slider.evaluate("(e) => { e.value = 4; e.dispatchEvent(new Event('input')); }")
    shown.page.wait_for_function("() => JSON.parse(window.model.face).fork.at === 4")
    assert shown.texts(".run h4") == ["as it was: step 4", "decode_policy=grouped: step 4"]
    shown.press("Close the fork")
    assert not shown.page.locator(".fork .result").is_visible() and not shown.page.locator(".run .slot-map").count()


def test_a_pointed_at_slot_gets_its_tokens(show):
    shown = show()
    ask(shown.stepper, 5)
    shown.key("s")
    shown.page.evaluate("() => window.model.send({ do: 'focus', run: 'main', slot: 0, id: 'mine' })")
    shown.page.wait_for_function("() => JSON.parse(window.model.face).answered === 'mine'")
    slots = json.loads(shown.view.face)["view"]["state"]["slots"]
    assert slots[0]["ids"][:5] == [1, 1, 1, 1, 1] and "ids" not in slots[1]


TOO_WIDE = """() => [...document.querySelectorAll(".stepper *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".lines, .part.tree"))
  .map((e) => e.outerHTML.slice(0, 80))"""


def test_nothing_is_wider_than_the_page_in_either_theme(show, page):
    shown = show()
    ask(shown.stepper, 5, 6, 7, 8)
    shown.key("s")
    shown.stepper.fork(0, decode_policy="grouped")
    shown.key("p")
    for width in (1200, 700, 400):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function(f"() => ({TOO_WIDE})().length === 0")
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    for theme, expected in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(17, 17, 17)")):
        page.emulate_media(color_scheme=theme)
        background = "() => getComputedStyle(document.querySelector('.stepper')).backgroundColor"
        page.wait_for_function(f"({background})() === '{expected}'")


def test_when_the_cell_is_cleared_nothing_is_left_behind(show):
    shown = show()
    ask(shown.stepper, 5)
    shown.key("s")
    shown.page.evaluate("() => window.stop()")
    assert shown.page.evaluate(
        "() => [window.model.listeners.size, document.getElementById('cell').children.length]"
    ) == [0, 0]

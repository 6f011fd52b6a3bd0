"""The stepper without a notebook: a real engine on a small model, driven by hand."""

import linecache
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from astrai.inference.cache.slots import SlotAllocator
from astrai.inference.inbox import EngineDeadError
from astrai.inference.scheduler import InferenceScheduler
from astrai.inference.witness import take_snapshot
from astrai.trace import events as e
from astrai.trace.replay import replay
from astrai.widgets.data.view import RunView
from astrai.widgets.stepping import stepper as module
from astrai.widgets.stepping.driver import StepperError
from astrai.widgets.stepping.stepper import SchedulerStepper
from astrai.widgets.stepping.stepper_view import StepperView
from tests.widgets.stepping import ask, make_engine, make_stepper


def run_down(stepper):
    while stepper.scheduler.has_work:
        stepper.step()


def rows(stepper):
    """(line or None, text, mark) of the source panel, without indentation."""
    return [(number, content.strip(), mark) for number, content, mark in stepper.face()["rows"]]


def told_below(stepper):
    """What is told, by the source line that it stands below."""
    told, above = {}, ""
    for number, content, _ in rows(stepper):
        if number is None:
            told.setdefault(above, []).append(content)
        else:
            above = content
    return told


def snapshot_of(stepper):
    return take_snapshot(stepper.scheduler)


# --- driving ----------------------------------------------------------------------------------------------------------


def test_every_frame_is_the_replay_of_the_log_up_to_there():
    stepper = make_stepper()
    ask(stepper, 5, 9, 3, 7, max_tokens=2)
    run_down(stepper)
    log = stepper.engine.trace
    ends = [record.seq + 1 for record in log.records if isinstance(record.event, e.PhaseEnded)]
    assert len(stepper.frames) == 1 + len(ends) == 1 + 4 * stepper.scheduler.step_count
    view = RunView.of(log, stepper._decode)
    for frame, end in zip(stepper.frames, [0, *ends], strict=True):
        for record in log.records[view.seq : end]:
            view.apply(record)
        stepper.goto(frame)
        shown = stepper.face()["view"]
        assert shown["state"] == view.state() and shown["timeline"] == view.timeline()
        assert view.snapshot() == replay(log, end)


def test_a_step_makes_four_frames_and_a_phase_one():
    stepper = make_stepper()
    ask(stepper, 5)
    assert stepper.face()["label"] == "before the first step"
    labels = []
    for _ in range(5):
        labels.append(stepper.next_phase)
        stepper.phase()
        labels.append(stepper.face()["label"])
    assert labels == [
        *("cleanup", "step 1, after cleanup", "refill", "step 1, after refill"),
        *("prefill", "step 1, after prefill", "decode", "step 1, after decode"),
        *("cleanup", "step 2, after cleanup"),
    ]
    assert (stepper.shown, stepper.next_phase) == (5, "refill")


def test_phase_by_phase_and_step_by_step_are_the_same_run():
    whole, parts = make_stepper(), make_stepper()
    for stepper in (whole, parts):
        ask(stepper, 5, 9, 3, 7)
    whole.step(6)
    for _ in range(24):
        parts.phase()
    assert snapshot_of(whole) == snapshot_of(parts)


def test_a_step_that_was_begun_is_finished_first():
    stepper = make_stepper()
    ask(stepper, 5)
    stepper.phase()
    stepper.step()
    assert (stepper.scheduler.step_count, stepper.next_phase) == (1, "cleanup")
    stepper.step(2)
    assert stepper.scheduler.step_count == 3 and stepper.face()["said"] == "Step 3 is done."


def test_looking_back_changes_nothing_and_a_step_goes_on_from_the_newest_frame():
    stepper = make_stepper()
    ask(stepper, 5, 9)
    stepper.step(2)
    before = snapshot_of(stepper)
    stepper.home()
    assert stepper.shown == 0 and stepper.face()["view"]["state"]["step"] == 0
    stepper.back()
    stepper.forward()
    stepper.goto_step(1)
    assert stepper.shown == 4 and stepper.face()["label"] == "step 1, after decode"
    assert "a step goes on from the newest frame" in stepper.text()
    assert snapshot_of(stepper) == before and stepper.engine.trace.next_seq == before_seq(stepper)
    stepper.step()
    assert stepper.shown == stepper.frames[-1] == 12 and stepper.face()["label"] == "step 3, after decode"
    stepper.forward()
    assert stepper.shown == 12 and stepper.scheduler.step_count == 3
    with pytest.raises(ValueError, match="frame 13 is not there: there are 0 to 12"):
        stepper.goto(13)


def before_seq(stepper):
    return stepper._driver.history[stepper.frames[-1]].seq


def test_what_somebody_else_stepped_is_seen_too():
    stepper = make_stepper()
    ask(stepper, 5)
    stepper.phase()
    stepper.scheduler.refill()
    stepper.scheduler.prefill()
    stepper.phase()
    assert stepper.face()["label"] == "step 1, after decode" and len(stepper.frames) == 5
    stepper.scheduler.step()
    stepper.step()
    assert stepper.scheduler.step_count == 3 and len(stepper.frames) == 13
    stepper.goto(8)
    assert stepper.face()["rows"], "its source can be shown, though nobody noted the lines"
    assert {mark for _, _, mark in rows(stepper)} == {""}


def test_a_run_that_was_begun_before_can_be_looked_back_at():
    engine = make_engine()
    first = SchedulerStepper(engine)
    ask(first, 5, 6)
    first.step(2)
    first.phase()
    second = SchedulerStepper(engine)
    assert second.frames == first.frames and second.next_phase == "refill"
    assert second.face()["view"] == first.face()["view"]


def test_frames_whose_events_have_left_the_log_are_forgotten():
    stepper = make_stepper(trace_events=120)
    ask(stepper, 5, 5, 5, 5, max_tokens=12)
    run_down(stepper)
    first_seq = stepper.engine.trace.first_seq
    assert first_seq > 0 and stepper.frames[0] > 0
    stepper.home()
    assert stepper.face()["view"]["state"]["seq"] >= first_seq
    with pytest.raises(ValueError, match="is not there"):
        stepper.goto(0)
    with pytest.raises(ValueError, match="trace_events"):
        stepper.fork(2)
    assert "trace_events" in stepper.face()["said"]


# --- the source -------------------------------------------------------------------------------------------------------

READ, OVERDUE, RELEASE = "self._read_inbox()", "self._end_overdue()", "self._release(request)"
ADMIT, HOLD = "self._admit(request, match)", "self._hold(request, lead)"
TAKE_PREFILLED, TAKE_DECODED = "self._take_prefilled(chunks, sampled)", "self._take_decoded(rows, tokens, groups)"


def test_the_lines_at_work_are_those_that_a_reader_would_point_at():
    stepper = make_stepper(num_slots=2, prefill_budget=8)
    stepper.add([1] * 6, max_tokens=2, ignore_eos=True)
    stepper.add([1] * 5 + [2], max_tokens=4, ignore_eos=True)  # continues what the first is about to write
    stepper.phase()
    assert told_below(stepper).keys() == {READ}
    assert [words[:28] for words in told_below(stepper)[READ]] == [
        "request 0: joined the queue ",
        "request 1: joined the queue ",
    ]

    stepper.phase()
    told = told_below(stepper)
    assert told.keys() == {ADMIT, HOLD}
    assert told[ADMIT][:2] == [
        "slot 0 v1: handed to request 0, to be written from its start (in _admit)",
        "request 0: owns slot 0 v1, nothing found in the cache (in _admit)",
    ]
    assert told[HOLD] == ["request 1: waits for the prefix that request 0 is writing (in _hold)"]

    stepper.phase()
    told = told_below(stepper)
    assert told.keys() == {TAKE_PREFILLED}
    assert told[TAKE_PREFILLED][0] == "request 0: 6 tokens computed into slot 0, positions 0 to 5 (in _take_prefilled)"
    assert told[TAKE_PREFILLED][2].startswith("request 0: first token")

    stepper.phase()
    told = told_below(stepper)
    assert told.keys() == {TAKE_DECODED}
    assert told[TAKE_DECODED][0].startswith("1 token in 1 forward pass: request 0")
    assert told[TAKE_DECODED][1] == "request 0: ended with length (in _finish)"

    stepper.phase()
    assert told_below(stepper).keys() == {RELEASE}
    stepper.phase()
    told = told_below(stepper)
    assert told.keys() == {ADMIT}
    assert "request 1: its first 5 tokens are held by slot 0 v1 (in _admit)" in told[ADMIT]
    stepper.phase()
    stepper.cancel(1)
    stepper.phase()
    stepper.phase()
    assert told_below(stepper).keys() == {READ, RELEASE}
    assert told_below(stepper)[READ] == ["request 1: ended with cancelled (in _finish)"]


def test_a_deadline_that_has_passed_is_marked_where_it_is_looked_at(monkeypatch):
    stepper = make_stepper()
    ask(stepper, 5)
    stepper.step()
    request = stepper.scheduler.running[0]
    request.deadline = 1.0
    stepper.scheduler._deadlines.append((1.0, 0))
    stepper.phase()
    assert told_below(stepper).keys() == {OVERDUE, RELEASE}


def test_the_marked_lines_are_lines_of_the_file():
    stepper = make_stepper()
    ask(stepper, 5)
    stepper.step()
    for frame in stepper.frames[1:]:
        stepper.goto(frame)
        face = stepper.face()
        assert face["source"]["file"] == "scheduler.py"
        lines = linecache.getlines(sys.modules[InferenceScheduler.__module__].__file__)
        for number, content, _ in rows(stepper):
            if number is not None:
                assert lines[number - 1].strip() == content


def test_a_phase_in_which_nothing_happened_says_so():
    stepper = make_stepper()
    stepper.step()
    assert rows(stepper)[-1] == (None, "nothing to do in this step", "")
    assert {mark for _, _, mark in rows(stepper)} == {""}


class NewestFirst(InferenceScheduler):
    def refill(self):
        with self._in_phase("refill"):
            for request in reversed(list(self.waiting.values())):
                if self.can_admit():
                    self._admit(request, self.cache.match(request.prompt_ids))  # mine


class Polite(InferenceScheduler):
    def refill(self):
        if len(self.running) < 2:
            super().refill()  # handed on


def test_a_learners_own_phase_shows_the_learners_own_source():
    stepper = make_stepper(scheduler=NewestFirst)
    ask(stepper, 5, 6)
    stepper.phase()
    assert stepper.face()["source"]["title"] == "InferenceScheduler.cleanup"
    stepper.phase()
    assert stepper.face()["source"] == {"title": "NewestFirst.refill", "file": "test_stepper.py"}
    told = told_below(stepper)
    (mine,) = told
    assert mine.endswith("# mine") and "request 1: owns slot 0 v1" in told[mine][1]


def test_a_phase_that_hands_on_to_super_marks_its_own_line():
    stepper = make_stepper(scheduler=Polite)
    ask(stepper, 5)
    stepper.phase()
    stepper.phase()
    assert told_below(stepper).keys() == {"super().refill()  # handed on"}


TYPED = textwrap.dedent(
    """
    class Typed(InferenceScheduler):
        def refill(self):
            with self._in_phase("refill"):
                for request in list(self.waiting.values()):
                    self._admit(request, self.cache.match(request.prompt_ids))
    """
)


@pytest.mark.parametrize("is_in_a_notebook", [True, False])
def test_a_class_that_was_typed_in_is_shown_if_anybody_knows_its_text(is_in_a_notebook):
    name = f"/tmp/ipykernel_1/{is_in_a_notebook}.py"
    if is_in_a_notebook:
        linecache.cache[name] = (len(TYPED), None, TYPED.splitlines(True), name)
    names = {"InferenceScheduler": InferenceScheduler, "__name__": "typed"}
    exec(compile(TYPED, name, "exec"), names)
    stepper = make_stepper(scheduler=names["Typed"])
    ask(stepper, 5)
    stepper.phase()
    stepper.phase()
    face = stepper.face()
    assert face["source"] == {"title": "Typed.refill", "file": "this notebook" if is_in_a_notebook else ""}
    told = told_below(stepper)
    assert any("request 0: owns slot 0" in words for notes in told.values() for words in notes)
    if is_in_a_notebook:
        assert told.keys() == {"self._admit(request, self.cache.match(request.prompt_ids))"}
        assert rows(stepper)[0][:2] == (3, "def refill(self):")
    else:
        assert "cannot be read" in stepper.text()


class TwoDecodes(InferenceScheduler):
    def step(self):
        super().step()
        self.decode()


def test_a_scheduler_with_a_step_of_its_own_is_driven_by_steps_only():
    stepper = make_stepper(scheduler=TwoDecodes)
    ask(stepper, 5)
    assert stepper.face()["has_own_step"] and not make_stepper().face()["has_own_step"]
    with pytest.raises(StepperError, match=r"TwoDecodes has a step\(\) of its own.* go on with step\(\)"):
        stepper.phase()
    stepper.step()
    assert [stepper._driver.history[n].phase for n in stepper.frames[1:]] == [*e.PHASES, "decode"]
    stepper.step()
    assert stepper.scheduler.step_count == 2


# --- what goes wrong --------------------------------------------------------------------------------------------------


class Moody(InferenceScheduler):
    mood = ""

    def refill(self):
        if self.mood == "early":
            raise ZeroDivisionError("I divide nobody")
        if self.mood == "untold":
            self.emit(e.PhaseStarted("refill"))
            raise ValueError("and nobody hears the end")
        if self.mood == "impossible":
            self.emit(e.SlotFreed(0, 99, 0))
        if self.mood == "quiet":
            for request in list(self.waiting.values()):
                self._admit(request, self.cache.match(request.prompt_ids))
            return
        super().refill()
        if self.mood == "late":
            self.cache.slots.free_mask = 0  # a double hand-out
            raise RuntimeError("half done")


def moody(mood, **settings):
    stepper = make_stepper(scheduler=Moody, **settings)
    ask(stepper, 5)
    stepper.step(2)
    ask(stepper, 7)
    stepper.scheduler.mood = mood
    return stepper


@pytest.mark.parametrize("by", ["step", "phase"])
def test_what_a_phase_raises_is_raised_and_shown_and_the_stepper_goes_on(by):
    stepper = moody("early")
    if by == "phase":
        stepper.phase()
    with pytest.raises(ZeroDivisionError, match="I divide nobody"):
        getattr(stepper, by)()
    face = stepper.face()
    assert face["label"] == "step 3, after refill"
    number, content, mark = next(row for row in rows(stepper) if row[2] == "error")
    assert content == 'raise ZeroDivisionError("I divide nobody")' and mark == "error"
    words = f"refill raised ZeroDivisionError: I divide nobody, in line {number}"
    assert face["error"] == words and (None, words, "error") in rows(stepper)
    assert words in stepper.text() and words in stepper.svg() and isinstance(stepper.error, ZeroDivisionError)
    assert face["broken"] == "" and face["next"] == "cleanup"
    stepper.scheduler.mood = ""
    run_down(stepper)
    assert stepper.error is None and stepper.face()["error"] == ""
    assert replay(stepper.engine.trace) == snapshot_of(stepper)


@pytest.mark.parametrize(
    ("mood", "raised", "words"),
    [
        ("untold", ValueError, "refill did not tell the trace that it ended"),
        ("late", RuntimeError, "its books do not agree any more"),
        ("impossible", None, "its events do not fit together any more: event"),
    ],
)
def test_a_scheduler_that_cannot_go_on_is_said_so_and_can_still_be_looked_back_at(mood, raised, words):
    stepper = moody(mood)
    if raised:
        with pytest.raises(raised):
            stepper.step()
    else:
        stepper.step()
    broken = stepper.face()["broken"]
    assert words in broken and "make a new engine" in broken and broken in stepper.text()
    for drive in (stepper.step, stepper.phase):
        with pytest.raises(StepperError, match="cannot go on"):
            drive()
    for frame in stepper.frames:
        stepper.goto(frame)
        assert stepper.text() and stepper.svg()


def test_a_phase_that_tells_the_trace_nothing_of_itself_has_a_frame_all_the_same():
    stepper = moody("quiet")
    stepper.phase()
    stepper.phase()
    assert stepper.face()["label"] == "step 3, after refill" and stepper.next_phase == "prefill"
    assert told_below(stepper).keys() == {"self._admit(request, self.cache.match(request.prompt_ids))"}
    stepper.scheduler.mood = ""
    run_down(stepper)
    assert stepper.face()["broken"] == ""


def test_an_engine_that_steps_by_itself_is_refused_with_the_remedy():
    engine = make_engine(start=True)
    with pytest.raises(StepperError, match="start=False"):
        SchedulerStepper(engine)
    engine.shutdown()
    stepper = make_stepper()
    stepper.engine.daemon.start()
    with pytest.raises(StepperError, match="start=False"):
        stepper.step()
    stepper.engine.shutdown()


def test_emit_is_left_as_it_was_found():
    stepper = moody("early")
    before = stepper.scheduler.emit
    with pytest.raises(ZeroDivisionError):
        stepper.step()
    assert stepper.scheduler.emit == before == stepper.engine.trace.emit


# --- the queue --------------------------------------------------------------------------------------------------------


def test_requests_are_posted_and_read_in_the_next_cleanup():
    stepper = make_stepper(num_slots=1)
    first, second = ask(stepper, 5, 6)
    assert stepper.face()["inbox"] == [{"do": "add", "request": first}, {"do": "add", "request": second}]
    assert "Inbox, read in the next cleanup: request 0, request 1" in stepper.text()
    stepper.phase()
    face = stepper.face()
    assert face["inbox"] == [] and face["waiting"] == [[0, 5], [1, 6]]
    stepper.phase()
    assert (stepper.face()["running"], stepper.face()["waiting"]) == ([[0, 0]], [[1, 6]])
    stepper.cancel(0)
    stepper.cancel(1)
    assert "cancel 0, cancel 1" in stepper.text()
    stepper.step(2)
    assert not stepper.scheduler.has_work
    assert Counter(stepper.scheduler.finished) == {"cancelled": 2}


def test_a_request_can_be_text_or_a_chat():
    stepper = make_stepper()
    stepper.add("The fox", max_tokens=3)
    stepper.add([{"role": "user", "content": "The fox"}], max_tokens=3)
    stepper.step()
    text, chat = (replay(stepper.engine.trace).request(request_id).prompt_ids for request_id in (0, 1))
    assert text == tuple(stepper.engine.tokenizer.encode("The fox", add_special=True)) and len(chat) > len(text)


def test_a_request_sent_to_the_back_comes_again_under_a_new_id():
    stepper = make_stepper(num_slots=1)
    ask(stepper, 5, 6, 7)
    stepper.step()
    assert stepper.to_back(1) == 3
    assert "Request 1 is to end, and comes again as request 3" in stepper.face()["said"]
    stepper.phase()
    assert stepper.face()["waiting"] == [[2, 7], [3, 6]]
    assert stepper.scheduler.waiting[3].sampling == stepper.scheduler.waiting[2].sampling
    run_down(stepper)
    admitted = [r.event.request_id for r in stepper.engine.trace.records if isinstance(r.event, e.RequestAdmitted)]
    assert admitted == [0, 2, 3]


def test_what_cannot_be_done_to_the_queue_is_refused_in_words():
    stepper = make_stepper()
    ask(stepper, 5)
    with pytest.raises(ValueError, match="request 0 neither waits nor runs, only none; what is in the inbox"):
        stepper.cancel(0)
    stepper.step()
    with pytest.raises(ValueError, match="request 0 does not wait"):
        stepper.to_back(0)
    with pytest.raises(ValueError, match="shorten it"):
        ask(stepper, 64)
    assert "shorten it" in stepper.face()["said"]
    stepper.engine.shutdown()
    with pytest.raises(EngineDeadError):
        ask(stepper, 5)


# --- forks ------------------------------------------------------------------------------------------------------------


def outputs(log):
    return [r.event for r in log.records if isinstance(r.event, e.FirstTokenSampled | e.TokensDecoded)]


def test_a_fork_shows_both_runs_at_the_same_step_and_compares_them():
    stepper = make_stepper()
    ask(stepper, 3, 5, 9, max_tokens=5)
    run_down(stepper)
    stepper.goto_step(2)
    forked = stepper.fork(decode_policy="grouped")
    assert (forked.step, forked.at) == (2, 2)
    was, then = forked.before.figures, forked.after.figures
    stats = stepper.engine.stats()
    assert was.computed == then.computed == stats.prefilled_tokens + stats.decoded_tokens
    assert was.cached == stats.cached_tokens and was.steps == then.steps == stats.steps - 1
    assert was.tokens == then.tokens and {len(ids) for ids in was.tokens.values()} == {5}
    # Three rows at three positions: a prefill and 4 decodes, of which the last 2 take three forwards instead of one.
    assert (was.forwards, then.forwards) == (1 + 4, 1 + 2 + 2 * 3)
    assert was.waits == (1, 1, 1) and was.mean_wait == 1.0
    assert "the same number of steps, 4 more forwards, the same number of computed tokens" in forked.words()
    assert "Each request gets the same tokens" in stepper.text() and "grouped" in stepper.svg()
    stepper.goto_fork(3)
    faces = stepper.face()["fork"]["runs"]
    assert [run["view"]["state"]["step"] for run in faces] == [3, 3]
    assert [run["view"]["timeline"]["scripted"] for run in faces] == [True, True]
    assert [run["view"]["timeline"]["steps"][2][6] for run in faces] == [1, 3]
    with pytest.raises(ValueError, match="step 99 is in neither run"):
        stepper.goto_fork(99)
    stepper.close_fork()
    assert stepper.face()["fork"] is None
    with pytest.raises(ValueError, match=r"make one with fork\(\)"):
        stepper.goto_fork(1)


def test_runs_of_different_length_are_shown_to_their_ends():
    stepper = make_stepper(prefill_budget=64)
    ask(stepper, 9, 9, max_tokens=3)
    run_down(stepper)
    forked = stepper.fork(0, prefill_budget=3)
    assert forked.after.last_step > forked.before.last_step
    stepper.goto_fork(forked.last_step)
    states = [run["view"]["state"] for run in stepper.face()["fork"]["runs"]]
    assert [state["step"] for state in states] == [forked.before.last_step, forked.after.last_step]
    assert all(state["running"] == [] for state in states)
    assert f"{forked.after.figures.steps - forked.before.figures.steps} more steps" in forked.words()


def test_the_fork_of_a_run_that_goes_on_says_where_it_ends_and_leaves_the_engine_alone():
    stepper = make_stepper()
    ask(stepper, 3, 5, max_tokens=20)
    stepper.step(4)
    stepper.phase()
    before = snapshot_of(stepper)
    forked = stepper.fork(scheduler=NewestFirst)
    assert forked.step == 4 and "2 that had not ended end with their last known token" in forked.words()
    assert forked.after.title == "scheduler=NewestFirst"
    assert snapshot_of(stepper) == before
    with pytest.raises(ValueError, match="0 to 4 complete steps"):
        stepper.fork(5)
    with pytest.raises(ValueError, match="num_slots cannot change"):
        stepper.fork(num_slots=2)
    assert "num_slots cannot change" in stepper.face()["said"]


# --- showing ----------------------------------------------------------------------------------------------------------


def test_the_text_and_the_drawing_tell_the_facts_of_the_frame():
    stepper = make_stepper()
    stepper.add("The fox", max_tokens=4, ignore_eos=True)
    stepper.phase()
    stepper.phase()
    for shown in (stepper.text(), stepper.svg()):
        assert "Step 1, after refill" in shown and "InferenceScheduler.refill" in shown
        assert "request 0: owns slot 0 v1, nothing found in the cache" in shown and "miss" in shown
    svg = stepper.svg(700)
    assert svg == stepper.svg(700) and ET.fromstring(svg).attrib["width"] == "700"
    stepper.back()
    assert "frame 1 of 2" in stepper.text()


def test_text_that_could_be_markup_is_shown_as_text():
    stepper = make_stepper()
    stepper.add("<b>&amp;</b>\n", max_tokens=2)
    stepper.phase()
    ET.fromstring(stepper.svg())
    assert "<b>" in stepper.text() and "<b>" not in stepper.svg()


def test_the_stepper_is_imported_without_a_notebook_and_without_a_tensor():
    code = (
        "import sys, astrai.widgets.stepping.stepper; print({'anywidget', 'ipywidgets', 'torch'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout == "set()\n", done.stderr


def test_without_anywidget_the_twins_are_shown(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    stepper = make_stepper()
    assert stepper._repr_mimebundle_() == {"text/plain": stepper.text(), "image/svg+xml": stepper.svg()}


def test_a_notebook_gets_the_widget_and_both_twins():
    stepper = make_stepper()
    data, _ = stepper._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "image/svg+xml", "text/plain"} <= data.keys()
    again, _ = stepper._repr_mimebundle_()
    key = "application/vnd.jupyter.widget-view+json"
    assert again[key]["model_id"] == data[key]["model_id"], "shown twice, it is one widget"
    assert data["text/plain"] == stepper.text()


def test_what_is_done_in_a_cell_shows_on_the_page():
    stepper = make_stepper()
    view = StepperView(stepper)
    before = view.face
    stepper.step(3)
    assert view.face != before and '"label":"step 3, after decode"' in view.face
    with pytest.raises(ValueError, match="is not there"):
        stepper.goto(99)
    assert "frame 99 is not there" in view.face


class Twice(SlotAllocator):
    def allocate(self, among=None):
        handle = super().allocate(among)
        self.free_mask |= 1 << handle.slot  # forgets that it gave the row away
        return handle


def test_a_defect_that_was_planted_in_a_part_shows_in_the_stepper():
    stepper = make_stepper(slots=Twice, num_slots=2)
    ask(stepper, 4, 4)
    with pytest.raises(Exception):  # noqa: B017 (whatever breaks first)
        run_down(stepper)
    assert stepper.face()["broken"] or stepper.face()["error"]
    assert stepper.text() and stepper.svg()


def test_without_timings_the_same_run_is_always_told_and_drawn_alike():
    def shown(**settings):
        stepper = SchedulerStepper(make_engine(), **settings)
        ask(stepper, 5, 9, max_tokens=3)
        run_down(stepper)
        return stepper.text(), stepper.svg()

    assert shown(timings=False) == shown(timings=False)
    assert " ms" in shown()[0] and " ms" not in shown(timings=False)[0]

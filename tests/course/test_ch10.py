"""What learners write for the phases of chapter 10: what is right passes in any style, each mistake is named."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from astrai.course.cards import Table, card, play
from astrai.course.catalogue import exercise
from astrai.course.chapters.ch10_cleanup import CLEANUPS
from astrai.course.chapters.ch10_measuring import fastest, longest_wait
from astrai.course.chapters.ch10_pictures import TokensPerStep
from astrai.course.chapters.ch10_refill import REFILLS
from astrai.course.chapters.ch10_scheduler import PlainScheduler
from astrai.course.checking import judge
from astrai.course.parting import same_trace
from astrai.course.stills import SlotsOverTime
from astrai.inference.cache.slots import SlotError
from astrai.inference.request import Request
from astrai.inference.scheduler import InferenceScheduler


def with_refill(body: Callable[[Any], object]) -> type[PlainScheduler]:
    """A learner's scheduler whose refill is ``body``."""

    class MyRefill(PlainScheduler):
        def refill(self) -> None:
            with self.in_phase("refill"):
                body(self)

    return MyRefill


def with_cleanup(body: Callable[[Any], object]) -> type[PlainScheduler]:
    """A learner's scheduler whose cleanup is ``body``."""

    class MyScheduler(PlainScheduler):
        def cleanup(self) -> None:
            with self.in_phase("cleanup"):
                body(self)

    return MyScheduler


def with_groups(body: Callable[[list[Request]], Any]) -> type[PlainScheduler]:
    """A learner's scheduler whose groups are made by ``body``."""

    class EveryGroup(PlainScheduler):
        def plan_groups(self, requests: Any) -> Any:
            return body(requests)

    return EveryGroup


# --- the teaching base ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cards", "settings"), [*REFILLS, *CLEANUPS])
def test_the_plain_scheduler_does_what_the_package_does(cards: Any, settings: Any) -> None:
    same_trace(play(PlainScheduler, cards, **settings), play(InferenceScheduler, cards, **settings))


def test_a_slot_is_given_back_once_and_handed_out_only_if_one_is_free() -> None:
    table = Table(PlainScheduler, (card(10, 3, 4), card(20, 3, 4)), 1)
    scheduler: Any = next(table.steps())
    scheduler.cleanup()
    scheduler.refill()
    running, waiting = scheduler.running[0], scheduler.waiting[1]
    with pytest.raises(SlotError, match="no slot is free"):
        scheduler.admit(waiting)
    with pytest.raises(ValueError, match="does not wait"):
        scheduler.admit(running)
    with pytest.raises(SlotError, match="does not run"):
        scheduler.give_back(waiting)


# --- 10.3 refill ------------------------------------------------------------------------------------------------------


def in_order(self: Any) -> None:
    for request in list(self.waiting.values()):
        if not self.can_admit():
            break
        if not self.must_hold(request):
            self.admit(request)


def asks_to_hold_first(self: Any) -> None:
    for request in tuple(self.waiting.values()):
        if self.must_hold(request):
            continue
        if self.can_admit():
            self.admit(request)


def one_after_the_other(self: Any) -> None:
    while self.can_admit():
        ready = [request for request in self.waiting.values() if not self.must_hold(request)]
        if not ready:
            return
        self.admit(ready[0])


def by_number(self: Any) -> None:
    for number in sorted(self.waiting):
        request = self.waiting[number]
        if self.can_admit() and not self.must_hold(request):
            self.admit(request)


@pytest.mark.parametrize("body", [in_order, asks_to_hold_first, one_after_the_other, by_number])
def test_a_right_refill_passes_in_any_style(body: Callable[[Any], None]) -> None:
    assert judge(exercise("10.3"), with_refill(body)).passed


def newest_first(self: Any) -> None:
    for request in reversed(list(self.waiting.values())):
        if self.can_admit() and not self.must_hold(request):
            self.admit(request)


def shortest_first(self: Any) -> None:
    for request in sorted(self.waiting.values(), key=lambda request: request.prompt_len):
        if self.can_admit() and not self.must_hold(request):
            self.admit(request)


def one_a_step(self: Any) -> None:
    for request in list(self.waiting.values()):
        if self.can_admit() and not self.must_hold(request):
            self.admit(request)
            break


def beyond_the_slots(self: Any) -> None:
    for request in list(self.waiting.values()):
        if not self.must_hold(request):
            self.admit(request)


def asks_once(self: Any) -> None:
    if self.can_admit():
        beyond_the_slots(self)


def only_when_empty(self: Any) -> None:
    if not self.running:
        in_order(self)


def never_holds(self: Any) -> None:
    for request in list(self.waiting.values()):
        if self.can_admit():
            self.admit(request)


def stops_at_the_first_held(self: Any) -> None:
    for request in list(self.waiting.values()):
        if not self.can_admit() or self.must_hold(request):
            break
        self.admit(request)


def never_stops(self: Any) -> None:
    while self.waiting:
        request = next(iter(self.waiting.values()))
        if self.can_admit():
            self.admit(request)


def spins(self: Any) -> None:
    while self.can_admit():
        pass


def drops_the_held(self: Any) -> None:
    for request in list(self.waiting.values()):
        if self.can_admit():
            if self.must_hold(request):
                del self.waiting[request.request_id]
            else:
                self.admit(request)


def drops_what_has_no_room(self: Any) -> None:
    in_order(self)
    self.waiting.clear()


def takes_out_by_itself(self: Any) -> None:
    while self.can_admit() and self.waiting:
        self.admit(self.waiting.pop(next(iter(self.waiting))))


def changes_while_looping(self: Any) -> None:
    for request in self.waiting.values():
        if self.can_admit() and not self.must_hold(request):
            self.admit(request)


def does_nothing(self: Any) -> None:
    pass


def goes_through_the_keys(self: Any) -> None:
    for request in list(self.waiting):
        if self.can_admit() and not self.must_hold(request):
            self.admit(request)


def admits_the_keys(self: Any) -> None:
    for request in list(self.waiting):
        if self.can_admit():
            self.admit(request)


def goes_through_the_pairs(self: Any) -> None:
    for request in list(self.waiting.items()):
        if self.can_admit() and not self.must_hold(request):
            self.admit(request)


def forgets_the_parentheses(self: Any) -> None:
    for request in list(self.waiting.values()):
        if self.can_admit and not self.must_hold(request):
            self.admit(request)


def deletes_before(self: Any) -> None:
    for request in list(self.waiting.values()):
        if self.can_admit() and not self.must_hold(request):
            del self.waiting[request.request_id]
            self.admit(request)


def deletes_after(self: Any) -> None:
    for request in list(self.waiting.values()):
        if self.can_admit() and not self.must_hold(request):
            self.admit(request)
            del self.waiting[request.request_id]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (newest_first, "gives a slot to request 2 before request 0, which came earlier: first come, first served"),
        (shortest_first, "gives a slot to request 1 before request 0, which came earlier"),
        (one_a_step, "In step 1, 2 slots are free and your refill admits 1: request 1 waits for a step more"),
        (beyond_the_slots, "goes on when all slots are taken: request 2 cannot be admitted"),
        (asks_once, "goes on when all slots are taken"),
        (only_when_empty, "request 2 waits and a slot is free, but your refill admits nobody"),
        (never_holds, "while request 0 is computing the beginning that both share: it would be computed twice"),
        (stops_at_the_first_held, "request 1 is held, and your refill stops there: request 2 may pass it"),
        (never_stops, "Your code does not come to an end: look at the loop around line"),
        (spins, "Your code does not come to an end: look at the loop around line"),
        (drops_the_held, "request 1 is gone: it neither waits nor runs"),
        (drops_what_has_no_room, "request 2 is gone: it neither waits nor runs"),
        (takes_out_by_itself, "admits request 0, which is not in `waiting` any more: `admit` itself takes it out"),
        (changes_while_looping, "changes a dictionary while a loop goes through it, which Python forbids"),
        (does_nothing, "request 0 waits and a slot is free, but your refill admits nobody"),
        (goes_through_the_keys, "gives its keys, here the requests' numbers; `.values()` gives the requests"),
        (admits_the_keys, "Your refill takes a number for a request"),
        (goes_through_the_pairs, "`.items()` gives pairs of a number and a request"),
        (forgets_the_parentheses, "Ask `self.can_admit()` before each one, with the parentheses"),
        (deletes_before, "admits request 0, which is not in `waiting` any more"),
        (deletes_after, "looks for a request in a dictionary where it is no more: `admit` itself takes it out"),
    ],
)
def test_a_wrong_refill_is_told_its_mistake(body: Callable[[Any], None], told: str) -> None:
    verdict = judge(exercise("10.3"), with_refill(body))
    assert not verdict.passed and not verdict.still_open
    assert told in repr(verdict)


def test_a_copy_is_advised_of_the_dictionary_that_the_phase_changes() -> None:
    assert "`list(self.waiting.values())`" in repr(judge(exercise("10.3"), with_refill(changes_while_looping)))
    wrong = with_cleanup(gives_back_without_a_copy)
    assert "`list(self.running.values())`" in repr(judge(exercise("10.4"), wrong))


# --- 10.4 cleanup -----------------------------------------------------------------------------------------------------


def reads_then_gives_back(self: Any) -> None:
    self.read_inbox()
    for request in list(self.running.values()):
        if request.is_finished:
            self.give_back(request)


def two_lists(self: Any) -> None:
    self.read_inbox()
    ended = [request for request in self.running.values() if request.ending is not None]
    for request in ended:
        self.give_back(request)


def one_by_one(self: Any) -> None:
    self.read_inbox()
    while request := next((request for request in self.running.values() if request.is_finished), None):
        self.give_back(request)


def newest_first_back(self: Any) -> None:
    self.read_inbox()
    for request in reversed(list(self.running.values())):
        if request.is_finished:
            self.give_back(request)


def before_and_after(self: Any) -> None:
    for request in list(self.running.values()):
        if request.is_finished:
            self.give_back(request)
    reads_then_gives_back(self)


@pytest.mark.parametrize("body", [reads_then_gives_back, two_lists, one_by_one, newest_first_back, before_and_after])
def test_a_right_cleanup_passes_in_any_style(body: Callable[[Any], None]) -> None:
    assert judge(exercise("10.4"), with_cleanup(body)).passed


def releases_everybody(self: Any) -> None:
    self.read_inbox()
    for request in list(self.running.values()):
        self.give_back(request)


def forgets_those_of_prefill(self: Any) -> None:
    self.read_inbox()
    for request in list(self.running.values()):
        if request.is_finished and len(request.output_ids) > 1:
            self.give_back(request)


def ignores_cancelled(self: Any) -> None:
    self.read_inbox()
    for request in list(self.running.values()):
        if request.is_finished and request.ending.reason in ("stop", "length"):
            self.give_back(request)


def gives_back_without_a_copy(self: Any) -> None:
    self.read_inbox()
    for request in self.running.values():
        if request.is_finished:
            self.give_back(request)


def gives_back_twice(self: Any) -> None:
    self.read_inbox()
    for request in list(self.running.values()):
        if request.is_finished:
            self.give_back(request)
            self.give_back(request)


def reads_last(self: Any) -> None:
    for request in list(self.running.values()):
        if request.is_finished:
            self.give_back(request)
    self.read_inbox()


def reads_nothing(self: Any) -> None:
    for request in list(self.running.values()):
        if request.is_finished:
            self.give_back(request)


def forgets_the_slot(self: Any) -> None:
    self.read_inbox()
    for number, request in list(self.running.items()):
        if request.is_finished:
            del self.running[number]


def only_one(self: Any) -> None:
    self.read_inbox()
    for request in list(self.running.values()):
        if request.is_finished:
            self.give_back(request)
            return


def only_reads(self: Any) -> None:
    self.read_inbox()


def loops_for_ever(self: Any) -> None:
    self.read_inbox()
    while any(request.is_finished for request in self.running.values()):
        pass


def loops_over_every_exception(self: Any) -> None:
    while True:
        try:
            self.read_inbox()
        except Exception:
            continue


def goes_through_the_keys_of_running(self: Any) -> None:
    self.read_inbox()
    for request in list(self.running):
        if request.is_finished:
            self.give_back(request)


def calls_is_finished(self: Any) -> None:
    self.read_inbox()
    for request in list(self.running.values()):
        if request.is_finished():
            self.give_back(request)


def takes_out_and_gives_back(self: Any) -> None:
    self.read_inbox()
    for number, request in list(self.running.items()):
        if request.is_finished:
            self.give_back(request)
            del self.running[number]


def empties_the_queue(self: Any) -> None:
    self.waiting.clear()
    reads_then_gives_back(self)


def refills_too(self: Any) -> None:
    reads_then_gives_back(self)
    for request in list(self.waiting.values()):
        if self.can_admit():
            self.admit(request)


def turns_the_queue_around(self: Any) -> None:
    reads_then_gives_back(self)
    self.waiting = dict(reversed(self.waiting.items()))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (turns_the_queue_around, "In the refill of step 1 your run goes another way than it should"),
        (releases_everybody, "Request 1 loses its slot in the cleanup of step 2, but it has not ended"),
        (forgets_those_of_prefill, "Request 0 ended with its very first token, which prefill gave it, but after"),
        (ignores_cancelled, "Request 0 was cancelled, but after the cleanup of step 4 it still owns slot 0"),
        (gives_back_without_a_copy, "changes a dictionary while a loop goes through it"),
        (gives_back_twice, "gives a slot back twice, or one that was never handed out: request 0 does not run"),
        (reads_last, "It ended while this cleanup read the inbox: do that first, and then give back"),
        (reads_nothing, "Request 0 was sent before step 1, but does not wait after your cleanup"),
        (forgets_the_slot, "Request 0 runs no more, but its slot was not freed in step 2"),
        (only_one, "Request 2 has ended in the step before, but after the cleanup of step 4 it still owns slot 2"),
        (only_reads, "Request 0 ended with its very first token"),
        (loops_for_ever, "Your code does not come to an end: look at the loop around line"),
        (loops_over_every_exception, "Your code does not come to an end: look at the loop around line"),
        (goes_through_the_keys_of_running, "gives its keys, here the requests' numbers; `.values()` gives"),
        (calls_is_finished, "`is_finished` needs no parentheses"),
        (takes_out_and_gives_back, "where it is no more: `admit` itself takes it out of `waiting`, and `give_back`"),
        (empties_the_queue, "Request 3 waited before your cleanup of step 2, and waits no more"),
        (refills_too, "Request 0 was sent before step 1, but does not wait after your cleanup"),
    ],
)
def test_a_wrong_cleanup_is_told_its_mistake(body: Callable[[Any], None], told: str) -> None:
    verdict = judge(exercise("10.4"), with_cleanup(body))
    assert not verdict.passed and not verdict.still_open
    assert told in repr(verdict)


# --- 10.7 groups, 10.9 budget -----------------------------------------------------------------------------------------


def by_position(requests: list[Request]) -> dict[int, list[Request]]:
    at: dict[int, list[Request]] = {}
    for request in requests:
        at.setdefault(request.context_len, []).append(request)
    return at


def sorted_groups(requests: list[Request]) -> Any:
    for position in sorted({request.context_len for request in requests}):
        yield tuple(request for request in requests if request.context_len == position)


@pytest.mark.parametrize("body", [lambda rows: list(by_position(rows).values()), sorted_groups])
def test_all_groups_pass_in_any_style(body: Any) -> None:
    assert judge(exercise("10.7"), with_groups(body)).passed


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (lambda rows: [max(by_position(rows).values(), key=len)], "In step 1 request 2 is in no group"),
        (lambda rows: [by_position(rows)[rows[0].context_len]], "In step 1 request 2 is in no group"),
        (lambda rows: [group for group in by_position(rows).values() if len(group) > 1], "request 2 is in no group"),
        (lambda rows: [rows], "requests at the positions 3, 5, 7 share a group"),
        (lambda rows: [[request] for request in rows], "two groups are at position 3: those requests can share"),
        (lambda rows: [*by_position(rows).values(), [rows[0]]], "request 0 is in more than one group"),
        (lambda rows: [*by_position(rows).values(), []], "one of your groups is empty"),
        (lambda rows: by_position(rows), "returns a dictionary: its values are the groups"),
        (lambda rows: max(by_position(rows).values(), key=len), "must return a list of groups"),
        (lambda rows: max(by_position(rows).values(), key=len), "['request 0', 'request 1']"),
        (lambda rows: list(by_position(rows)), "yours: [3, 5, 7]"),
        (lambda rows: None, "returns nothing: is the `return` missing?"),
        (lambda rows: None, "yours: None"),
        (lambda rows: [], "In step 1 request 0 is in no group"),
    ],
)
def test_wrong_groups_are_told_their_mistake(body: Any, told: str) -> None:
    verdict = judge(exercise("10.7"), with_groups(body))
    assert not verdict.passed and not verdict.still_open
    assert told in repr(verdict)


@pytest.mark.parametrize("tokens", [75, 80, 100])
def test_a_budget_between_the_two_promises_passes(tokens: int) -> None:
    assert judge(exercise("10.9"), tokens).passed


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        (101, "With a budget of 101 a stream waits while 101 prompt tokens are computed"),
        (600, "waits while 600 prompt tokens are computed"),
        (1024, "With a budget of 1,024 a stream waits while 600 prompt tokens"),
        (74, "has its first token only in its step 9"),
        (10, "has its first token only in its step 60"),
        (0, "computes nothing"),
        (-5, "computes nothing"),
        ("80", "a whole number"),
        (None, "a whole number"),
        ([80], "a whole number"),
        (600 / 8, "75.0 is a float, and a budget is a whole number of tokens: `//` divides to one"),
    ],
)
def test_a_budget_that_breaks_a_promise_is_told_which(tokens: Any, told: str) -> None:
    verdict = judge(exercise("10.9"), tokens)
    assert not verdict.passed
    assert told in repr(verdict)


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exercise_id", "make"), [("10.3", with_refill), ("10.4", with_cleanup), ("10.7", with_groups)]
)
def test_what_is_not_written_yet_is_still_open(exercise_id: str, make: Any) -> None:
    def later(_: Any) -> None:
        raise NotImplementedError

    assert judge(exercise(exercise_id), make(later)).still_open


def test_an_open_budget_is_still_open() -> None:
    assert judge(exercise("10.9"), ...).still_open


METHODS = {"10.3": "refill", "10.4": "cleanup", "10.7": "plan_groups"}


@pytest.mark.parametrize("exercise_id", METHODS)
def test_what_is_no_class_of_the_right_kind_is_told_how_to_begin(exercise_id: str) -> None:
    class Alone:
        pass

    for kind in (Alone, type("Alone", (InferenceScheduler,), {})):
        assert "begin with `class Alone(PlainScheduler):`" in repr(judge(exercise(exercise_id), kind))
    assert "the class itself, by its name" in repr(judge(exercise(exercise_id), lambda requests: None))


@pytest.mark.parametrize(("exercise_id", "method"), METHODS.items())
def test_a_method_that_is_missing_or_misspelled_is_named(exercise_id: str, method: str) -> None:
    misspelled = type("Mine", (PlainScheduler,), {method.replace("l", "", 1): lambda self: None})
    told = {misspelled: f"Mine has no `{method}` of its own", PlainScheduler: "This PlainScheduler is AstrAI's own"}
    for kind, words in told.items():
        verdict = judge(exercise(exercise_id), kind)
        assert not verdict.passed and not verdict.still_open
        assert words in repr(verdict)


@pytest.mark.parametrize(("exercise_id", "method"), METHODS.items())
def test_to_call_the_packages_own_is_no_solution(exercise_id: str, method: str) -> None:
    class Lazy(PlainScheduler):
        def refill(self) -> None:
            super().refill()

        def cleanup(self) -> None:
            super().cleanup()

        def plan_groups(self, requests: Any) -> Any:
            return super().plan_groups(requests)

    verdict = judge(exercise(exercise_id), Lazy)
    assert not verdict.passed
    assert f"Your {method} hands the work on to the package's (`super().{method}`)" in repr(verdict)


def test_a_cleanup_below_the_learners_own_refill_passes() -> None:
    class MyScheduler(with_refill(in_order)):  # type: ignore[misc]
        def cleanup(self) -> None:
            with self.in_phase("cleanup"):
                reads_then_gives_back(self)

    assert judge(exercise("10.3"), MyScheduler).passed
    assert judge(exercise("10.4"), MyScheduler).passed


@pytest.mark.parametrize(
    ("refill", "told"),
    [
        (in_order, "Your refill does not tell the trace that it begins: keep `with self.in_phase("),
        (lambda self: in_phases(self, "cleanup"), "Your refill tells the trace that cleanup begins"),
        (lambda self: in_phases(self, "refill", "refill"), "tells the trace 2 times that a phase begins"),
        (lambda self: (in_order(self), in_phases(self, "refill")), "does something outside of its phase"),
    ],
)
def test_a_phase_that_the_trace_is_not_told_of_is_named(refill: Any, told: str) -> None:
    verdict = judge(exercise("10.3"), type("MyRefill", (PlainScheduler,), {"refill": refill}))
    assert not verdict.passed
    assert told in repr(verdict)


def in_phases(self: Any, *names: Any) -> None:
    for name in names:
        with self.in_phase(name):
            in_order(self)


# --- what it measures and draws with ----------------------------------------------------------------------------------


def test_the_fastest_of_several_rounds_is_kept_number_by_number() -> None:
    numbers = iter([[3.0, 5.0], [4.0, 2.0]])
    assert fastest({"a": lambda: next(numbers), "b": lambda: [1.0]}, rounds=2) == {"a": [3.0, 2.0], "b": [1.0]}


def test_the_number_of_threads_is_as_before_even_if_an_action_fails() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError):
            fastest({"a": lambda: [1 / 0]})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_longest_wait_is_that_of_the_one_that_starves() -> None:
    largest = with_groups(lambda rows: [max(by_position(rows).values(), key=len)])
    cards = (card(10, 4, 5), card(20, 3, 5))
    assert longest_wait(play(largest, cards, 2)) == 4  # four decodes of request 0 come first
    assert longest_wait(play(InferenceScheduler, cards, 2)) == 1


def test_the_tokens_of_each_step_are_counted_by_prompts_and_answers() -> None:
    cards = (card(10, 3, 8), card(20, 10, 2, 3))
    picture = TokensPerStep(play(InferenceScheduler, cards, 2, prefill_budget=4))
    assert picture.counts == {1: (3, 1), 2: (0, 1), 3: (4, 1), 4: (4, 1), 5: (2, 2), 6: (0, 1), 7: (0, 1)}
    assert "steps 3 to 4: 4 of prompts, 1 of answers" in repr(picture)
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_the_names_of_short_requests_do_not_lie_over_each_other_in_the_picture() -> None:
    cards = (*(card(10 * i, 3, 2 + i % 3) for i in range(1, 12)), card(200, 3, 30))
    figure = SlotsOverTime(play(InferenceScheduler, cards, 2)).figure()
    figure.canvas.draw()
    names = [text for text in figure.axes[0].texts if text.get_text().split()[-1].isdigit()]
    assert {text.get_text() for text in names} >= {" 0", " request 11"}
    for lane in {text.get_position()[1] for text in names}:
        boxes = sorted((t.get_window_extent() for t in names if t.get_position()[1] == lane), key=lambda box: box.x0)
        assert all(left.x1 <= right.x0 + 1 for left, right in itertools.pairwise(boxes))

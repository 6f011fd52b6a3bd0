"""What a learner hands in for chapter 10: a scheduler with one phase of its own. What goes wrong in that phase is put
into words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from astrai.course.cards import Kind, Table
from astrai.course.chapters.ch10_scheduler import PlainScheduler
from astrai.course.handed_in import own_class
from astrai.course.mistakes import Mistake
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import Event, PhaseEnded, PhaseStarted

TYPICAL = (
    (
        RuntimeError,
        "during iteration",
        "Your {what} changes a dictionary while a loop goes through it, which Python forbids: go through a copy, such "
        "as `list(self.{queue}.values())`.",
    ),
    (
        RuntimeError,
        "no slot is free",
        "Your {what} goes on when all slots are taken: request {number} cannot be admitted. Ask `self.can_admit()` "
        "before each one, with the parentheses: without them it is always true.",
    ),
    (
        RuntimeError,
        "does not run",
        "Your {what} gives a slot back twice, or one that was never handed out: request {number} does not run.",
    ),
    (
        ValueError,
        "does not wait",
        "Your {what} admits request {number}, which is not in `waiting` any more: `admit` itself takes it out, so do "
        "not take it out before, and admit it once.",
    ),
    (
        AttributeError,
        "'int' object has no attribute",
        "Your {what} takes a number for a request. A loop over a dictionary gives its keys, here the requests' "
        "numbers; `.values()` gives the requests.",
    ),
    (
        AttributeError,
        "'tuple' object has no attribute",
        "Your {what} takes a pair for a request: `.items()` gives pairs of a number and a request, `.values()` the "
        "requests alone.",
    ),
    (
        TypeError,
        "'bool' object is not callable",
        "Your {what} calls something that is only `True` or `False`: `is_finished` needs no parentheses.",
    ),
    (
        KeyError,
        "",
        "Your {what} looks for a request in a dictionary where it is no more: `admit` itself takes it out of "
        "`waiting`, and `give_back` out of `running`.",
    ),
)


def with_own(method: str, kind: Any) -> Kind:
    """``kind``, with its own ``method``; where that hands the work on to the package's, it is refused.

    Raises:
        Mistake: it is no scheduler, or has no such method of its own.
    """
    own_class(kind, method, base=PlainScheduler)

    def refuse(self: Any) -> NoReturn:
        raise Mistake(f"Your {method} hands the work on to the package's (`super().{method}`): write it yourself.")

    package_method = "_plan_groups" if method == "plan_groups" else method
    # NOTE: in the order of base classes the guard stands just before the package's scheduler: super() meets it there.
    guard = type("Guard", (InferenceScheduler,), {package_method: refuse})
    return type(kind.__name__, (kind, guard), {})


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """Say what an exception means that is typical of such a phase."""
    try:
        yield
    except Exception as error:
        for kind, fragment, sentence in TYPICAL:
            if isinstance(error, kind) and fragment in str(error) and not isinstance(error, NotImplementedError):
                number = next((word for word in str(error).split() if word.isdigit()), "")
                queue = "waiting" if what == "refill" else "running"
                told = sentence.format(what=what, number=number, queue=queue)
                raise Mistake(told, rows=[("Python says", f"{type(error).__name__}: {error}")]) from error
        raise


def run_phase(table: Table, what: str) -> None:
    """Run the learner's phase ``what``, and see that the trace was told of it.

    Raises:
        Mistake: an exception, in words; or the ``with`` around the phase is not as it was.
    """
    before = len(table.log.records)
    with in_words(what):
        getattr(table.scheduler, what)()
    _look_at_phase([record.event for record in table.log.records[before:]], what)


def _look_at_phase(events: Sequence[Event], what: str) -> None:
    started = [event.phase for event in events if isinstance(event, PhaseStarted)]
    if started == [what] and isinstance(events[0], PhaseStarted) and isinstance(events[-1], PhaseEnded):
        return
    keep = f'keep `with self.in_phase("{what}"):` around all that it does'
    if not started:
        raise Mistake(f"Your {what} does not tell the trace that it begins: {keep}.")
    if len(started) > 1:
        raise Mistake(f"Your {what} tells the trace {len(started)} times that a phase begins: {keep}, once.")
    if started != [what]:
        raise Mistake(f"Your {what} tells the trace that {started[0]} begins: {keep}.")
    raise Mistake(f"Your {what} does something outside of its phase: {keep}.")

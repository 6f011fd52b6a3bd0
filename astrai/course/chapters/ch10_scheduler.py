"""The scheduler of the package with plain names for its chores, for learners who write phases of their own.

Whoever runs when is decided in the phases; what these methods do for it (slots, the prefix cache, the trace, the
clients) is the package's own work. It reaches no tensor, so it can be stepped, repeated and drawn without a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from astrai.inference.cache.slots import SlotError
from astrai.inference.request import Request
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import Phase


class PlainScheduler(InferenceScheduler):
    """``InferenceScheduler``, with a name for each thing that a phase needs to do.

    Besides what stands here there are ``waiting`` and ``running``, two dictionaries of requests by their number, in
    order of arrival and of admission, and the question ``can_admit()``: may one more run, and is a slot free for it?
    """

    def in_phase(self, name: Phase) -> AbstractContextManager[None]:
        """For a ``with`` around a phase: it tells the trace when the phase begins and ends."""
        return self._in_phase(name)

    # --- cleanup ------------------------------------------------------------------------------------------------------

    def read_inbox(self) -> None:
        """Let new requests join ``waiting``, and end those that were cancelled or whose time is up."""
        self._read_inbox()
        self._end_overdue()

    def give_back(self, request: Request) -> None:
        """Take the request out of ``running`` and free its slot.

        Raises:
            SlotError: it does not run, so it has no slot.
        """
        if request.request_id not in self.running:
            raise SlotError(f"request {request.request_id} does not run, so it has no slot to give back")
        self._release(request)

    # --- refill -------------------------------------------------------------------------------------------------------

    def must_hold(self, request: Request) -> bool:
        """Whether another request is just now computing a beginning that both share. If so, the trace is told."""
        if self._is_still_held(request):
            return True
        lead = self._find_lead(request, self.cache.match(request.prompt_ids).length)
        if lead is not None:
            self._hold(request, lead)
        return lead is not None

    def admit(self, request: Request) -> None:
        """Give the request a slot, and move it from ``waiting`` to ``running``.

        Raises:
            SlotError: no slot is free for it.
            ValueError: it does not wait.
        """
        if request.request_id not in self.waiting:
            raise ValueError(f"request {request.request_id} does not wait: admit() itself takes it out of `waiting`")
        if not self.can_admit():
            raise SlotError(f"request {request.request_id} cannot be admitted, no slot is free: ask can_admit() before")
        self._admit(request, self.cache.match(request.prompt_ids))

    # --- decode -------------------------------------------------------------------------------------------------------

    def plan_groups(self, requests: Sequence[Request]) -> Iterable[Iterable[Request]]:
        """Which of these requests are decoded in this step, in which forwards: one group is one forward."""
        return super()._plan_groups()

    def _plan_groups(self) -> list[list[Request]]:
        rows = [request for request in self.running.values() if request.is_decoding]
        return [list(group) for group in self.plan_groups(rows)] if rows else []

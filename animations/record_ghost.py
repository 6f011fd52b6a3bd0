"""The recordings behind ``TheGhostPrefix``: the same three requests on one slot, with the version check and without.

AstrAI looks for a prefix in the moment in which it hands a slot out, so none of its notes can grow old, and it compares
the version all the same. To show what that is good for, a defect is planted here, and only here: requests look when
they *arrive*, and carry a note of what they saw. ``CheckedNotes`` compares the version of a note before it believes
it; ``BelievedNotes`` does not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from astrai import GenerationRequest, InferenceEngine, SamplingParams, load
from astrai.inference.cache.prefix_cache import Placement, PrefixCacheManager
from astrai.inference.cache.radix_tree import Match
from astrai.inference.cache.slots import Handle, SlotError
from astrai.inference.request import Request
from astrai.inference.scheduler import InferenceScheduler
from astrai.trace.events import PrefixMatched, SlotReused
from astrai.trace.log import EventLog
from astrai.trace.replay import ReplayError, replay

TRACES = Path(__file__).parent / "traces"
ASKED = {
    "Ann": "Tell me a story about a fox.",
    "Ben": "Tell me a story about a frog.",
    "Cleo": "Tell me a story about a fox.",
}
LONGEST = 16  # tokens of an answer: its first sentence


class Note(NamedTuple):
    """What a request saw when it arrived: its first ``length`` tokens were in this row, at this version."""

    handle: Handle
    length: int
    prompt_ids: tuple[int, ...]


class NotesOnArrival(InferenceScheduler):
    """Planted: what a request will find is looked up when it arrives."""

    def __init__(self, *parts: Any, **settings: Any) -> None:
        super().__init__(*parts, **settings)
        self.notes: dict[int, Note] = {}

    def _arrive(self, request: Request) -> None:
        super()._arrive(request)
        match = self.cache.match(request.prompt_ids)
        if match.holders:
            slot = match.holders.bit_length() - 1
            self.notes[request.request_id] = Note(self.cache.slots.handle(slot), match.length, request.prompt_ids)

    def _admit(self, request: Request, match: Match) -> None:
        super()._admit(request, self.notes.get(request.request_id, match))  # type: ignore[arg-type]


class CheckedNotes(PrefixCacheManager):
    """Compares the version, and looks again where the note is stale."""

    refused = ""  # what the last check said

    def place(self, request_id: int, match: Match | Note) -> Placement:
        """As in the package; a note is only believed if its row was not handed out since."""
        if isinstance(match, Note):
            try:
                self.slots.check(match.handle)
            except SlotError as error:
                self.refused = str(error)
            match = self.match(match.prompt_ids)
        return super().place(request_id, match)


class BelievedNotes(PrefixCacheManager):
    """Planted: a note is believed, whatever has happened since."""

    def place(self, request_id: int, match: Match | Note) -> Placement:
        """A row that was noted is taken as it is."""
        if not isinstance(match, Note):
            return super().place(request_id, match)
        handle = self.slots.allocate(among=1 << match.handle.slot)
        found = [PrefixMatched(request_id, match.length, *match.handle)]
        reused = [SlotReused(*handle, request_id, match.length), *self.tree.cut(handle, 0)]
        tree = [*self.tree.insert(handle, match.prompt_ids[: match.length]), *self.tree.lock(handle.slot)]
        return Placement(handle, match.length, None, [*found, *reused, *tree])


def run(**parts: Any) -> tuple[InferenceEngine, dict[str, str]]:
    """Ann asks; when she has her answer, Ben and Cleo ask at once. The engine, and what each was told."""
    model, tokenizer = load("tiny", device="cpu")
    engine = InferenceEngine(model, tokenizer, num_slots=1, start=False, **parts)
    answers = {}
    for names in (("Ann",), ("Ben", "Cleo")):
        streams = [engine.submit(_request(ASKED[name])) for name in names]
        while engine.scheduler.has_work:
            engine.scheduler.step()
        answers |= {name: stream.result(0).text for name, stream in zip(names, streams, strict=True)}
    return engine, answers


def _request(text: str) -> GenerationRequest:
    sampling = SamplingParams(temperature=0, max_tokens=LONGEST)
    return GenerationRequest(messages=[{"role": "user", "content": text}], sampling=sampling)


def record() -> tuple[EventLog, EventLog, dict[str, Any]]:
    """The run with the check, the one without, and the words of both. Kept as JSON in ``traces/ghost.json``."""
    checked, right = run(scheduler=NotesOnArrival, prefix_cache=CheckedNotes)
    believed, wrong = run(scheduler=NotesOnArrival, prefix_cache=BelievedNotes)
    note = believed.scheduler.notes[2]
    try:
        replay(believed.trace)
        raise AssertionError("a replay believes the note too")
    except ReplayError as error:
        impossible = str(error)
    words = {
        "asked": ASKED,
        "checked": right,
        "believed": wrong,
        "note": {"slot": note.handle.slot, "version": note.handle.version, "length": note.length},
        "refused": checked.scheduler.cache.refused,
        "impossible": impossible,
    }
    return checked.trace, believed.trace, words


def keep() -> None:
    """Record both, and keep them."""
    checked, believed, words = record()
    checked.save(TRACES / "ghost_checked.jsonl")
    believed.save(TRACES / "ghost_believed.jsonl")
    (TRACES / "ghost.json").write_text(json.dumps(words, indent=2) + "\n")


if __name__ == "__main__":
    keep()

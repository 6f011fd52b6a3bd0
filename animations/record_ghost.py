"""The recordings behind ``TheGhostPrefix``: the same three requests on one slot, with the version check and without.

AstrAI looks for a prefix in the moment in which it hands a slot out, so none of its notes can grow old, and it compares
the version all the same. To show what that is good for, a defect is planted here: requests look when they *arrive*, and
go by a note of what they saw. It is the one that learners meet in chapter 13.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from astrai import GenerationRequest, InferenceEngine, SamplingParams, load
from astrai.course.ghost import BelievedNotes, CheckedNotes, Note, NotesOnArrival
from astrai.inference.cache.slots import SlotError
from astrai.trace.log import EventLog
from astrai.trace.replay import ReplayError, replay

TRACES = Path(__file__).parent / "traces"
ASKED = {
    "Ann": "Tell me a story about a fox.",
    "Ben": "Tell me a story about a frog.",
    "Cleo": "Tell me a story about a fox.",
}
LONGEST = 16  # tokens of an answer: its first sentence


class TellingNotes(CheckedNotes):
    """Keeps what the last check said."""

    refused = ""

    def trusts(self, note: Note) -> bool:
        """As it was; if not, the reason is kept."""
        try:
            self.slots.check(note.handle)
        except SlotError as error:
            self.refused = str(error)
        return super().trusts(note)


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
    checked, right = run(scheduler=NotesOnArrival, prefix_cache=TellingNotes)
    believed, wrong = run(scheduler=NotesOnArrival, prefix_cache=BelievedNotes)
    note = believed.scheduler.cache.notes[2]
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

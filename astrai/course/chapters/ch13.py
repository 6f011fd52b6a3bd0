"""Chapter 13, slot versions: handles that grow stale, the ghosts that come of it, and what a copy costs."""

from __future__ import annotations

from astrai.course.chapters import ch13_ghosts, ch13_versions
from astrai.course.chapters.ch13_quiz import QUIZ
from astrai.course.exercises import Chapter, Exercise

EXERCISES = (
    Exercise(
        "13.2",
        "Versions that refuse old handles",
        ch13_versions.versions,
        (
            "Play it on paper first: slot 0 is handed out twice. What is in `self.versions[0]` after each time, and "
            "what does the first handle say?",
            "`renew` adds 1 to `self.versions[slot]` and returns `Handle(slot, ...)` with the new number. `check` "
            "compares two numbers, and raises when they differ, in whichever direction.",
            '`if handle.version != self.versions[handle.slot]: raise SlotError(f"... {handle.slot} ... '
            '{handle.version} ... {self.versions[handle.slot]} ...")`',
        ),
    ),
    Exercise(
        "13.3",
        "A reader that checks its notes",
        ch13_ghosts.notes,
        (
            "Who knows whether a handle is stale? You have just written it, and it is at hand as `self.slots`.",
            "`self.slots.check(note.handle)` answers by raising `SlotError`, or by not raising. Turn that into "
            "`False` and `True`.",
            "`try: self.slots.check(note.handle)`, then `except SlotError: return False`, and below both `return "
            "True`.",
        ),
    ),
    Exercise(
        "13.5",
        "A row that changes hands properly",
        ch13_ghosts.takes_over,
        (
            "Two parties remember the row: the tree, which says what it holds, and whoever kept a handle. Both must "
            "learn that it changed hands.",
            "First get the new handle, then cut the tree with it, so that the tree knows the row at its new version.",
            "`handle = self.slots.allocate(among=1 << slot)`, then `return handle, self.tree.cut(handle, length)`.",
        ),
    ),
)

CHAPTER = Chapter(
    id="13",
    title="Slot versions: the ghost prefix",
    exercises=EXERCISES,
    predictions=("13.1", "13.4"),
    quiz=QUIZ,
)

"""What makes the notebooks a course: exercises that check themselves, predictions, quizzes, and what was done so far.

Names are imported on first use (PEP 562): importing this brings in nothing heavy. How a chapter uses them is told in
``docs/writing-a-chapter.md``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astrai.course.board import progress
    from astrai.course.checking import check, mine
    from astrai.course.hinting import hint, solution
    from astrai.course.predictions import predict, reveal
    from astrai.course.quizzes import quiz

_HOMES = {
    "check": "astrai.course.checking",
    "hint": "astrai.course.hinting",
    "mine": "astrai.course.checking",
    "predict": "astrai.course.predictions",
    "progress": "astrai.course.board",
    "quiz": "astrai.course.quizzes",
    "reveal": "astrai.course.predictions",
    "solution": "astrai.course.hinting",
}
__all__ = ["check", "hint", "mine", "predict", "progress", "quiz", "reveal", "solution"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'astrai.course' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

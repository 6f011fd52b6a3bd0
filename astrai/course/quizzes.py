"""Questions at the end of a chapter: every option is explained, the right one and the wrong ones."""

from __future__ import annotations

from typing import Any

from astrai.course import catalogue, notes
from astrai.course.exercises import Chapter, Option
from astrai.course.shown import NOT_YET, PASSED, CourseError, Shown, box, inline

LETTERS = "abcdefgh"


class Quiz:
    """The questions of a chapter. Its text asks and tells no answer; its HTML opens the explanation of each option."""

    def __init__(self, chapter: Chapter) -> None:
        self.chapter = chapter

    def answer(self, question: int, letter: str) -> Shown:
        """Answer a question (they count from 1) by the letter of an option. The first answer to each is remembered.

        Raises:
            CourseError: there is no such question or option.
        """
        if question not in range(1, len(self.chapter.quiz) + 1):
            raise CourseError(f"there is no question {question!r}; there are 1 to {len(self.chapter.quiz)}")
        options = self.chapter.quiz[question - 1].options
        if len(str(letter)) != 1 or str(letter).lower() not in LETTERS[: len(options)]:
            raise CourseError(f"there is no option {letter!r}; there are {', '.join(LETTERS[: len(options)])}")
        option = options[LETTERS.index(str(letter).lower())]
        with notes.change() as kept:
            kept.quiz.setdefault(self.chapter.id, {}).setdefault(str(question), option.right)
        return Shown(verdict(option), (option.why,), role=PASSED if option.right else NOT_YET)

    def __repr__(self) -> str:
        lines = [f"Quiz of chapter {self.chapter.id}, {self.chapter.title}"]
        for number, question in enumerate(self.chapter.quiz, 1):
            options = (f"   {letter}) {option.text}" for letter, option in zip(LETTERS, question.options, strict=False))
            lines += ["", f"{number}. {question.text}", *options]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        questions = "".join(
            f"<li><p>{inline(question.text)}</p>{''.join(map(_folded, LETTERS, question.options))}</li>"
            for question in self.chapter.quiz
        )
        return box(f"<strong>Quiz.</strong> Decide, then open what you chose.<ol>{questions}</ol>")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        from astrai.course.live import quiz_widget, with_widget

        return with_widget({"text/plain": repr(self), "text/html": self._repr_html_()}, lambda: quiz_widget(self))


def quiz(chapter_id: str) -> Quiz:
    """The questions of a chapter.

    Raises:
        CourseError: there is no such chapter.

    Example:
        >>> quiz("08")  # doctest: +SKIP
        >>> quiz("08").answer(1, "b")  # where there are no buttons  # doctest: +SKIP
    """
    return Quiz(catalogue.chapter(chapter_id))


def verdict(option: Option) -> str:
    """The mark and the word for a chosen option."""
    return "✓ Right." if option.right else "✗ Not this one."


def _folded(letter: str, option: Option) -> str:
    words = f"{verdict(option)} {inline(option.why)}"
    return f"<details><summary>{letter}) {inline(option.text)}</summary><p>{words}</p></details>"

"""Predictions: the learner commits an answer, and later sees it beside what happened. Nothing ever waits for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from astrai.course import catalogue, notes
from astrai.course.notes import Answer
from astrai.course.shown import NOT_YET, OPEN, PASSED, CourseError, Shown, box, inline


class Prediction:
    """A question and what was answered. A notebook shows it with buttons, other places as text."""

    def __init__(self, prediction_id: str, question: str, options: Sequence[str], unit: str) -> None:
        self.id, self.question, self.options, self.unit = prediction_id, question, tuple(options), unit

    @property
    def committed(self) -> Answer | None:
        """What was answered, ``None`` if nothing was."""
        return notes.read().prediction(self.id).answer

    def commit(self, answer: Any) -> str:
        """Keep an answer: an option or its number, or a number where there are no options. Returns what to say.

        Once the outcome was shown beside an answer, the answer stays.

        Raises:
            CourseError: it is none of the options, or not a number.
        """
        given = self._understood(answer)
        with notes.change() as kept:
            note = kept.prediction(self.id)
            if note.answer is not None and note.actual is not None and note.answer != given:
                return f"You have seen what happened, so your answer stays: {self.worded(note.answer)}"
            note.answer = given
        return f"Your answer is kept: {self.worded(given)}"

    def worded(self, answer: Answer) -> str:
        """An answer with its unit."""
        return f"{answer} {self.unit}".strip()

    def _understood(self, answer: Any) -> Answer:
        if not self.options:
            return _number(answer)
        by_name = {option.strip().lower(): option for option in self.options}
        by_number = {str(number): option for number, option in enumerate(self.options, 1)}
        found = (by_number | by_name).get(str(answer).strip().lower())
        if found is None:
            raise CourseError(f"{answer!r} is none of the answers; there are {', '.join(map(repr, self.options))}")
        return found

    def shown(self) -> Shown:
        """The question, and the answer if there is one."""
        if self.options:
            lines = [f"{number}) {option}" for number, option in enumerate(self.options, 1)]
        else:
            lines = [f"(a number{' of ' * bool(self.unit)}{self.unit})"]
        answer = self.committed
        said = "No answer yet." if answer is None else f"Your answer is kept: {self.worded(answer)}"
        return Shown(f"{self.id} Predict: {self.question}", (*lines, said), role=OPEN)

    def __repr__(self) -> str:
        return repr(self.shown())

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        from astrai.course.live import prediction_widget, with_widget

        shown = {"text/plain": repr(self), "text/html": self.shown()._repr_html_()}
        return with_widget(shown, lambda: prediction_widget(self))


def predict(
    prediction_id: str, question: str, options: Sequence[str] = (), *, unit: str = "", answer: Any = None
) -> Prediction:
    """Ask for a prediction: one of the ``options``, or a number (of ``unit``) where there are none.

    ``answer`` commits one at once, for where there are no buttons.

    Raises:
        CourseError: there is no prediction of this id, or ``answer`` is none of the options.

    Example:
        >>> predict("08.1", "How many rows stay free?", unit="rows", answer=5)  # doctest: +SKIP
        08.1 Predict: How many rows stay free?
            (a number of rows)
            Your answer is kept: 5 rows
    """
    catalogue.expect_prediction(prediction_id)
    prediction = Prediction(prediction_id, question, options, unit)
    if answer is not None:
        prediction.commit(answer)
    return prediction


def reveal(prediction_id: str, actual: Any) -> Shown:
    """Show what happened beside what was predicted; folded away, for who has not decided yet.

    Raises:
        CourseError: there is no prediction of this id.
    """
    catalogue.expect_prediction(prediction_id)
    happened = _plain(actual)
    with notes.change() as kept:
        note = kept.prediction(prediction_id)
        note.actual = happened if note.answer is not None else None
    title = f"{prediction_id} What happened: {happened}"
    if note.answer is None:
        return _Folded(title, ("You made no prediction this time. The next one is as good a chance.",), role=OPEN)
    right = note.answer == happened
    said = "✓ As you predicted." if right else f"✗ You predicted {note.answer}{_by_how_much(note.answer, happened)}."
    return Shown(title, (said,), role=PASSED if right else NOT_YET)


class _Folded(Shown):
    """An outcome that must be opened to be seen."""

    def _repr_html_(self) -> str:
        number = self.title.split()[0]
        summary = f"{number} You made no prediction. Decide now, then open what happened."
        return box(f"<details><summary>{summary}</summary><strong>{inline(self.title)}</strong></details>", self.role)


def _by_how_much(answer: Answer, happened: Answer) -> str:
    if isinstance(answer, str) or isinstance(happened, str):
        return ""
    return f": {abs(answer - happened):g} too {'many' if answer > happened else 'few'}"


def _number(answer: Any) -> int | float:
    try:
        value = float(str(answer).replace(",", ""))  # 204,800 as well as 204800
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise CourseError(f"{answer!r} is not a number: write one such as 12 or 0.5")
    return int(value) if value.is_integer() else value


def _plain(actual: Any) -> Answer:
    value = actual.item() if hasattr(actual, "item") else actual
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else str(value)

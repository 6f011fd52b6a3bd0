"""The buttons of predictions and quizzes, where a notebook has them. All of them work with the keyboard alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from astrai.course.shown import CourseError, Shown, inline

if TYPE_CHECKING:
    from ipywidgets import Widget

    from astrai.course.predictions import Prediction
    from astrai.course.quizzes import Quiz

WIDE = {"width": "auto"}
NARROW = {"width": "3em", "flex": "0 0 auto"}


def with_widget(shown: dict[str, Any], make: Callable[[], Widget]) -> dict[str, Any]:
    """What is shown, with a widget in front where a kernel and ipywidgets are there."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if not hasattr(shell, "kernel") or find_spec("ipywidgets") is None:
        return shown
    return {**(make()._repr_mimebundle_() or {}), **shown}


def prediction_widget(prediction: Prediction) -> Widget:
    """The question with its options or a field for a number, and a button that commits the answer."""
    from ipywidgets import HTML, Button, RadioButtons, Text, VBox

    question = HTML(Shown(f"{prediction.id} Predict: {prediction.question}")._repr_html_())
    if prediction.options:
        field = RadioButtons(options=prediction.options, value=None, layout=WIDE)
    else:
        field = Text(placeholder=f"a number{' of ' * bool(prediction.unit)}{prediction.unit}", continuous_update=False)
    button = Button(description="Keep my answer", layout={"width": "max-content"})
    answer = prediction.committed
    said = HTML(_status(f"Your answer is kept: {prediction.worded(answer)}" if answer is not None else ""))

    def commit(_: Button) -> None:
        try:
            words = prediction.commit(field.value) if field.value else "Choose an answer first."
        except CourseError as error:
            words = str(error)
        said.value = _status(words)

    button.on_click(commit)
    return VBox([question, field, button, said])


def quiz_widget(quiz: Quiz) -> Widget:
    """Each question with a button for each option, and below it what the last chosen one is worth, and why."""
    from ipywidgets import HTML, Button, HBox, VBox

    from astrai.course.quizzes import LETTERS

    rows: list[Widget] = []
    for number, question in enumerate(quiz.chapter.quiz, 1):
        said = HTML("")
        rows.append(HTML(Shown(f"{number}. {question.text}")._repr_html_()))
        for letter, option in zip(LETTERS, question.options, strict=False):
            button = Button(description=letter, tooltip=f"answer {number} {letter}", layout=NARROW)
            button.on_click(partial(_answer, quiz, number, letter, said))
            rows.append(HBox([button, HTML(inline(option.text))]))  # a button cuts long text off, HTML breaks it
        rows.append(said)
    return VBox(rows)


def _answer(quiz: Quiz, number: int, letter: str, said: Any, _: Any) -> None:
    shown = quiz.answer(number, letter)
    said.value = Shown(f"{letter}) {shown.title}", shown.lines, role=shown.role)._repr_html_()


def _status(words: str) -> str:
    return Shown(words)._repr_html_() if words else '<div role="status"></div>'

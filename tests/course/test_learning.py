"""Hints, solutions, predictions and quizzes: what is shown when, and what is remembered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from astrai.course import check, hint, notes, predict, quiz, reveal, solution
from astrai.course.exercises import Chapter
from astrai.course.live import prediction_widget, quiz_widget
from astrai.course.shown import CourseError


def test_hints_come_one_after_the_other_also_in_another_kernel(chapter: Chapter) -> None:
    assert repr(hint("99.2")) == "99.2, hint 1 of 3\n    Look at `-mask`."
    kept = notes.read()
    assert kept.exercises["99.2"].hints == 1
    assert "hint 2 of 3" in repr(hint("99.2")) and "hint 1 of 3" in repr(hint("99.3"))
    assert "<code>mask &amp; -mask</code>" not in repr(hint("99.2"))
    for _ in range(2):
        assert repr(hint("99.2")).splitlines()[0] == "99.2, all 3 hints"


def test_the_solution_is_shown_after_a_try_and_not_before(chapter: Chapter) -> None:
    for _ in range(2):
        assert "mask & -mask" not in repr(solution("99.2")) + solution("99.2")._repr_html_()
    check("99.2", ...)  # an open exercise is no try
    assert "after your first try" in repr(solution("99.2"))
    check("99.2", lambda mask: 0)
    assert "    return (mask & -mask).bit_length() - 1" in repr(solution("99.2"))
    assert "<pre" in solution("99.2")._repr_html_() and "STUB" not in repr(solution("99.2"))
    assert notes.read().exercises["99.2"].solution


def test_a_solution_that_was_not_built_is_said_so(chapter: Chapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    with pytest.raises(CourseError, match="make notebooks"):
        solution("99.2")


def test_a_prediction_is_kept_and_shown_beside_what_happened(chapter: Chapter) -> None:
    asked = predict("99.1", "How many?", unit="rows")
    assert "How many?" in repr(asked) and "(a number of rows)" in repr(asked) and "No answer yet." in repr(asked)
    predict("99.1", "How many?", unit="rows", answer="3")
    assert "Your answer is kept: 3 rows" in repr(asked)
    assert repr(reveal("99.1", np.int64(2))) == "99.1 What happened: 2\n    ✗ You predicted 3: 1 too many."
    assert "✓ As you predicted." in repr(reveal("99.1", 3))


def test_an_answer_stays_once_the_outcome_was_seen(chapter: Chapter) -> None:
    predict("99.1", "How many?", answer=1)
    predict("99.1", "How many?", answer=3)
    reveal("99.1", 2)
    assert "your answer stays: 3" in predict("99.1", "How many?").commit(2)
    assert "✗ You predicted 3" in repr(reveal("99.1", 2))


def test_without_a_prediction_the_outcome_is_shown_politely_and_nothing_is_locked(chapter: Chapter) -> None:
    shown = reveal("99.1", 2)
    assert "You made no prediction this time." in repr(shown)
    hidden = ElementTree.fromstring(shown._repr_html_()).find("details")
    assert hidden is not None and "open" not in hidden.attrib, "who has not decided yet must not see it by accident"
    assert "".join(hidden.itertext()).endswith("99.1 What happened: 2")
    assert "kept" in predict("99.1", "How many?").commit(2)


def test_an_option_is_chosen_by_its_text_or_its_number(chapter: Chapter) -> None:
    for answer in ("Slot 1", " slot 1 ", 2, "2"):
        assert predict("99.1", "Which?", ["slot 0", "slot 1"], answer=answer).committed == "slot 1"
    assert "✓ As you predicted." in repr(reveal("99.1", "slot 1"))
    assert "✗ You predicted slot 1." in repr(reveal("99.1", "slot 0"))


@pytest.mark.parametrize(("options", "answer"), [(("a", "b"), "c"), (("a", "b"), 3), ((), "many"), ((), "nan")])
def test_an_answer_that_is_none_is_refused(chapter: Chapter, options: tuple[str, ...], answer: object) -> None:
    with pytest.raises(CourseError, match=r"none of the answers|not a number"):
        predict("99.1", "Which?", options, answer=answer)
    assert notes.read().prediction("99.1").answer is None


@pytest.mark.parametrize(
    "call", [lambda: predict("99.2", "?"), lambda: reveal("1", 1), lambda: quiz("98"), lambda: hint("9")]
)
def test_ids_that_are_not_there_are_answered_with_those_that_are(chapter: Chapter, call: object) -> None:
    with pytest.raises(CourseError, match=r"there are .*99"):
        call()


def test_a_prediction_is_committed_with_a_button(chapter: Chapter) -> None:
    asked = predict("99.1", "Which?", ["slot 0", "slot 1"])
    _, field, button, said = prediction_widget(asked).children
    button.click()
    assert asked.committed is None and "Choose an answer first." in said.value
    field.value = "slot 1"
    assert asked.committed is None, "only the button commits"
    button.click()
    assert asked.committed == "slot 1" and "kept: slot 1" in said.value and 'role="status"' in said.value


def test_a_number_in_words_is_refused_beside_the_button(chapter: Chapter) -> None:
    _, field, button, said = prediction_widget(predict("99.1", "How many?")).children
    field.value = "some"
    button.click()
    assert "is not a number" in said.value
    assert "Your answer is kept: 4" in repr(predict("99.1", "How many?", answer=4))
    assert "kept: 4" in prediction_widget(predict("99.1", "How many?")).children[3].value


def test_the_text_of_a_quiz_asks_and_tells_no_answer(chapter: Chapter) -> None:
    text = repr(quiz("99"))
    assert "1. What is <1>?" in text and "   b) answer 1 of `1`" in text
    assert "because" not in text and "ight" not in text.replace("The lowest bit", "")


def test_the_html_of_a_quiz_explains_every_option_behind_a_fold(chapter: Chapter) -> None:
    shown = quiz("99")._repr_html_()
    assert shown.count("<details><summary>") == 18 and "<details open" not in shown
    assert shown.count("✓ Right.") == 6 and shown.count("✗ Not this one.") == 12
    assert "What is &lt;1&gt;?" in shown
    for closed in re.sub(r"<details>.*?</details>", "", shown), repr(quiz("99")):
        assert "because" not in closed


def test_a_quiz_is_answered_by_letter_and_the_first_answer_counts(chapter: Chapter) -> None:
    assert repr(quiz("99").answer(1, "B")) == "✗ Not this one.\n    because 11"
    assert repr(quiz("99").answer(1, "a")).startswith("✓ Right.")
    assert notes.read().quiz == {"99": {"1": False}}
    for question, letter in ((0, "a"), (7, "a"), (1, "d"), (1, "")):
        with pytest.raises(CourseError, match="there are"):
            quiz("99").answer(question, letter)


def test_the_buttons_of_a_quiz_explain_what_was_chosen(chapter: Chapter) -> None:
    _, first, second, _, said, *_ = quiz_widget(quiz("99")).children
    assert second.children[1].value == "answer 1 of <code>1</code>"
    second.children[0].click()
    assert "b) ✗ Not this one." in said.value and "because 11" in said.value
    first.children[0].click()
    assert "a) ✓ Right." in said.value


def test_outside_of_a_notebook_there_is_no_widget(chapter: Chapter) -> None:
    for shown in (quiz("99"), predict("99.1", "How many?")):
        assert set(shown._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_a_number_may_be_written_with_commas(chapter: Chapter) -> None:
    assert predict("99.1", "How many?", answer="204,800").committed == 204_800


@pytest.mark.parametrize(("number", "letter"), [("1", "b"), (1, 2), (0, "a"), (1, "z"), (None, None)])
def test_a_quiz_names_what_can_be_answered(chapter: Chapter, number: Any, letter: Any) -> None:
    with pytest.raises(CourseError, match=r"there is no (question|option) .*; there are"):
        quiz("99").answer(number, letter)

"""Tells what the learner has done: chapters as rows, exercises and predictions as marks, drawn and in words."""

from __future__ import annotations

import html

from astrai.course import board_svg, catalogue, notes
from astrai.course.board_svg import BEGUN, DONE, OPEN, Mark, Row
from astrai.course.exercises import Chapter
from astrai.course.notes import Notes


class Board:
    """All chapters that have exercises, and what was done in each: a picture, and a table with the same in words."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def svg(self) -> str:
        """The picture alone.

        Raises:
            ValueError: there are no chapters to draw.
        """
        if not self.rows:
            raise ValueError(repr(self))
        return board_svg.svg(self.rows)

    def __repr__(self) -> str:
        if not self.rows:
            return "No chapter has exercises yet."
        lines = []
        for row in self.rows:
            lines += [f"{row.id} {row.title}", *(f"   {mark.sign} {mark.name}: {mark.words}" for mark in row.marks)]
        return "\n".join([*lines, f"(kept in {notes.FILE}, on this machine only)"])

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<p>{self!r}</p>"
        left = 'style="text-align:left;vertical-align:top;padding:.2em 1em .2em 0"'
        lines = "".join(
            f'<tr><th scope="row" {left}>{row.id} {html.escape(row.title)}</th>'
            f"<td {left}>{'<br>'.join(map(_in_html, row.marks))}</td></tr>"
            for row in self.rows
        )
        head = f'<tr><th scope="col" {left}>chapter</th><th scope="col" {left}>what you did</th></tr>'
        table = f"<table><caption>Your progress</caption><thead>{head}</thead><tbody>{lines}</tbody></table>"
        # NOTE: a notebook that is not trusted loses the picture; the table stays.
        return f"{self.svg()}<details><summary>The same in words</summary>{table}</details>"


def progress() -> Board:
    """What you have done so far, from a small file in this folder. Nothing of it leaves this machine."""
    kept = notes.read()
    return Board([_row(catalogue.chapter(number), kept) for number in catalogue.chapter_ids()])


def _row(chapter: Chapter, kept: Notes) -> Row:
    marks = {one.id: _exercise(one.id, kept) for one in chapter.exercises}
    marks |= {number: _prediction(number, kept) for number in chapter.predictions}
    in_order = [marks[number] for number in sorted(marks, key=lambda number: int(number.split(".")[1]))]
    if chapter.quiz:
        in_order.append(_quiz(chapter, kept))
    return Row(chapter.id, chapter.title, tuple(in_order))


def _exercise(exercise_id: str, kept: Notes) -> Mark:
    note = kept.exercise(exercise_id)
    if note.passed:
        return Mark(exercise_id, DONE, "passed")
    if note.tries:
        return Mark(exercise_id, BEGUN, f"{note.tries} tr{'y' if note.tries == 1 else 'ies'}, not yet passed")
    return Mark(exercise_id, OPEN, "open")


def _prediction(prediction_id: str, kept: Notes) -> Mark:
    if kept.prediction(prediction_id).answer is None:
        return Mark(prediction_id, OPEN, "open", is_prediction=True)
    return Mark(prediction_id, DONE, "predicted", is_prediction=True)


def _quiz(chapter: Chapter, kept: Notes) -> Mark:
    answers = kept.quiz.get(chapter.id, {})
    sign = DONE if len(answers) == len(chapter.quiz) else BEGUN if answers else OPEN
    return Mark(
        "quiz", sign, f"{len(answers)} of {len(chapter.quiz)} answered, {sum(answers.values())} at the first go"
    )


def _in_html(mark: Mark) -> str:
    return f'<span aria-hidden="true">{mark.sign}</span> {mark.name}: {html.escape(mark.words)}'

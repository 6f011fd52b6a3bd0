"""Draws what the learner has done: chapters as rows, exercises and predictions as marks with words."""

from __future__ import annotations

import html
from typing import NamedTuple

from astrai.course import catalogue, notes
from astrai.course.exercises import Chapter
from astrai.course.notes import Notes


class Mark(NamedTuple):
    """One exercise, prediction or quiz: its name, a sign, and the same in words."""

    name: str
    sign: str
    words: str


class Row(NamedTuple):
    """One chapter."""

    id: str
    title: str
    marks: tuple[Mark, ...]


class Board:
    """All chapters that have exercises, and what was done in each."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

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
        return f"<table><caption>Your progress</caption><thead>{head}</thead><tbody>{lines}</tbody></table>"


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
        return Mark(exercise_id, "✓", "passed")
    if note.tries:
        return Mark(exercise_id, "◐", f"{note.tries} tr{'y' if note.tries == 1 else 'ies'}, not yet passed")
    return Mark(exercise_id, "○", "open")


def _prediction(prediction_id: str, kept: Notes) -> Mark:
    if kept.prediction(prediction_id).answer is None:
        return Mark(prediction_id, "○", "open")
    return Mark(prediction_id, "✓", "predicted")


def _quiz(chapter: Chapter, kept: Notes) -> Mark:
    answers = kept.quiz.get(chapter.id, {})
    sign = "✓" if len(answers) == len(chapter.quiz) else "◐" if answers else "○"
    return Mark(
        "quiz", sign, f"{len(answers)} of {len(chapter.quiz)} answered, {sum(answers.values())} at the first go"
    )


def _in_html(mark: Mark) -> str:
    return f'<span aria-hidden="true">{mark.sign}</span> {mark.name}: {html.escape(mark.words)}'

"""Progress is drawn in words, survives damage, and never stops an exercise."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from astrai.course import check, hint, notes, predict, progress, quiz
from astrai.course.board import Board
from astrai.course.board_svg import DONE, Mark, Row
from astrai.course.exercises import Chapter

SVG = "{http://www.w3.org/2000/svg}"


def test_progress_shows_every_exercise_in_order_in_words_and_html(chapter: Chapter) -> None:
    check("99.2", len)
    check("99.3", 64)
    predict("99.1", "How many?", answer=1)
    quiz("99").answer(1, "a")
    lines = repr(progress()).splitlines()
    assert lines[lines.index("99 The lowest bit") :] == [
        "99 The lowest bit",
        "   ✓ 99.1: predicted",
        "   ◐ 99.2: 1 try, not yet passed",
        "   ✓ 99.3: passed",
        "   ◐ quiz: 1 of 6 answered, 1 at the first go",
        "(kept in .astrai-progress.json, on this machine only)",
    ]
    shown = progress()._repr_html_()
    assert '<th scope="row"' in shown and "<caption>" in shown and "99.3: passed" in shown
    assert shown.startswith(progress().svg()), "the picture first, and the table with the same in words below it"


def test_progress_is_drawn_with_a_sign_a_shape_and_words_for_each_mark(chapter: Chapter) -> None:
    check("99.2", len)
    check("99.3", 64)
    predict("99.1", "How many?", answer=1)
    root = ElementTree.fromstring(progress().svg())
    drawn = [g for g in root.iter(f"{SVG}g") if g.find(f"{SVG}title").text.startswith(("99.", "quiz: 0 of 6"))]
    marks = [[g.find(f"{SVG}{name}") for name in ("title", "text", "rect")] for g in drawn][-4:]
    assert [(title.text, text.text) for title, text, _ in marks] == [
        ("99.1: predicted", "✓ 1"),
        ("99.2: 1 try, not yet passed", "◐ 2"),
        ("99.3: passed", "✓ 3"),
        ("quiz: 0 of 6 answered, 0 at the first go", "○ quiz"),
    ]
    shapes = [rect.get("rx") for _, _, rect in marks]
    assert shapes[0] != shapes[1] == shapes[2], "a prediction has another shape"
    assert len({rect.get("fill") for _, _, rect in marks}) == 3
    assert root.get("role") == "img" and "2 of" in root.get("aria-label")


def test_nothing_in_the_picture_lies_outside_of_it_or_upon_another(chapter: Chapter) -> None:
    marks = tuple(Mark(f"99.{number}", DONE, "passed") for number in range(1, 13))
    rows = [Row("99", "Wide & long " * 4, (*marks, Mark("quiz", DONE, "x"))), Row("98", "Short", marks[:1])]
    root = ElementTree.fromstring(Board(rows).svg())
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = [[float(box.get(name)) for name in ("x", "y", "width", "height")] for box in root.iter(f"{SVG}rect")][1:]
    for number, (x, y, w, h) in enumerate(boxes):
        assert min(x, y) >= 0 and x + w <= width and y + h <= height
        for left, top, wide, _ in boxes[:number]:
            assert top != y or left + wide <= x, "marks lie beside each other"


def test_a_course_without_exercises_has_nothing_to_draw() -> None:
    assert "No chapter has exercises yet" in Board([])._repr_html_()
    with pytest.raises(ValueError, match="No chapter"):
        Board([]).svg()


def test_looking_at_progress_writes_nothing(chapter: Chapter, folder: Path) -> None:
    progress()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"schema": 99}',
        b'{"schema": 1}',
        b'{"schema": 1, "exercises": {"99.2": {"tries": "many"}}, "predictions": {}, "quiz": {}}',
        b'{"schema": 1, "exercises": {}, "predictions": {"99.1": {"answer": []}}, "quiz": {}}',
        b'{"schema": 1, "exercises": {}, "predictions": {}, "quiz": {"99": 3}}',
    ],
)
def test_a_damaged_file_is_kept_aside_and_progress_starts_anew(
    chapter: Chapter, folder: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        (folder / notes.FILE).write_bytes(damage)
        assert check("99.3", 64)
        aside = f".astrai-progress.damaged-{number}.json"
        assert f"could not be read. It is kept as {aside}" in capsys.readouterr().out
        assert (folder / aside).read_bytes() == damage
        assert notes.read().exercises["99.3"].passed


def test_what_other_notebooks_noted_is_not_lost(chapter: Chapter, folder: Path) -> None:
    check("99.3", 64)
    before = json.loads((folder / notes.FILE).read_text())
    hint("99.2")
    after = json.loads((folder / notes.FILE).read_text())
    assert before["exercises"]["99.3"] == after["exercises"]["99.3"] and set(after["exercises"]) == {"99.2", "99.3"}


def test_a_write_that_breaks_off_leaves_the_old_file(
    chapter: Chapter, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check("99.3", 64)
    before = (folder / notes.FILE).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notes.os, "fsync", full)
    assert not check("99.3", 1), "the check itself works without the file"
    assert "could not be kept in .astrai-progress.json: No space left on device" in capsys.readouterr().out
    assert (folder / notes.FILE).read_bytes() == before
    assert [path.name for path in folder.iterdir()] == [notes.FILE]


def test_a_file_that_may_not_be_read_is_left_as_it_is(
    chapter: Chapter, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / notes.FILE).mkdir()  # reading it is an OSError, also for root
    assert check("99.3", 64)
    assert "could not be kept" in capsys.readouterr().out
    assert (folder / notes.FILE).is_dir()

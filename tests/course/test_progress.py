"""Progress is drawn in words, survives damage, and never stops an exercise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from astrai.course import check, hint, notes, predict, progress, quiz
from astrai.course.exercises import Chapter


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

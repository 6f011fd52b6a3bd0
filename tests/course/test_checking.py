"""Checks: a right answer passes, a wrong one is told its first mistake, and nothing ends in a traceback."""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from astrai.course import notes
from astrai.course.checking import check, judge, mine
from astrai.course.exercises import Chapter, Exercise
from astrai.course.mistakes import Mistake, same
from astrai.course.shown import CourseError

HINTS = ("a", "b", "c")


def learner(code: str, name: str) -> Any:
    """What a cell of a notebook defines: its module is __main__, its lines are known to linecache."""
    file = f"a cell of a notebook, {hash(code)}"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, file, "exec"), names)
    return names[name]


def right(mask: int) -> int:
    if not mask:
        raise ValueError("none is free")
    return (mask & -mask).bit_length() - 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda mask: mask.bit_length() - 1, "lowest_free(0b11) is 1 and should be 0"),
        (lambda mask: mask & -mask, "lowest_free(0b1) is 1 and should be 0"),
        (lambda mask: right(mask) if mask else -1, "lowest_free(0) must raise a ValueError, and raises none"),
        (lambda mask: None, "lowest_free(0b1) is None and should be 0"),
        (lambda mask: str(right(mask)), "lowest_free(0b1) is '0' and should be 0"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(chapter: Chapter, wrong: Callable[[int], Any], words: str) -> None:
    verdict = check("99.2", wrong)
    assert not verdict and not verdict.passed and not verdict.still_open
    assert words in repr(verdict)


def test_a_right_answer_passes(chapter: Chapter) -> None:
    assert repr(check("99.2", right)) == "✓ 99.2 The lowest free row: passed"


def test_expected_and_actual_stand_below_the_sentence(chapter: Chapter) -> None:
    assert repr(check("99.3", 63)).splitlines() == [
        "✗ 99.3 Count the rows: not yet",
        "    The number of rows is 63 and should be 64.",
        '    If you are stuck: `hint("99.3")`',
        "    expected: 64",
        "    yours:    63",
    ]


def test_a_verdict_in_html_says_its_state_in_words_and_is_announced(chapter: Chapter) -> None:
    shown = check("99.3", "<b>&")._repr_html_()
    assert 'role="status"' in shown and "✗ 99.3 Count the rows: not yet" in shown
    assert "&lt;b&gt;&amp;" in shown and "<b>" not in shown
    plain = shown.replace("background:none;color:inherit", "")
    assert "background" not in plain and ";color:" not in plain, "text must keep the theme's own colours"


def test_an_exception_is_shown_as_a_line_and_a_sentence() -> None:
    code = "def take(rows):\n    first = rows[0]\n    return rows[7]\n"
    verdict = judge(Exercise("08.2", "Take", lambda take: take([1]), HINTS), learner(code, "take"))
    assert repr(verdict).splitlines() == [
        "✗ 08.2 Take: not yet",
        "    Your code stopped in line 3: it reached outside of a list or a tensor.",
        '    If you are stuck: `hint("08.2")`',
        "    line 3:      return rows[7]",
        "    Python says: IndexError: list index out of range",
    ]


def test_an_exception_in_a_library_is_traced_to_the_learners_line() -> None:
    code = "import json\nclass Mine:\n    def load(self):\n        return json.loads('{')\n"
    verdict = judge(Exercise("08.2", "Load", lambda cls: cls().load(), HINTS), learner(code, "Mine"))
    assert "stopped in line 4: something was given a value that it cannot take" in repr(verdict)


def test_a_stub_is_still_open_and_an_own_not_implemented_error_elsewhere_is_a_mistake() -> None:
    exercise = Exercise("08.2", "Write it", lambda function: function(), HINTS)
    stub = judge(exercise, learner("def f():\n    raise NotImplementedError  # which row?\n", "f"))
    assert stub.still_open and not stub
    assert "Line 2 still waits for your code." in repr(stub)
    library = learner("import numbers, decimal\ndef f():\n    return g()\ndef g(): raise_it()\n", "f")
    library.__globals__["raise_it"] = _not_implemented
    assert judge(exercise, library).role == "evicted"


def _not_implemented() -> None:
    raise NotImplementedError("for Half")


def test_an_ellipsis_is_still_open(chapter: Chapter) -> None:
    assert check("99.3", ...).still_open


def test_what_cannot_even_be_called_is_no_traceback(chapter: Chapter) -> None:
    for thing in (3, lambda: 1, None):
        verdict = check("99.2", thing)
        assert "It cannot be used in the way" in repr(verdict) or "stopped in line" in repr(verdict)
        assert "TypeError" in repr(verdict)


def test_a_check_that_returns_a_bool_is_refused_as_it_would_pass_a_wrong_solution() -> None:
    with pytest.raises(AssertionError, match="must raise Mistake or return nothing"):
        judge(Exercise("08.2", "Write it", lambda thing: False, HINTS), 1)


def test_an_id_that_is_not_there_is_answered_with_those_that_are(chapter: Chapter) -> None:
    with pytest.raises(CourseError, match=r"no exercise '99.7'; there are 99.2, 99.3"):
        check("99.7", 1)
    with pytest.raises(CourseError, match=r"there are .*99.2, 99.3"):
        check("nonsense", 1)


def test_in_a_notebook_such_an_answer_is_one_line() -> None:
    assert CourseError("there is no such thing")._render_traceback_() == ["there is no such thing"]


def test_what_passes_is_used_and_what_does_not_is_replaced_and_said_so(
    chapter: Chapter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine("99.2", right, max) is right
    assert mine("99.2", min, max) is max
    assert capsys.readouterr().out.splitlines() == [
        "99.2: from here on your right is used.",
        "99.2: not yet, so AstrAI's own max is used from here on.",
    ]


def test_a_check_is_remembered(chapter: Chapter, folder: Path) -> None:
    check("99.3", ...)
    assert notes.read().exercises["99.3"].tries == 0
    check("99.3", 1)
    check("99.3", 64)
    check("99.3", 65)
    note = notes.read().exercises["99.3"]
    assert (note.tries, note.passed) == (3, True)


def test_further_rows_of_a_mistake_are_shown() -> None:
    def refuse(thing: Any) -> None:
        raise Mistake("It parts.", rows=[("row 3, yours", "slot 1 v1: free")])

    assert "row 3, yours: slot 1 v1: free" in repr(judge(Exercise("08.2", "Run", refuse, HINTS), same))


@pytest.mark.parametrize(
    ("loop", "line"),
    [
        ("    while True:\n        mask += 1", r"line [34]: +(while True:|mask \+= 1)"),
        ("    while True: pass", "line 3: +while True: pass"),
        ("    rows = [0]\n    for row in rows: rows.append(row)", "line 4: +for row in rows: rows.append"),
        (
            "    while True:\n        try:\n            mask += 1\n        except Exception:\n            pass",
            r"line \d: +(while True:|try:|mask \+= 1)",
        ),
    ],
)
def test_a_loop_without_an_end_is_stopped_and_its_line_is_named(chapter: Chapter, loop: str, line: str) -> None:
    verdict = check("99.2", learner(f"\ndef lowest_free(mask):\n{loop}", "lowest_free"))
    assert not verdict.passed and not verdict.still_open
    assert "Your code does not come to an end: look at the loop around line" in repr(verdict)
    assert re.search(line, repr(verdict))


def test_a_check_leaves_the_tracer_of_a_debugger_as_it_was(chapter: Chapter) -> None:
    def tracer(frame: Any, event: str, argument: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        check("99.2", right)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


def test_a_check_that_needs_much_code_of_others_is_no_endless_one(chapter: Chapter) -> None:
    def slow(mask: int) -> int:
        return sum(1 for _ in range(50)) and right(mask)

    assert check("99.2", slow).passed


def test_a_method_without_self_is_told_what_is_missing(chapter: Chapter) -> None:
    code = """
class Rows:
    def lowest():
        return 0

def lowest_free(mask):
    return Rows().lowest()
"""
    assert "is `self` missing as its first parameter?" in repr(check("99.2", learner(code, "lowest_free")))

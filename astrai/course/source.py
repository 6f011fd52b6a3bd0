"""One source for exercise and solution: cuts the learner's form and the solved form out of an exercise's cell.

In the cell, what stands between ``# BEGIN SOLUTION`` and ``# END SOLUTION`` is the solution. In its place the learner
sees what the lines there that begin with ``# STUB:`` say.

    def allocate(self):
        # BEGIN SOLUTION
        lowest = self.mask & -self.mask
        return lowest.bit_length() - 1
        # STUB: raise NotImplementedError  # which row is the lowest free one?
        # END SOLUTION
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

BEGIN, STUB, END = "# BEGIN SOLUTION", "# STUB:", "# END SOLUTION"
MEANT = re.compile(r"#\s*(begin|end)\s*solution|#\s*stub\b", flags=re.IGNORECASE)  # a marker, perhaps misspelt


class Forms(NamedTuple):
    """The two forms of a cell."""

    learners: str
    solved: str


def forms(cell: str, tags: Sequence[str] = ()) -> Forms:
    """Both forms of a code cell; a cell without the tag ``exercise`` has the same text in both.

    Raises:
        ValueError: a marker is missing or misplaced, there is no stub, or one of the forms is no Python.

    Example:
        >>> lines = ["x = 1", "# BEGIN SOLUTION", "y = x + x", "# STUB: y = ...", "# END SOLUTION"]
        >>> cell = "\\n".join(lines)
        >>> print(forms(cell, ("exercise", "08.2")).learners)
        x = 1
        y = ...
    """
    if "exercise" not in tags:
        if MEANT.search(cell):
            raise ValueError(f"a solution stands in a cell that has not the tag 'exercise': {cell.splitlines()[0]!r}")
        return Forms(cell, cell)
    name = exercise_id(tags)
    both = Forms(*("\n".join(lines) for lines in _cut(cell, name)))
    for form, text in both._asdict().items():
        try:
            compile(text, name, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise ValueError(
                f"exercise {name}: the {form} form is no Python, line {error.lineno}: {error.msg}"
            ) from error
        if MEANT.search(text):
            raise ValueError(f"exercise {name}: a marker stands where no line begins")
    if both.learners == both.solved:
        raise ValueError(f"exercise {name}: the stub is the solution")
    return both


def exercise_id(tags: Sequence[str]) -> str:
    """The id that stands beside the tag ``exercise``.

    Raises:
        ValueError: there is none, or more than one.
    """
    ids = [tag for tag in tags if re.fullmatch(r"\d\d\.\d+", tag)]
    if len(ids) != 1:
        raise ValueError(
            f'an exercise has its id in its tags, such as tags=["exercise", "08.2"]; this has {list(tags)}'
        )
    return ids[0]


def _cut(cell: str, name: str) -> tuple[list[str], list[str]]:
    learners: list[str] = []
    solved: list[str] = []
    stub_lines: int | None = None  # in the present solution; None outside of one
    solutions = 0
    for number, line in enumerate(cell.splitlines(), 1):
        text = line.strip()
        if text == BEGIN and stub_lines is None:
            stub_lines, solutions = 0, solutions + 1
        elif text == END and stub_lines:
            stub_lines = None
        elif text.startswith(STUB) and stub_lines is not None:
            stub_lines += 1
            learners.append(_uncommented(line))
        elif MEANT.search(line):
            raise ValueError(f"exercise {name}, line {number}: {text!r} is out of place: {BEGIN}, {STUB} ..., {END}")
        else:
            solved.append(line)
            if stub_lines is None:
                learners.append(line)
    if stub_lines is not None or not solutions:
        raise ValueError(f"exercise {name} needs {BEGIN} and, after it, {END}")
    return learners, solved


def _uncommented(line: str) -> str:
    indentation, _, text = line.partition(STUB)
    return f"{indentation}{text.removeprefix(' ')}".rstrip()

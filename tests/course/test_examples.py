"""The examples in the docstrings of the course run."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

MODULES = ("arrays", "board", "checking", "exercises", "hinting", "mistakes", "notes", "predictions", "shown", "source")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, folder: Path) -> None:
    module = import_module(f"astrai.course.{name}")
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0

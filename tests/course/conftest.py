"""A learner's folder of its own for each test, and the chapter of the fixture."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from astrai.course import chapters
from astrai.course.exercises import Chapter
from tests.course.forms import FIXTURE

CH99 = f"{chapters.__name__}.ch99"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The learner's folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def chapter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chapter]:
    """Chapter 99, found like any other chapter."""
    monkeypatch.setattr(chapters, "__path__", [*chapters.__path__, str(FIXTURE / "chapters")])
    from astrai.course.catalogue import chapter

    yield chapter("99")
    sys.modules.pop(CH99, None)
    if hasattr(chapters, "ch99"):
        del chapters.ch99

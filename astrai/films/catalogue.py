"""Which films there are, where they lie, and whether what is asked of them can be done here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from astrai.course.doctor import DEBIAN_VIDEO_PACKAGES
from astrai.trace.log import EventLog

QUALITIES = {"l": "854x480, 15 frames a second", "m": "1280x720, 30", "h": "1920x1080, 60"}
HOW_TO_INSTALL = (
    "pip install 'astrai[video]', which on Debian and Ubuntu needs "
    f"`sudo apt-get install {DEBIAN_VIDEO_PACKAGES}` first; conda-forge's manim needs no compiler"
)


class FilmInfo(Protocol):
    """What the list of films says about one. ``trace`` is ``None`` where it plays no recording."""

    name: str
    title: str
    about: str
    trace: str | None


class Home(NamedTuple):
    """Where the films lie: the package's name, its folder, and the folder that it is imported from."""

    package: str
    folder: Path
    root: Path


def home() -> Home:
    """Inside the installed package, or beside it in a checkout.

    Raises:
        FileNotFoundError: neither is there.
    """
    package = Path(__file__).parents[1]
    for name, folder in (("astrai.animations", package / "animations"), ("animations", package.parent / "animations")):
        if (folder / "render.py").is_file():
            return Home(name, folder, package.parent)
    raise FileNotFoundError("this installation of astrai has no films: install it again")


def films() -> dict[str, FilmInfo]:
    """All films by name."""
    return _films(home().folder)


@cache
def _films(folder: Path) -> dict[str, FilmInfo]:
    # NOTE: by its path, since a learner's own folder of the name "animations" may come first in an import.
    spec = spec_from_file_location("astrai._list_of_films", folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module.FILMS


def choose(names: Sequence[str] = (), trace: Any = None) -> list[FilmInfo]:
    """The films of these names, in any case of their letters; all films without a name, or all that play a trace.

    Raises:
        ValueError: there is no such film, or it plays no trace and one is given.
    """
    known = films()
    if not names:
        return [info for info in known.values() if trace is None or info.trace is not None]
    by_folded = {name.casefold(): info for name, info in known.items()}
    if unknown := [name for name in names if name.casefold() not in by_folded]:
        raise ValueError(f"there is no film {', '.join(unknown)}: the films are {', '.join(known)}")
    chosen = list({name.casefold(): by_folded[name.casefold()] for name in names}.values())
    if trace is not None and (deaf := [info.name for info in chosen if info.trace is None]):
        able = ", ".join(info.name for info in known.values() if info.trace is not None)
        raise ValueError(f"{', '.join(deaf)} plays no recorded run: these films do: {able}")
    return chosen


def check_quality(quality: str) -> None:
    """Refuse what is no quality.

    Raises:
        ValueError: there is no such quality.
    """
    if quality not in QUALITIES:
        allowed = ", ".join(f"{name} ({what})" for name, what in QUALITIES.items())
        raise ValueError(f"the quality is {quality!r}, but must be one of {allowed}")


def check_trace(trace: EventLog | Path) -> None:
    """Refuse a run that no film can play.

    Raises:
        ValueError: the file is no trace or is damaged, or there is nothing in it to show.
        OSError: it cannot be read.
    """
    log = trace if isinstance(trace, EventLog) else EventLog.load(trace)
    if not len(log):
        raise ValueError(f"{'the run' if log is trace else trace} holds no events: there is nothing to show")


def check_manim() -> None:
    """Refuse to begin where nothing can be drawn.

    Raises:
        ValueError: manim is not installed.
    """
    if find_spec("manim") is None:
        raise ValueError(f"the films are drawn by manim, which is not installed: {HOW_TO_INSTALL}")

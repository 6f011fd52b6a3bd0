"""The still and the GIF that are kept of each film."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from astrai.films import catalogue
from astrai.films.stills import Stills
from astrai.widgets.palette import theme

STILLS = catalogue.home().folder / "stills"


@pytest.mark.parametrize("name", catalogue.films())
def test_a_still_and_a_small_gif_of_each_film_are_kept(name: str) -> None:
    gif = STILLS / f"{name}.gif"
    assert gif.stat().st_size < 1_000_000
    with Image.open(STILLS / f"{name}.png") as still, Image.open(gif) as moving:
        assert still.size == (854, 480)
        assert len(still.convert("RGB").getcolors(100_000)) > 20  # something is on it
        assert moving.size == (480, 270)
        assert moving.n_frames > 40


def test_nothing_is_kept_of_a_film_that_is_gone() -> None:
    assert {Path(path).stem for path in STILLS.iterdir()} == set(catalogue.films())


def test_all_stills_are_on_one_sheet_and_told_in_words() -> None:
    sheet = Image.open(io.BytesIO(Stills()._repr_png_())).convert("RGB")
    assert sheet.size == (972, 834)
    background = tuple(bytes.fromhex(theme("dark")["background"][1:]))
    for place in range(6):
        corner = (place % 2 * 492 + 3, place // 2 * 282 + 265)
        assert all(abs(a - b) < 12 for a, b in zip(sheet.getpixel(corner), background, strict=True))
    assert [line.split(":")[0] for line in repr(Stills()).splitlines()] == list(catalogue.films())


def test_a_still_can_be_shown_by_itself_and_larger() -> None:
    alone = Image.open(io.BytesIO(Stills("FourPhases")._repr_png_()))
    two = Image.open(io.BytesIO(Stills("FourPhases", "SplitTheEdge")._repr_png_()))
    assert alone.size == (720, 405) and two.size == (972, 270)
    assert repr(Stills("FourPhases")).startswith("FourPhases: ") and repr(Stills("FourPhases")).count("\n") == 0
    with pytest.raises(ValueError, match="there is no film FourFaces: the films are Architecture"):
        Stills("FourFaces")

"""The stills of all films on one sheet, for a notebook: it needs no manim."""

from __future__ import annotations

import io

from astrai.films import catalogue

COLUMNS, WIDTH, HEIGHT, GAP = 2, 480, 270, 12


class Stills:
    """A frame of each film, in the films' order, two in a row. In words: what each one shows."""

    def _repr_png_(self) -> bytes:
        from PIL import Image

        infos = list(catalogue.films().values())
        rows = -(-len(infos) // COLUMNS)
        sheet = Image.new("RGB", (COLUMNS * (WIDTH + GAP) - GAP, rows * (HEIGHT + GAP) - GAP), "#767676")
        for place, info in enumerate(infos):
            with Image.open(catalogue.home().folder / "stills" / f"{info.name}.png") as still:
                picture = still.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
            sheet.paste(picture, (place % COLUMNS * (WIDTH + GAP), place // COLUMNS * (HEIGHT + GAP)))
        picture = io.BytesIO()
        sheet.save(picture, "png", optimize=True)
        return picture.getvalue()

    def __repr__(self) -> str:
        return "\n".join(f"{info.name}: {info.about}" for info in catalogue.films().values())

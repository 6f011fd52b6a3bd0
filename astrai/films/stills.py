"""A film's still, or those of several films on one sheet, for a notebook: it needs no manim."""

from __future__ import annotations

import io

from astrai.films import catalogue

COLUMNS, WIDTH, HEIGHT, GAP = 2, 480, 270, 12


class Stills:
    """A frame of each of the named films, or of all in their order: one large, several two in a row.

    In words: what each film shows.

    Raises:
        ValueError: there is no film of one of these names.
    """

    def __init__(self, *names: str) -> None:
        self.infos = catalogue.choose(names)

    def _repr_png_(self) -> bytes:
        from PIL import Image

        columns, scale = (1, 1.5) if len(self.infos) == 1 else (COLUMNS, 1)
        width, height = round(WIDTH * scale), round(HEIGHT * scale)
        rows = -(-len(self.infos) // columns)
        sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "#767676")
        for place, info in enumerate(self.infos):
            with Image.open(catalogue.home().folder / "stills" / f"{info.name}.png") as still:
                picture = still.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(picture, (place % columns * (width + GAP), place // columns * (height + GAP)))
        picture = io.BytesIO()
        sheet.save(picture, "png", optimize=True)
        return picture.getvalue()

    def __repr__(self) -> str:
        return "\n".join(f"{info.name}: {info.about}" for info in self.infos)

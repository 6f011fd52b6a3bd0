"""Keeps a still and a small GIF of each film, for the README, the notebooks and the web: ``make stills``.

It takes them from the folder into which the films were rendered with ``--gif``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import av
from PIL import Image

from . import FILMS

STILLS = Path(__file__).parent / "stills"


def keep(rendered: Path) -> None:
    """Take the still and the GIF of each film from this folder.

    Raises:
        FileNotFoundError: a film or its GIF is not there.
    """
    STILLS.mkdir(exist_ok=True)
    for info in FILMS.values():
        still = _frame(rendered / f"{info.name}.mp4", info.still).point(_flat)
        still.save(STILLS / f"{info.name}.png", optimize=True)
        shutil.copyfile(rendered / f"{info.name}.gif", STILLS / f"{info.name}.gif")
        sizes = [(STILLS / f"{info.name}.{kind}").stat().st_size / 1000 for kind in ("png", "gif")]
        print(f"{info.name}: still {sizes[0]:,.0f} kB, GIF {sizes[1]:,.0f} kB")


def _flat(level: int) -> int:
    """The next of 52 levels: a video is a little noisy where the film is flat, and noise makes a PNG large."""
    return min(255, (level + 2) // 5 * 5 + 2)


def _frame(video: Path, share: float) -> Image.Image:
    with av.open(str(video)) as source:
        stream = source.streams.video[0]
        wanted = float(stream.duration * stream.time_base) * share
        return next(frame for frame in source.decode(video=0) if frame.time >= wanted).to_image()


if __name__ == "__main__":
    keep(Path(sys.argv[1] if len(sys.argv) > 1 else "films"))

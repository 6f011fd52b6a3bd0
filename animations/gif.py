"""A film as a small GIF, for pages that play no video."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph

LIMIT = 1_000_000  # bytes
WIDTH, HEIGHT = 480, 270
# Frames a second, colours, and the change (of 255) that a pixel needs to be drawn anew: videos flicker a little where
# nothing moves, which makes a GIF four times as large. From the best on; the first that stays under the limit is taken.
STEPS = ((8, 64, 6), (8, 64, 12), (8, 32, 16), (5, 32, 16), (3, 16, 16), (2, 8, 16), (1, 4, 16))


def write_gif(video: Path, target: Path) -> dict[str, Any]:
    """Write ``video`` as a GIF under a megabyte, and say how: its path, bytes, frames a second and colours.

    Raises:
        ValueError: the film is too long for that.
    """
    for rate, colors, change in STEPS:
        _write(video, target, rate, colors, change)
        size = target.stat().st_size
        if size < LIMIT:
            return {"path": str(target), "bytes": size, "rate": rate, "colors": colors}
    target.unlink()
    raise ValueError(f"{video.name} is too long for a GIF under {LIMIT:,} bytes")


def _write(video: Path, target: Path, rate: int, colors: int, change: int) -> None:
    choose = "palettegen", f"max_colors={colors}:reserve_transparent=0"
    palette = next(_filtered(_frames(video, 1, change), choose))  # one frame a second shows all colours
    with av.open(str(target), "w") as container:
        stream = container.add_stream("gif", rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "pal8"
        for number, frame in enumerate(_filtered(_frames(video, rate, change), ("paletteuse", "dither=none"), palette)):
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _frames(video: Path, rate: int, change: int) -> Iterator[np.ndarray]:
    """Some of a video's frames, small, as (HEIGHT, WIDTH, 3) bytes; what changes too little stays as it was shown."""
    with av.open(str(video)) as source:
        shown, due = None, 0.0
        for frame in source.decode(video=0):
            if frame.time < due - 1e-3:
                continue
            due += 1 / rate
            new = frame.to_ndarray(format="rgb24", width=WIDTH, height=HEIGHT, interpolation="AREA")
            if shown is not None:
                red, green, blue = np.moveaxis(np.maximum(new, shown) - np.minimum(new, shown) > change, 2, 0)
                new = np.where((red | green | blue)[..., None], new, shown)
            shown = new
            yield new


def _filtered(frames: Iterator[np.ndarray], name: tuple[str, str], palette: Any = None) -> Iterator[Any]:
    """Frames that went through a filter, which may need a palette."""
    graph, clock = Graph(), Fraction(1, 100)
    source = graph.add_buffer(width=WIDTH, height=HEIGHT, format=av.VideoFormat("rgb24"), time_base=clock)
    filter_, sink = graph.add(*name), graph.add("buffersink")
    source.link_to(filter_)
    filter_.link_to(sink)
    if palette is not None:
        colors = graph.add_buffer(width=palette.width, height=palette.height, format=palette.format, time_base=clock)
        colors.link_to(filter_, 0, 1)
    graph.configure()
    if palette is not None:
        colors.push(palette)
        colors.push(None)
    for number, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = number, clock
        source.push(frame)
        yield from _ready(graph)
    source.push(None)
    yield from _ready(graph)


def _ready(graph: Graph) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return

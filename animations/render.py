"""The child process: renders one film, and reports on standard output, one JSON value a line.

It begins in an empty folder that is its home too, so that no ``manim.cfg`` of the user's changes a film, and manim
leaves nothing behind. It knows neither who asked for the film nor where it is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, nullcontext, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from . import FILMS

QUALITIES = {"l": (854, 480, 15), "m": (1280, 720, 30), "h": (1920, 1080, 60)}  # width, height, frames a second

Report = Callable[..., None]


def main(arguments: list[str] | None = None) -> int:
    """Render, report, and say in the exit code whether it worked."""
    options = _options(arguments)
    out, trace = options.out.resolve(), options.trace and options.trace.resolve()
    report = _reporter(sys.stdout)
    with redirect_stdout(sys.stderr), _empty_home(options.folder) as folder:
        try:
            report("done", **_render(options, folder, out, trace, report))
        except Exception as error:
            traceback.print_exc()
            kind = "unusable" if isinstance(error, ImportError) else "failed"
            # The sentence of an error that the films raise on purpose; of any other, its traceback says more.
            said = str(error) if isinstance(error, ImportError | ValueError | OSError) else ""
            report(kind, message=said)
            return 1
    return 0


def _render(options: argparse.Namespace, folder: Path, out: Path, trace: Path | None, report: Report) -> dict[str, Any]:
    info = FILMS[options.name]
    _set_manim(options.quality, folder)
    scene_class = getattr(import_module(f".{info.module}", __package__), info.name)
    settings = {}
    if trace is not None:
        from astrai.trace.log import EventLog

        settings["trace"] = EventLog.load(trace)
    report("started", seconds=_length(scene_class, settings))
    scene = scene_class(**settings)
    scene.on_beat = lambda beat: report("beat", at=beat.start, caption=beat.caption)
    scene.render()
    movie = Path(scene.renderer.file_writer.movie_file_path)
    video = out / f"{info.name}.mp4"
    out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"path": str(video), "seconds": _finish(movie, video, info.title)}
    shutil.copyfile(movie.with_suffix(".srt"), video.with_suffix(".srt"))
    if options.gif:
        from .gif import write_gif

        result["gif"] = write_gif(video, video.with_suffix(".gif"))
    return result


def _set_manim(quality: str, folder: Path) -> None:
    from manim import config

    config.pixel_width, config.pixel_height, config.frame_rate = QUALITIES[quality]
    config.media_dir = folder
    config.disable_caching = True  # comparing scenes costs more than drawing them
    config.progress_bar = "none"
    config.verbosity = "ERROR"


def _length(scene_class: Any, settings: dict[str, Any]) -> float:
    """How many seconds the film will be: it is told once without being drawn."""
    from manim import tempconfig

    with tempconfig({"dry_run": True}):
        scene = scene_class(quick=True, **settings)
        scene.renderer.update_frame = lambda *arguments, **options: None  # manim draws what stands still, even so
        scene.render()
        return float(scene.renderer.time)


def _finish(movie: Path, video: Path, title: str) -> float:
    """Put the film in its place, with its index in front so that a browser starts at once; its length in seconds."""
    import av

    part = video.with_name(video.name + ".part")
    with av.open(str(movie)) as source, av.open(str(part), "w", "mp4", options={"movflags": "+faststart"}) as target:
        target.metadata["title"] = title
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:  # the last packet is none
                packet.stream = copy
                target.mux(packet)
        length = float(stream.duration * stream.time_base)
    os.replace(part, video)
    return length


@contextmanager
def _empty_home(given: Path | None) -> Iterator[Path]:
    # A parent removes its folder itself; should it be gone before the film is done, this process does.
    if given is not None:
        threading.Thread(target=_end_with_parent, args=[given], daemon=True).start()
    with nullcontext(given) if given else tempfile.TemporaryDirectory(prefix="astrai-film-") as name, chdir(name):
        # The list of the system's fonts stays where it is: making it again takes seconds.
        os.environ.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        os.environ["HOME"] = os.environ["USERPROFILE"] = str(name)
        yield Path(name)


def _end_with_parent(folder: Path) -> None:
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _reporter(stream: Any) -> Report:
    def report(kind: str, **values: Any) -> None:
        print(json.dumps({"kind": kind, **values}), file=stream, flush=True)

    return report


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Render one film. `astrai render` is the comfortable form.")
    parser.add_argument("name", choices=FILMS)
    parser.add_argument("--quality", choices=QUALITIES, default="l")
    parser.add_argument("--out", type=Path, default=Path("films"), help="the folder for the video and its subtitles")
    parser.add_argument("--trace", type=Path, help="a recorded run to play instead of the kept one")
    parser.add_argument("--gif", action="store_true", help="write a small GIF too")
    parser.add_argument("--folder", type=Path, help="work in this folder; end when standard input is closed")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

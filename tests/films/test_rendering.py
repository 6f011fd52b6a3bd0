"""Films are rendered by a child process each: what it makes, and what is said when it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import astrai
from astrai.cli import app
from astrai.films import FilmError, FilmProcess, catalogue
from astrai.trace.events import StepStarted
from astrai.trace.log import EventLog

ROOT = Path(__file__).parents[2]
needs_manim = pytest.mark.skipif(find_spec("manim") is None, reason="manim is not installed: see `astrai doctor`")

LIST = """
from types import SimpleNamespace as Film

NAMES = ("Tiny", None), ("Counted", "a_run"), ("Endless", None), ("Broken", None)
FILMS = {n: Film(name=n, title=f"{n} <1>", about=f"About {n}.", module="scenes", trace=t) for n, t in NAMES}
"""
SCENES = """
from threading import Event

from manim import ORANGE, RIGHT, Circle

from .film import Film


class Tiny(Film):
    def story(self):
        circle = Circle(2, color=ORANGE, fill_opacity=1)
        self.add(circle)
        self.beat("It is round", pause=0.6)
        self.beat("It moves", circle.animate.shift(3 * RIGHT), seconds=0.4, pause=0.2)


class Counted(Film):
    def __init__(self, trace=None, **settings):
        super().__init__(**settings)
        self.trace = trace

    def story(self):
        self.beat(f"{len(self.trace)} of {self.trace.next_seq} events", pause=0.4)


class Endless(Film):
    def story(self):
        Event().wait()
"""
# Stands in for the child, without manim: it says what the real one says.
STAND_IN = """
import json
import sys
from pathlib import Path

name, out = sys.argv[1], Path(sys.argv[sys.argv.index("--out") + 1])


def say(kind, **values):
    print(json.dumps({"kind": kind, **values}), flush=True)


if name == "Broken":
    sys.exit("Traceback\\nZeroDivisionError: of all things")
if name == "Counted":
    say("failed", message="this run has no chat")
    sys.exit(1)
say("started", seconds=8.0)
say("beat", at=2.0, caption="a")
if name == "Endless":
    sys.stdin.read()
out.mkdir(parents=True, exist_ok=True)
video = out / f"{name}.mp4"
video.write_bytes(b"video")
say("done", path=str(video), seconds=8.0)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(catalogue, "check_manim", lambda: None)
    return folder


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> Path:
    """A package of films like ours, with other films in it; it is the one that is found."""
    folder = tmp_path / "root" / "animations"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    for path in (ROOT / "animations").iterdir():
        if not (folder / path.name).exists() and not path.name.startswith("__"):
            (folder / path.name).symlink_to(path)
    monkeypatch.setattr(catalogue, "home", lambda: catalogue.Home("animations", folder, folder.parent))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Films of a second, rendered by the real child."""
    return package(tmp_path, monkeypatch, __init__=LIST, scenes=SCENES)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same films, "rendered" by a stand-in."""
    return package(tmp_path, monkeypatch, __init__=LIST, render=STAND_IN)


def run(*arguments: str, code: int = 0) -> SimpleNamespace:
    result = CliRunner().invoke(app, ["render", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return SimpleNamespace(out=result.stdout, err=result.stderr)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in 30 seconds"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def a_log(events: int, capacity: int = 64) -> EventLog:
    log = EventLog(num_slots=2, capacity=capacity)
    for step in range(events):
        log.emit(StepStarted(step + 1))
    return log


# --- the real child ---------------------------------------------------------------------------------------------------


@needs_manim
def test_a_film_is_rendered_whatever_the_users_own_settings_are(
    real: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import av
    from PIL import Image

    settings = "[CLI]\npixel_width = 100\nframe_rate = 3\nbackground_color = RED\nmedia_dir = ./mine\nformat = png\n"
    (here / "manim.cfg").write_text(settings)
    (tmp_path / ".config" / "manim").mkdir(parents=True)
    (tmp_path / ".config" / "manim" / "manim.cfg").write_text(settings)
    monkeypatch.setenv("HOME", str(tmp_path))

    out = run("tiny", "--gif").out
    assert out.startswith("films/Tiny.mp4  1.2 s, rendered in ") and "Tiny.gif: " in out
    assert sorted(path.name for path in here.rglob("*")) == ["Tiny.gif", "Tiny.mp4", "Tiny.srt", "films", "manim.cfg"]
    with av.open("films/Tiny.mp4") as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.pix_fmt) == (854, 480, "yuv420p")
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
    assert len(frames) == 18, "1.2 seconds at 15 frames a second"
    assert (frames[0][240, 427, 0], frames[0][240, 10, 0] < 60) == (frames[0][240, 427].max(), True)
    assert frames[0][240, 427].max() > 200, "the disc is in the middle, on a dark background"
    assert frames[-1][240, 300].max() < 60, "and has moved away from the left"
    content = Path("films/Tiny.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "a browser needs the index first"
    captions = Path("films/Tiny.srt").read_text()
    assert "00:00:00,000 --> 00:00:00,600\nIt is round" in captions and "\nIt moves" in captions
    with Image.open("films/Tiny.gif") as gif:
        assert gif.size == (480, 270) and gif.n_frames >= 5
    assert Path("films/Tiny.gif").stat().st_size < 1_000_000


@needs_manim
def test_a_film_of_your_own_run_plays_what_its_log_still_holds(real: Path, here: Path) -> None:
    log = a_log(events=10, capacity=8)
    assert log.first_seq > 0
    film = astrai.film("counted", trace=log, to="mine")
    assert film.wait(60) == here / "mine" / "Counted.mp4"
    assert f"{len(log)} of 10 events" in (here / "mine" / "Counted.srt").read_text()


@needs_manim
def test_no_child_outlives_the_program_that_started_it(real: Path, here: Path) -> None:
    code = f"""
        import os
        from pathlib import Path
        from astrai.films import FilmProcess, catalogue
        root = Path({str(real.parent)!r})
        catalogue.home = lambda: catalogue.Home("animations", root / "animations", root)
        process = FilmProcess(catalogue.films()["Endless"])
        print(process.pid, process.folder, flush=True)
        os.kill(os.getpid(), 9)
    """
    result = subprocess.run([sys.executable, "-c", dedent(code)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == -signal.SIGKILL
    pid, folder = result.stdout.split()
    until(lambda: not is_alive(int(pid)))
    assert not Path(folder).exists()


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_the_list_names_every_film_and_what_it_shows() -> None:
    out = run("--list").out
    for info in catalogue.films().values():
        assert f"{info.name}\n    {info.about}\n" in out


def test_an_unknown_film_is_answered_with_those_there_are() -> None:
    err = run("Architecture", "NoSuchFilm", code=1).err
    assert "no film NoSuchFilm" in err and "TheGhostPrefix" in err and len(err.splitlines()) == 1


def test_a_film_that_plays_no_trace_takes_none(here: Path) -> None:
    a_log(3).save("run.jsonl")
    assert "Architecture plays no recorded run" in run("Architecture", "--trace", "run.jsonl", code=1).err
    with pytest.raises(ValueError, match=r"plays no recorded run: these films do: .*FourPhases"):
        astrai.film("Architecture", trace=a_log(3))


def test_with_a_trace_and_no_names_all_films_that_play_one_are_meant() -> None:
    assert [info.name for info in catalogue.choose((), trace="run.jsonl")] == [
        info.name for info in catalogue.films().values() if info.trace is not None
    ]


@pytest.mark.parametrize(("content", "says"), [(None, "does not exist"), (b"{", "cut off"), (b"?\n", "not JSON")])
def test_a_trace_that_cannot_be_read_is_said_plainly(here: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        Path("run.jsonl").write_bytes(content)
    err = run("FourPhases", "--trace", "run.jsonl", code=1 if content is not None else 2).err
    assert says in err and "Traceback" not in err


def test_a_run_without_events_is_no_film(here: Path) -> None:
    with pytest.raises(ValueError, match="the run holds no events"):
        astrai.film("FourPhases", trace=EventLog(num_slots=2))


def test_an_unknown_quality_is_answered_with_those_there_are() -> None:
    assert "'x', but must be one of l (854x480" in run("--quality", "x", code=1).err


def test_without_manim_the_debian_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    err = run("Architecture", code=1).err
    assert "pip install 'astrai[video]'" in err and "libpango1.0-dev" in err and "conda-forge" in err


def test_asking_for_films_imports_no_manim() -> None:
    code = "import sys, astrai; astrai.film; import astrai.terminal.films; print({'manim', 'av'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "set()", result.stderr


# --- the parent, with a stand-in for the child ------------------------------------------------------------------------


def test_a_film_that_fails_shows_its_error_and_the_others_go_on(stub: Path, here: Path) -> None:
    result = run("broken", "counted", "tiny", "--jobs", "1", "--out", "made", code=1)
    assert "Broken: the film's process ended with code 1\n" in result.err
    assert "ZeroDivisionError: of all things" in result.err
    assert "Counted: this run has no chat\n" in result.err
    assert result.out.startswith("made/Tiny.mp4  8.0 s, rendered in")


def test_where_cairo_cannot_be_loaded_no_further_film_is_tried(
    tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(tmp_path, monkeypatch, __init__=LIST)
    message = "libpango-1.0.so.0: cannot open shared object file"
    (folder.parent / "manim.py").write_text(f"raise ImportError({message!r})")
    err = run("--jobs", "1", code=1).err
    assert err.startswith(f"manim is installed, but cannot be used: {message}") and "libpango1.0-dev" in err
    assert len(err.strip().splitlines()) == 1


def test_ctrl_c_stops_all_films(stub: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    follow = FilmProcess.follow

    def interrupt(process: FilmProcess, tell: Callable[..., None]) -> object:
        started.append(process.pid)
        if len(started) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return follow(process, tell)

    monkeypatch.setattr(FilmProcess, "follow", interrupt)
    run("endless", "tiny", "--jobs", "2", code=130)
    assert len(started) == 2 and not any(map(is_alive, started))


def test_a_stopped_film_leaves_nothing_behind(stub: Path, here: Path) -> None:
    process = FilmProcess(catalogue.films()["Endless"], out=here)
    folder = process.folder
    assert is_alive(process.pid) and folder.is_dir()
    process.stop()
    process.stop()
    assert not is_alive(process.pid) and not folder.exists()
    with pytest.raises(FilmError, match="Endless was stopped"):
        process.follow()


def test_in_a_notebook_a_bar_becomes_a_video(stub: Path, here: Path) -> None:
    film = astrai.film("Tiny")
    assert "Tiny begins to be rendered" in repr(film) or film.progress.total == 8.0 or film.done
    assert film.wait(30).read_bytes() == b"video"
    assert repr(film) == f"Tiny: {here / 'films' / 'Tiny.mp4'}"
    until(lambda: "<video" in film.widget.value)
    assert 'aria-label="Tiny &lt;1&gt;: About Tiny."' in film.widget.value
    assert "data:video/mp4;base64,dmlkZW8=" in film.widget.value


def test_a_film_in_a_notebook_says_how_far_it_is_and_can_be_cancelled(stub: Path, here: Path) -> None:
    film = astrai.film("Endless")
    until(lambda: film.progress == (2.0, 8.0) and "25 %" in film.widget.value)
    assert repr(film) == "Endless is being rendered: 2 of 8 s"
    with pytest.raises(TimeoutError):
        film.wait(0)
    data, _ = film._repr_mimebundle_()
    assert data["text/plain"] == repr(film) and "<progress" in data["text/html"]
    film.cancel()
    assert repr(film) == "no film: Endless was stopped"
    until(lambda: 'role="alert"' in film.widget.value)
    with pytest.raises(FilmError, match="was stopped"):
        film.wait()


def test_a_film_that_fails_in_a_notebook_says_why(stub: Path, here: Path) -> None:
    film = astrai.film("Counted", trace=a_log(2))
    with pytest.raises(FilmError, match="this run has no chat"):
        film.wait(30)


def test_where_there_are_no_widgets_words_are_shown(stub: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astrai.films.notebook.find_spec", lambda name: None)
    with astrai.film("Endless") as film:
        bundle = film._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert film.error == "Endless was stopped"

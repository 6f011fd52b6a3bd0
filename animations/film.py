"""What all films share: a title, beats with a caption each, and a record of the beats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from manim import UP, Animation, FadeIn, ReplacementTransform, Scene, config

from .style import BACKGROUND, BODY, HEADING, MARGIN, TITLE, Label, put_center

SHORTEST_BEAT = 0.4  # seconds
LETTERS_A_SECOND = 20  # a caption that was not seen before stays at least so long
CAPTION = 26
CAPTION_Y = -3.6
LONGEST_CAPTION = 13.6  # units: the frame is 14.2 wide
TOP = 3.62  # the height of a film's heading, once the title has moved there


@dataclass(frozen=True, slots=True)
class Beat:
    """One idea of a film: from ``start`` to ``end``, in seconds of the film, with what the caption says."""

    start: float
    end: float
    caption: str


class Film(Scene):
    """A scene that is told in beats. A film writes ``story`` and calls :meth:`beat`.

    ``beats`` are those told so far. ``on_beat`` is called with each one when it starts, ``after_beat`` when it is over.
    ``quick`` jumps to the end of each movement and draws nothing: for tests, and to know how long a film will be.
    """

    on_beat: Callable[[Beat], None] | None = None
    after_beat: Callable[[Beat], None] | None = None

    def __init__(self, quick: bool = False, **settings: Any) -> None:
        super().__init__(skip_animations=quick, **settings)
        self.beats: list[Beat] = []
        self.said: set[str] = set()
        self.caption = Label("")

    def story(self) -> None:
        """All beats, in order."""
        raise NotImplementedError

    def construct(self) -> None:
        """Called by manim."""
        self.camera.background_color = BACKGROUND
        self.story()
        self._write_subtitles()

    def beat(self, caption: str, *animations: Animation | Any, seconds: float = 1.0, pause: float = 0.7) -> None:
        """Say something, move for so many ``seconds`` and rest for ``pause``, or longer where there is more to read.

        Raises:
            ValueError: the beat would be over before anybody has seen it, or the caption does not fit into a line.
        """
        seconds = seconds if animations else 0.0
        if caption not in self.said:
            pause = max(pause, len(caption) / LETTERS_A_SECOND - seconds)
            self.said.add(caption)
        length = seconds + pause
        if length < SHORTEST_BEAT:
            raise ValueError(
                f"a beat of {length:.2f} s cannot be seen: it takes at least {SHORTEST_BEAT} s: {caption!r}"
            )
        start = float(self.renderer.time)
        beat = Beat(start, start + length, caption)
        self.beats.append(beat)
        self._say(caption)
        if self.on_beat:
            self.on_beat(beat)
        if animations:
            self.play(*animations, run_time=seconds)
        if pause > 0:
            self.wait(pause)
        if self.after_beat:
            self.after_beat(beat)

    @property
    def told_seconds(self) -> float:
        """How long all beats so far are. Unlike the renderer's time it is not rounded to frames: a film that goes by
        it has the same beats at any quality.
        """
        return sum(beat.end - beat.start for beat in self.beats)

    def title(self, text: str, caption: str) -> Label:
        """The title in the middle, which then moves to the top and stays there."""
        title = put_center(Label(text, TITLE, bold=True), 0, 0.2)
        self.beat(caption, FadeIn(title, shift=UP * 0.2), seconds=0.8, pause=1.0)
        top = put_center(Label(text, HEADING, bold=True), 0, TOP)
        self.beat(caption, ReplacementTransform(title, top), seconds=0.7, pause=0.3)
        return top

    def _say(self, caption: str) -> None:
        if caption == self.caption.text:
            self.bring_to_front(self.caption)
            return
        self.remove(self.caption)
        self.caption = put_center(Label(caption, CAPTION), 0, CAPTION_Y)
        if self.caption.width > LONGEST_CAPTION:
            raise ValueError(f"a caption takes one line, and this one is too long for it: {caption!r}")
        self.add(self.caption)

    def _write_subtitles(self) -> None:
        """One for each stretch of beats that say the same, from its start to the start of the next."""
        now = float(self.renderer.time)
        said = [(caption, next(same).start) for caption, same in groupby(self.beats, key=lambda beat: beat.caption)]
        for (caption, start), end in zip(said, [*(start for _, start in said[1:]), now], strict=True):
            self.add_subcaption(caption, duration=end - start, offset=start - now)


def readable_labels(scene: Scene) -> list[Label]:
    """The texts that can be seen now."""
    return [
        mobject
        for top in scene.mobjects
        for mobject in top.get_family()
        if isinstance(mobject, Label) and mobject.has_points() and mobject.get_fill_opacity() > 0.02
    ]


def layout_faults(scene: Scene) -> list[str]:
    """What is wrong with the texts that can be seen now: outside the frame, too small, or one over another."""
    labels, faults = readable_labels(scene), []
    right, high = config.frame_width / 2 - MARGIN / 2, config.frame_height / 2 - MARGIN / 2
    for label in labels:
        if (size := label.shown_size) < BODY - 0.1:
            faults.append(f"{label.text!r} is smaller than the body text: {size:.1f}")
        if max(abs(label.get_left()[0]), abs(label.get_right()[0])) > right:
            faults.append(f"{label.text!r} leaves the frame at the side")
        if max(abs(label.get_top()[1]), abs(label.get_bottom()[1])) > high:
            faults.append(f"{label.text!r} leaves the frame at the top or the bottom")
    boxes = [(label, *label.get_corner([-1, -1, 0])[:2], *label.get_corner([1, 1, 0])[:2]) for label in labels]
    for index, (label, left, low, right_, top) in enumerate(boxes):
        for other, left_2, low_2, right_2, top_2 in boxes[index + 1 :]:
            if left < right_2 and left_2 < right_ and low < top_2 and low_2 < top:
                faults.append(f"{label.text!r} and {other.text!r} overlap")
    return faults

"""Architecture: five layers, one by one; a request travels down through them, and a token travels up."""

from __future__ import annotations

from manim import DOWN, UP, Animation, FadeIn, FadeOut, RoundedRectangle, VGroup

from .architecture_facts import ANSWER, ANSWER_IDS, CACHE, CLOSING, LAYERS, NOTE, QUESTION, SCHEDULER, WAY_DOWN, WAY_UP
from .film import TOP, Film
from .mobjects.layer_box import CallArrow, LayerBox
from .mobjects.traveller import Traveller
from .style import HEADING, LINE, PANEL, TITLE, Label, put_center, put_left

TOP_LAYER, PITCH = 2.7, 1.345
DOWN_LANE, UP_LANE = -6.24, 6.24
EDGE, ANSWER_LEFT = 6.9, 2.7
ANSWERING = "Each turn of the loop adds a token."
INNOVATIONS = "Nobody waits for the slowest; no known beginning is computed twice."
CHECKED = "A test compares every name and number here with the code."


class Architecture(Film):
    """It plays no recording: what it says of the package stands in ``architecture_facts``."""

    def story(self) -> None:
        """Layers, the way down, the way up, innovations, closing card."""
        self.heading = self.title("AstrAI Architecture", "A language model engine, in five layers.")
        self.boxes = [
            LayerBox(index + 1, layer.name, layer.path, layer.details, TOP_LAYER - index * PITCH)
            for index, layer in enumerate(LAYERS)
        ]
        self.arrows = [CallArrow(upper, lower) for upper, lower in zip(self.boxes, self.boxes[1:], strict=False)]
        for index in range(len(LAYERS)):
            self._introduce(index)
        everything = [move for box in self.boxes for move in box.step_forward()]
        self.beat("Each layer calls only those below it.", *everything, seconds=0.6, pause=1.9)
        self._go_down()
        self._come_up()
        self._tell_the_rest()
        self._innovations()
        self._close()

    def _introduce(self, index: int) -> None:
        box, purpose = self.boxes[index], LAYERS[index].purpose
        moves = [box.appear()]
        if index:
            moves += [*self.boxes[index - 1].step_back(), FadeIn(self.arrows[index - 1])]
        self.beat(purpose[0], *moves, seconds=0.7, pause=1.4)
        self.beat(purpose[1], FadeIn(box.details), seconds=0.6, pause=2.0)

    # --- a request travels down, tokens travel up ---------------------------------------------------------------------

    def _go_down(self) -> None:
        self.question = put_left(Label(f"“{QUESTION}”"), -EDGE, TOP)
        first, *others = WAY_DOWN
        self.card = Traveller(first.lines, DOWN_LANE, self.boxes[first.layer].y)
        self.beat(
            first.caption,
            FadeIn(self.question),
            FadeIn(self.card, shift=0.4 * DOWN),
            *(move for box in self.boxes[1:] for move in box.step_back()),
            pause=1.9,
        )
        for before, stop in zip(WAY_DOWN, others, strict=False):
            moves = self._move_card(stop.layer, stop.lines, stop.role)
            self._beat_at(stop.layer, before.layer, stop.caption, moves)

    def _come_up(self) -> None:
        first, *others = WAY_UP
        self.token = Traveller(first.lines, UP_LANE, self.boxes[first.layer].y, first.role)
        self.beat(first.caption, FadeIn(self.token, shift=0.4 * UP), pause=1.4)
        for before, stop in zip(WAY_UP, others, strict=False):
            moves = self._move_token(stop.layer, stop.lines, stop.role)
            if stop.layer == SCHEDULER:
                moves += self._move_card(SCHEDULER, ("request", "decode"), None)
            self._beat_at(stop.layer, before.layer, stop.caption, moves)

    def _tell_the_rest(self) -> None:
        """The next tokens do not stop on their way."""
        self.answer = put_left(Label(""), ANSWER_LEFT, TOP)
        self._hear(0, pause=1.2)
        for index in range(1, len(ANSWER)):
            self.token = Traveller((str(ANSWER_IDS[index]),), UP_LANE, self.boxes[-1].y, "decode")
            moves = self._move_token(0, (f"“{ANSWER[index].strip()}”",), "decode")
            self.beat(ANSWERING, *moves, seconds=1.1, pause=0)
            self._hear(index)

    def _hear(self, index: int, pause: float = 0.3) -> None:
        """The token becomes part of the answer."""
        self.remove(self.answer)
        self.answer = put_left(Label(f"“{''.join(ANSWER[: index + 1])} …”"), ANSWER_LEFT, TOP)
        self.add(self.answer)
        self.beat(ANSWERING, FadeOut(self.token, shift=0.4 * UP), seconds=0.4, pause=pause)

    def _move_card(self, layer: int, lines: tuple[str, ...], role: str | None) -> list[Animation]:
        before, self.card = self.card, Traveller(lines, DOWN_LANE, self.boxes[layer].y, role)
        return before.becomes(self.card)

    def _move_token(self, layer: int, lines: tuple[str, ...], role: str | None) -> list[Animation]:
        before, self.token = self.token, Traveller(lines, UP_LANE, self.boxes[layer].y, role)
        return before.becomes(self.token)

    def _beat_at(self, layer: int, before: int, caption: str, moves: list[Animation]) -> None:
        looks = [*self.boxes[before].step_back(), *self.boxes[layer].step_forward()]
        self.beat(caption, *moves, *looks, pause=max(1.0, len(caption) / 15 - 0.7))

    # --- the end ------------------------------------------------------------------------------------------------------

    def _innovations(self) -> None:
        fast = [self.boxes[SCHEDULER], self.boxes[CACHE]]
        gone = [box for box in self.boxes if box not in fast]
        gone += [arrow for index, arrow in enumerate(self.arrows) if index != SCHEDULER]
        self.beat(
            "Two of the layers make it fast.",
            FadeOut(VGroup(*gone, self.question, self.answer, self.card)),
            *(move for box in fast for move in box.step_forward()),
            pause=1.2,
        )
        note = put_center(Label(NOTE, HEADING + 4, bold=True), 0, 1.75)
        self.beat(INNOVATIONS, FadeIn(note, shift=0.2 * DOWN), pause=3.2)
        self.last = VGroup(*fast, self.arrows[SCHEDULER], note, self.heading)

    def _close(self) -> None:
        name, facts = CLOSING
        panel = RoundedRectangle(width=8.6, height=2.6, corner_radius=0.2, stroke_color=LINE, stroke_width=2)
        card = VGroup(
            panel.set_fill(PANEL, 1).move_to([0, 0.2, 0]),
            put_center(Label(name, TITLE, bold=True), 0, 0.65),
            put_center(Label(facts, HEADING - 2), 0, -0.35),
        )
        self.beat(CHECKED, FadeOut(self.last), FadeIn(card), seconds=0.9, pause=3.0)

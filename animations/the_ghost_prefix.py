"""TheGhostPrefix: a stale note of what a slot held, the wrong words that it gives, and the check that stops it."""

from __future__ import annotations

from typing import Any

from manim import Animation, FadeIn, FadeOut, Indicate, Mobject, RoundedRectangle, VGroup

from .film import Film
from .ghost_story import PEOPLE, GhostStory, Turn
from .mobjects.person import WIDTH, Person
from .mobjects.words_row import Part, WordsRow
from .style import BODY, EVICTED, HIT, INK, LINE, PANEL, REUSED, Label, put_left

LEFT, RIGHT = -6.85, 6.85
CARDS_Y, ROW_Y, NOTE_Y, CHECK_Y = 2.6, -0.55, -1.75, -2.75
CARDS_X = (LEFT, -WIDTH / 2, RIGHT - WIDTH)


class Note(VGroup):
    """What Cleo remembers of a slot."""

    def __init__(self, slot: int, version: int, length: int) -> None:
        super().__init__()
        self.version = version
        self.frame = RoundedRectangle(width=6.1, height=0.62, corner_radius=0.06, stroke_color=HIT, stroke_width=3)
        self.frame.set_fill(PANEL, 1).move_to([RIGHT - 3.05, NOTE_Y, 0])
        text = f"Cleo's note: slot {slot}, version {version}, {length} tokens"
        self.words = put_left(Label(text, BODY), RIGHT - 5.9, NOTE_Y)
        self.add(self.frame, self.words)


class TheGhostPrefix(Film):
    """Three people, one slot. All that is said in it was said in a recorded run."""

    def story(self) -> None:
        """Ann, Ben, Cleo, and Cleo once more."""
        self.told = GhostStory()
        asked = self.told.words["asked"]
        self.people = {name: Person(name, asked[name], x, CARDS_Y) for name, x in zip(PEOPLE, CARDS_X, strict=True)}
        self.row = WordsRow(self.told.note["slot"], LEFT, RIGHT, ROW_Y)
        self.note = Note(**self.told.note)
        self.title("The ghost prefix", "A ghost story. Its words are not made up: they come from two real runs.")
        self._ann()
        self._ben()
        self._ghost()
        self._check()
        self._moral()

    def _ann(self) -> None:
        ann = self.told.believed["Ann"]
        self.beat("This is a slot of the cache. A small number tells how often it was handed out.", FadeIn(self.row))
        self.people["Ann"].act(True)
        self.beat(
            f"Ann asks for a fox. The slot is handed to her: that makes it version {ann.version}.",
            FadeIn(self.people["Ann"]),
            *self.row.tell(ann.version),
        )
        self._write(ann, "Her prompt is computed (P), then her answer, word by word (D).", "Ann")
        self._leave("Ann", "She goes. The slot is free, and its words stay, for whoever asks the same.")

    def _ben(self) -> None:
        ben, note = self.told.believed["Ben"], self.told.note
        self.beat(
            "Ben and Cleo arrive. Ben is first. Cleo waits, and has a look at the cache.",
            FadeIn(self.people["Ben"]),
            FadeIn(self.people["Cleo"]),
        )
        words = f"Her very words! She makes a note: {note['length']} tokens, version {note['version']}."
        self.beat(words, FadeIn(self.note), pause=2.6)
        self._reuse(ben, "Ben", f"Ben's turn: version {ben.version}. The words that he shares are reused (R).")
        self._write(ben, "The rest is overwritten: Ann's fox is gone, a frog stands there.", "Ben")
        self._leave("Ben", "Ben goes too. Now it is Cleo's turn. In her hand: the old note.", self.note.words)

    def _ghost(self) -> None:
        cleo = self.told.believed["Cleo"]
        self._reuse(cleo, "Cleo", f"An engine that believes her note takes the {cleo.kept_len} tokens as they are (R).")
        self._write(cleo, "But those are no longer her words. And so she is told ...", "Cleo", EVICTED)
        same = [*self.people["Ben"].lines, *self.people["Cleo"].lines]
        moves = [Indicate(line, scale_factor=1.06, color=EVICTED) for line in same]
        self.beat("... Ben's story, to the letter. She asked for a fox.", *moves, pause=2.6)
        self.beat("A prefix that is not there any more has spoken: a ghost.", pause=2.4)

    def _check(self) -> None:
        ben, cleo, note = self.told.checked["Ben"], self.told.checked["Cleo"], self.told.note
        self.people["Cleo"].forget()
        moves = self.row.tell(ben.version, *_parts(ben))
        self.row.turn_pale()
        self.beat("Once more, with a check. The slot as Ben left it, and Cleo with her note.", *moves, pause=1.6)
        self.row.badge.ring.set_stroke(EVICTED, 5)
        self.note.frame.set_stroke(EVICTED, 5)
        words = f"Her note says version {note['version']}. The slot says version {ben.version}. They differ."
        self.beat(words, Indicate(self.note.words, scale_factor=1.06, color=EVICTED), pause=2.4)
        refused = put_left(Label(self.told.words["refused"], BODY, EVICTED), LEFT, CHECK_Y)
        words = "Somebody else had the slot since. The note is refused, and she looks again."
        self.beat(words, FadeIn(refused), pause=3.4)
        words = f"{cleo.kept_len} tokens are still right, and are reused (R). The fox is computed anew."
        self._reuse(cleo, "Cleo", words, FadeOut(refused), FadeOut(self.note))
        self._write(cleo, "And Cleo is told what she asked for.", "Cleo", REUSED)

    def _moral(self) -> None:
        answers = {"without the check": self.told.believed["Cleo"], "with the check": self.told.checked["Cleo"]}
        lines = []
        for index, (name, turn) in enumerate(answers.items()):
            y = NOTE_Y - index * 0.6
            color = (EVICTED, REUSED)[index]
            lines += [
                put_left(Label(name, BODY, LINE), LEFT, y),
                put_left(Label(turn.answer, BODY, color), LEFT + 2.9, y),
            ]
        shown = [FadeIn(line) for line in lines]
        self.beat("Two numbers were compared. That is all it takes to lay a ghost.", *shown, pause=3.0)
        self.beat("AstrAI looks only as it hands a slot out, and still compares the versions.", pause=3.0)

    def _reuse(self, turn: Turn, name: str, caption: str, *more: Animation) -> None:
        """The slot is handed out with what it holds of the prompt, or seems to hold."""
        self.people[name].act(True)
        self.beat(caption, *more, *self.row.tell(turn.version, (turn.kept, "reused")), pause=2.4)

    def _write(self, turn: Turn, caption: str, name: str, color: str = INK) -> None:
        """The rest of a prompt is computed, then the answer."""
        moves = [*self.row.tell(turn.version, *_parts(turn)), *self.people[name].hear(turn.answer, color)]
        self.beat(caption, *moves, pause=2.6)

    def _leave(self, name: str, caption: str, *pointed_at: Mobject) -> None:
        self.people[name].act(False)
        self.row.turn_pale()
        self.beat(caption, *(Indicate(shape, scale_factor=1.1, color=INK) for shape in pointed_at), pause=2.6)

    def shown(self) -> dict[str, Any]:
        """What can be read: the answers, and the slot with its version and its words."""
        return {"answers": {name: person.shown() for name, person in self.people.items()}, "slot": self.row.shown()}


def _parts(turn: Turn) -> list[Part]:
    parts = ((turn.kept, "reused"), (turn.computed, "prefill"), (turn.answer, "decode"))
    return [(text, role) for text, role in parts if text]

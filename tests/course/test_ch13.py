"""Chapter 13: what learners write by mistake is named, what they write in another style passes, the ghosts are real."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from astrai.course.catalogue import exercise
from astrai.course.chapters.ch13_runs import FOX, FROG, ask, model, new_engine
from astrai.course.checking import judge
from astrai.course.ghost import BelievedNotes, CheckedNotes, NotesOnArrival, TakesOver
from astrai.course.pages import PAGE, Pages
from astrai.course.stale_slot import Held, StaleSlot
from astrai.inference.cache.slots import Handle, SlotAllocator, SlotError

# --- 13.2 -------------------------------------------------------------------------------------------------------------


class Right(SlotAllocator):
    def renew(self, slot):
        self.versions[slot] += 1
        return Handle(slot, self.versions[slot])

    def check(self, handle):
        if handle.version != self.versions[handle.slot]:
            raise SlotError(f"slot {handle.slot}: {handle.version}, but {self.versions[handle.slot]}")


class GlobalClock(SlotAllocator):
    """Another style: one count for all slots. Versions of a slot rise, though not by one."""

    clock = 100

    def renew(self, slot):
        self.clock += 1
        self.versions[slot] = self.clock
        return Handle(slot, self.clock)

    def check(self, handle):
        slot, seen = handle
        if self.handle(slot) == handle:
            return
        raise SlotError(f"slot {slot}: you have v{seen}, it is v{self.versions[slot]}")


class OwnBooks(SlotAllocator):
    """Another style: versions in a dictionary of its own."""

    def __init__(self, num_slots):
        super().__init__(num_slots)
        self.count = {}

    def renew(self, slot):
        self.count[slot] = self.count.get(slot, 0) + 1
        return self.handle(slot)

    def handle(self, slot):
        return Handle(slot, self.count.get(slot, 0))

    def check(self, handle):
        if not self.count.get(handle.slot, 0) == handle.version:
            raise SlotError(" ".join(map(str, ["stale:", *handle, "now", self.count.get(handle[0], 0)])))


class NoReturn(Right):
    def renew(self, slot):
        self.versions[slot] += 1


class JustTheNumber(Right):
    def renew(self, slot):
        self.versions[slot] += 1
        return self.versions[slot]


class OldHandle(Right):
    def renew(self, slot):
        handle = Handle(slot, self.versions[slot])
        self.versions[slot] += 1
        return handle


class NotStored(Right):
    def renew(self, slot):
        return Handle(slot, self.versions[slot] + 1)


class NeverRaised(Right):
    def renew(self, slot):
        return Handle(slot, self.versions[slot])


class AllRaised(Right):
    def renew(self, slot):
        self.versions = [version + 1 for version in self.versions]
        return self.handle(slot)


class Flag(Right):
    def renew(self, slot):
        self.versions[slot] ^= 1
        return self.handle(slot)


class EightBits(Right):
    def renew(self, slot):
        self.versions[slot] = (self.versions[slot] + 1) % 256
        return self.handle(slot)


class ReturnsFalse(Right):
    def check(self, handle):
        return handle.version == self.versions[handle.slot]


class Asserts(Right):
    def check(self, handle):
        assert handle.version == self.versions[handle.slot]


class OnlyOlder(Right):
    def check(self, handle):
        if handle.version < self.versions[handle.slot]:
            raise SlotError(f"slot {handle.slot}: {handle.version}, but {self.versions[handle.slot]}")


class Inverted(Right):
    def check(self, handle):
        if handle.version == self.versions[handle.slot]:
            raise SlotError("stale")


class SaysNothing(Right):
    def check(self, handle):
        if handle.version != self.versions[handle.slot]:
            raise SlotError("this handle is stale")


class WrongList(Right):
    def check(self, handle):
        if handle.version != self.versions[0]:
            raise SlotError("stale")


class SameObject(Right):
    def check(self, handle):
        if handle.version is not self.versions[handle.slot]:
            raise SlotError(f"slot {handle.slot}: {handle.version}, but {self.versions[handle.slot]}")


class Misspelt(SlotAllocator):
    renew = Right.renew

    def chek(self, handle):
        Right.check(self, handle)


class NothingWritten(SlotAllocator):
    pass


@pytest.mark.parametrize("thing", [Right, GlobalClock, OwnBooks])
def test_versions_pass_in_any_style(thing):
    assert judge(exercise("13.2"), thing).passed


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (NoReturn, "returns nothing: is the return missing?"),
        (JustTheNumber, "must return the slot's new handle, Handle(1, version), and returns 1"),
        (OldHandle, "returns a handle of version 0, but then slot 1 is at version 1: raise the number"),
        (NotStored, "returns a handle of version 1, but then slot 1 is at version 0: raise the number"),
        (NeverRaised, "gave version 0 twice"),
        (AllRaised, "the handle of slot 0, when only slot 1 was renewed"),
        (Flag, "lowered the version from 1 to 0"),
        (EightBits, "goes from 255 to 0"),
        (ReturnsFalse, "must raise a SlotError, and raises none: it returned False"),
        (Asserts, "must raise a SlotError, and raises an AssertionError"),
        (
            OnlyOlder,
            "check of a handle whose version is yet to come (slot 1 at version 3, while slot 1 is at version 2)",
        ),
        (Inverted, "which is good"),
        (SaysNothing, "does not say the slot (2) and the version seen (5) and the one of now (6)"),
        (WrongList, "check refuses the handle that renew(1) has just returned"),
        (SameObject, "made anew (`==` compares numbers, `is` asks for the same object)"),
        (Misspelt, "Misspelt has no `check` of its own, so SlotAllocator answers"),
        (NothingWritten, "NothingWritten has no `renew` of its own"),
        (SlotAllocator, "This SlotAllocator is AstrAI's own"),
    ],
)
def test_wrong_versions_are_told_what_is_wrong(thing, words):
    verdict = judge(exercise("13.2"), thing)
    assert not verdict.passed and words in verdict.lines[0], verdict


class RenewsOnTheSide(Right):
    """Right by itself, wrong below the engine: a slot that is handed out is not renewed."""

    def allocate(self, among=None):
        candidates = self.free_mask if among is None else self.free_mask & among
        lowest = candidates & -candidates
        self.free_mask ^= lowest
        return self.handle(lowest.bit_length() - 1)


def test_versions_are_tried_below_the_engine_as_well():
    assert "before the engine handed the slot out again" in judge(exercise("13.2"), RenewsOnTheSide).lines[0]


# --- 13.3 -------------------------------------------------------------------------------------------------------------


class Compares(BelievedNotes):
    """Another style: without check."""

    def trusts(self, note):
        return note.handle == self.slots.handle(note.handle.slot)


class ElseBranch(BelievedNotes):
    """Another style."""

    def trusts(self, note):
        try:
            self.slots.check(note.handle)
        except SlotError as error:
            self.refused = str(error)
        else:
            return True
        return False


class LetsItOut(BelievedNotes):
    def trusts(self, note):
        self.slots.check(note.handle)
        return True


class NoAnswer(BelievedNotes):
    def trusts(self, note):
        try:
            self.slots.check(note.handle)
        except SlotError:
            return False


class TrustsNobody(BelievedNotes):
    def trusts(self, note):
        return False


class AsksIfFree(BelievedNotes):
    def trusts(self, note):
        return bool(self.slots.free_mask >> note.handle.slot & 1)


class AsksTheLength(BelievedNotes):
    def trusts(self, note):
        return self.tree.end_node(note.handle.slot).end >= note.length


class TheOtherWayRound(BelievedNotes):
    def trusts(self, note):
        try:
            self.slots.check(note.handle)
        except SlotError:
            return True
        return False


class NewHandle(BelievedNotes):
    def trusts(self, note):
        try:
            self.slots.check(self.slots.handle(note.handle.slot))
        except SlotError:
            return False
        return True


class AsText(BelievedNotes):
    def trusts(self, note):
        return str(note.handle == self.slots.handle(note.handle.slot))


class MisspeltTrust(BelievedNotes):
    def trust(self, note):
        return note.handle == self.slots.handle(note.handle.slot)


class Always(BelievedNotes):
    def trusts(self, note):
        return True


class EndlessReader(BelievedNotes):
    def trusts(self, note):
        while True:
            self.looked = note


class AsInThePackage(BelievedNotes):
    trusts = CheckedNotes.trusts


@pytest.mark.parametrize("thing", [AsInThePackage, Compares, ElseBranch])
def test_readers_of_notes_pass_in_any_style(thing):
    assert judge(exercise("13.3"), thing).passed


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (BelievedNotes, "This BelievedNotes is AstrAI's own"),
        (MisspeltTrust, "MisspeltTrust has no `trusts` of its own, so BelievedNotes answers"),
        (Always, "of a row that was handed out again, and is in use is True and should be False"),
        (AsText, "returns the text 'True', which counts as true: return `True` or `False`, without quotes"),
        (EndlessReader, "Your code does not come to an end"),
        (LetsItOut, "lets a SlotError out for a note of a row that was handed out again"),
        (NoAnswer, "returns nothing (`None`) for a note of a row that has not changed hands"),
        (TrustsNobody, "of a row that has not changed hands, and is in use is False and should be True"),
        (AsksIfFree, "of a row that has not changed hands, and is in use is False"),
        (AsksTheLength, "trusts(note)"),
        (TheOtherWayRound, "is False and should be True"),
        (NewHandle, "handed out again, and is in use is True and should be False"),
    ],
)
def test_wrong_readers_are_told_what_is_wrong(thing, words):
    verdict = judge(exercise("13.3"), thing)
    assert not verdict.passed and words in verdict.lines[0], verdict


# --- 13.5 -------------------------------------------------------------------------------------------------------------


class Mended(TakesOver):
    def take_over(self, slot, length):
        handle = self.slots.allocate(among=1 << slot)
        return handle, self.tree.cut(handle, length)


class ByHand(TakesOver):
    """Another style: the planted lines stay, and what is missing comes after them."""

    def take_over(self, slot, length):
        super().take_over(slot, length)
        changes = []
        handle = self.slots.renew(slot)
        changes.extend(self.tree.cut(handle, length))
        return handle, changes


class OnlyRenewed(TakesOver):
    def take_over(self, slot, length):
        return self.slots.allocate(among=1 << slot), []


class OnlyCut(TakesOver):
    def take_over(self, slot, length):
        handle, _ = super().take_over(slot, length)
        return handle, self.tree.cut(handle, length)


class CutBefore(TakesOver):
    def take_over(self, slot, length):
        changes = self.tree.cut(self.slots.handle(slot), length)
        return self.slots.allocate(among=1 << slot), changes


class CutToNothing(TakesOver):
    def take_over(self, slot, length):
        handle = self.slots.allocate(among=1 << slot)
        return handle, self.tree.cut(handle, 0)


class AnySlot(TakesOver):
    def take_over(self, slot, length):
        handle = self.slots.allocate()
        return handle, self.tree.cut(handle, length)


class NotTaken(TakesOver):
    def take_over(self, slot, length):
        handle = self.slots.renew(slot)
        return handle, self.tree.cut(handle, length)


class ChangesLost(TakesOver):
    def take_over(self, slot, length):
        handle = self.slots.allocate(among=1 << slot)
        self.tree.cut(handle, length)
        return handle, []


class OneThing(TakesOver):
    def take_over(self, slot, length):
        handle = self.slots.allocate(among=1 << slot)
        self.tree.cut(handle, length)
        return handle


class OneTooFew(TakesOver):
    def take_over(self, slot, length):
        handle = self.slots.allocate(among=1 << slot)
        return handle, self.tree.cut(handle, length - 1)


class AsListOfTwo(Mended):
    """Another style: the two things in a list, the changes as a tuple."""

    def take_over(self, slot, length):
        handle, changes = super().take_over(slot, length)
        return [handle, tuple(changes)]


class Unchanged(TakesOver):
    """The planted lines, written once more."""

    def take_over(self, slot, length):
        self.slots.free_mask ^= 1 << slot
        return self.slots.handle(slot), []


class MisspeltTakeOver(TakesOver):
    def takeover(self, slot, length):
        return Mended.take_over(self, slot, length)


class Nested(Mended):
    def take_over(self, slot, length):
        handle, changes = super().take_over(slot, length)
        return handle, [changes]


class Swapped(Mended):
    def take_over(self, slot, length):
        return super().take_over(slot, length)[::-1]


class ForgotReturn(Mended):
    def take_over(self, slot, length):
        super().take_over(slot, length)


@pytest.mark.parametrize("thing", [Mended, ByHand, AsListOfTwo])
def test_rows_that_change_hands_pass_in_any_style(thing):
    assert judge(exercise("13.5"), thing).passed


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (TakesOver, "This TakesOver is AstrAI's own"),
        (MisspeltTakeOver, "MisspeltTakeOver has no `take_over` of its own, so TakesOver answers"),
        (Unchanged, "leaves slot 1 at version 1"),
        (Nested, "The list of changes holds a list: return the list that `cut` returned, as it is."),
        (Swapped, "in the wrong order: the handle comes first"),
        (ForgotReturn, "returns two things, the new handle and the list of changes; yours is None"),
        (OnlyRenewed, "The tokens that row 1 holds in the eyes of the tree after take_over(1, 3): 5 items"),
        (OnlyCut, "leaves slot 1 at version 1"),
        (CutBefore, "The version at which the tree knows the row"),
        (CutToNothing, "The tokens that row 1 holds in the eyes of the tree"),
        (AnySlot, "another slot is taken in its place"),
        (NotTaken, "slot 1 still counts as free"),
        (ChangesLost, "return what `cut` returned"),
        (OneThing, "returns two things"),
        (OneTooFew, "The tokens that row 1 holds in the eyes of the tree"),
    ],
)
def test_wrong_hand_overs_are_told_what_is_wrong(thing, words):
    verdict = judge(exercise("13.5"), thing)
    assert not verdict.passed and words in " ".join(verdict.lines), verdict


class RightOnlyWhenLong(Mended):
    """Right in the small situation, wrong on the engine."""

    def take_over(self, slot, length):
        return super().take_over(slot, length) if length < 8 else TakesOver.take_over(self, slot, length)


def test_the_engine_tells_in_whose_answer_the_ghost_speaks():
    verdict = judge(exercise("13.5"), RightOnlyWhenLong)
    assert "Cleo asks for a fox and reads what is not meant for Cleo" in verdict.lines[0]
    rows = dict(verdict.rows)
    assert "fox" in rows["expected"] and "frog" in rows["yours"]


# --- the ghosts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cache", "which"), [(BelievedNotes, "believed"), (CheckedNotes, "checked")])
def test_the_chapter_tells_the_film_s_story_in_the_film_s_words(cache, which):
    told = json.loads((Path(__file__).parents[2] / "animations" / "traces" / "ghost.json").read_text())
    assert (told["asked"]["Ann"], told["asked"]["Ben"], told["asked"]["Cleo"]) == (FOX, FROG, FOX)
    engine = new_engine(scheduler=NotesOnArrival, prefix_cache=cache)
    answers = [*ask(engine, FOX), *ask(engine, FROG, FOX)]
    assert dict(zip(("Ann", "Ben", "Cleo"), answers, strict=True)) == told[which]
    note = engine.scheduler.cache.notes[2]
    assert {"slot": note.handle.slot, "version": note.handle.version, "length": note.length} == told["note"]


def test_a_checked_story_is_that_of_the_engine_without_notes():
    plain, checked = new_engine(), new_engine(scheduler=NotesOnArrival, prefix_cache=CheckedNotes)
    told = [[*ask(engine, FOX), *ask(engine, FROG, FOX)] for engine in (plain, checked)]
    assert told[0] == told[1] and len(set(told[0])) == 2
    assert checked.scheduler.totals == plain.scheduler.totals


def pages_of_two() -> tuple[Pages, list[int], list[Handle]]:
    """Ann has read 7 tokens and her pages were given back; Ben has read his answer."""
    transformer, tokenizer = model()
    fox, frog = (tokenizer.apply_chat_template([{"role": "user", "content": text}]) for text in (FOX, FROG))
    pages, table = Pages(transformer, SlotAllocator(24)), []
    pages.go_on(table, fox, num_tokens=7, start=0)
    for handle in table:
        pages.slots.free(handle)
    pages.go_on([], frog, num_tokens=16, start=0)
    return pages, fox, table


def test_pages_write_what_the_engine_writes():
    transformer, tokenizer = model()
    ids, table = tokenizer.apply_chat_template([{"role": "user", "content": FROG}]), []
    Pages(transformer, SlotAllocator(24)).go_on(table, ids, num_tokens=16, start=0)
    assert tokenizer.decode(ids[12:]) == ask(new_engine(), FROG)[0]
    assert len(table) == -(-(len(ids) - 1) // PAGE)


def test_a_stale_page_table_tells_another_story_and_a_checked_one_is_refused():
    pages, ids, table = pages_of_two()
    pages.go_on(table, ids, num_tokens=9)
    (fox,) = ask(new_engine(), FOX)
    spoilt = model()[1].decode(ids[12:])
    assert spoilt != fox and spoilt.split()[:4] == fox.split()[:4]

    pages, ids, table = pages_of_two()
    pages.find = lambda table: [pages.slots.check(handle) or handle.slot for handle in table]
    with pytest.raises(SlotError, match="stale"):
        pages.go_on(table, ids, num_tokens=9)
    pages.go_on([], ids, num_tokens=9, start=0)
    assert model()[1].decode(ids[12:]) == fox


@pytest.mark.parametrize("says", ["Hello.", FROG])
def test_poison_is_read_only_where_less_was_written_than_the_note_promised(says):
    tokenizer = model()[1]
    engine = new_engine(scheduler=NotesOnArrival, prefix_cache=BelievedNotes, poison=True)
    ask(engine, FOX)
    written = (
        len(tokenizer.apply_chat_template([{"role": "user", "content": says}])) + 3
    )  # of 4 tokens, the last is not
    ask(engine, says, FOX, max_tokens=4)
    length = engine.scheduler.cache.notes[2].length
    read = engine.kv_cache.k_cache[:, 0, :, :length]
    assert bool((read.abs() > 1000).any()) == (written < length) == (says != FROG)


# --- the picture ------------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def drawn(picture: StaleSlot) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(picture._repr_svg_()).iter(f"{SVG}text")]


def test_the_picture_says_where_note_and_slot_part():
    picture = StaleSlot(Held(1, ["a", " fox", "."]), Held(2, ["a", " frog", ".", " sat"]), whose="Cleo's note")
    assert (picture.is_stale, picture.parting) == (True, 1)
    assert repr(picture).splitlines()[2:] == picture.verdict()
    assert picture.verdict()[1] == 'They part at token 1: Cleo\'s note says " fox", slot 0 holds " frog".'
    words = drawn(picture)
    assert {"slot 0  v2", "Cleo's note  v1", *picture.verdict()} <= set(words)
    # Behind the first difference nothing is right, though the full stop stands in both.
    assert [word for word in words if word in ("H", "E")] == ["H", "E", "E"]


def test_a_true_note_has_no_parting_and_equal_versions_do_not_hide_one():
    true = StaleSlot(Held(2, ["a", "b"]), Held(2, ["a", "b", "c"]))
    assert true.parting is None and true.verdict()[1] == "What the note says is what stands there."
    ghost = StaleSlot(Held(2, ["a", "b"]), Held(2, ["a", "x"]))
    assert ghost.verdict()[0] == "The versions agree: both are 2." and ghost.verdict()[1].startswith(
        "And yet they part"
    )


def test_a_note_that_promises_more_than_there_is_parts_where_the_slot_ends():
    picture = StaleSlot(Held(1, ["a", "b", "c"]), Held(2, ["a"]), where="page 3", whose="Ann's table")
    assert picture.verdict()[1] == 'They part at token 1: Ann\'s table says "b", page 3 holds nothing there.'
    assert StaleSlot(Held(1, ["a", ""]), Held(2, ["a"])).parting == 1


def test_a_picture_of_later_positions_counts_from_where_it_starts():
    picture = StaleSlot(Held(1, ["a", "b"]), Held(2, ["a", "x"]), start=8)
    assert picture.verdict()[1] == 'They part at token 9: the note says "b", slot 0 holds "x".'
    assert {"8", "9"} <= set(drawn(picture)) and "1" not in drawn(picture)


def test_nothing_is_drawn_outside_of_the_picture_however_much_there_is():
    pieces = [f" word{i}" for i in range(60)] + ["x" * 300]
    root = ElementTree.fromstring(StaleSlot(Held(1, pieces), Held(2, pieces[::-1]))._repr_svg_())
    width, height = float(root.get("width")), float(root.get("height"))
    assert width <= 600, "it fits beside the prompt in a narrow window"
    for rect in root.iter(f"{SVG}rect"):
        assert float(rect.get("x")) + float(rect.get("width")) <= width
        assert float(rect.get("y")) + float(rect.get("height")) <= height
    assert max(float(text.get("y")) for text in root.iter(f"{SVG}text")) < height

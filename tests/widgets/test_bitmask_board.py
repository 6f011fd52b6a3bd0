import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import pytest

from astrai.inference.cache.slots import Handle, SlotAllocator
from astrai.widgets.bitmask_board import BitmaskBoard
from astrai.widgets.twins.bitmask import Desk, bitmask_svg, bitmask_text, lowest_bit


class Careless(SlotAllocator):
    """A learner's first try: it takes the highest free slot, and anything back."""

    def allocate(self, among: int | None = None) -> Handle:
        slot = self.free_mask.bit_length() - 1
        self.free_mask ^= 1 << slot
        return self.renew(slot)

    def free(self, handle: Handle) -> None:
        self.free_mask |= 1 << handle.slot


class Sharing(SlotAllocator):
    """Hands out slot 0 to everybody."""

    def allocate(self, among: int | None = None) -> Handle:
        self.free_mask &= ~1
        return self.renew(0)


class Broken(SlotAllocator):
    """Frees more than was asked for, and allocates nothing."""

    def allocate(self, among: int | None = None) -> Handle:
        raise NotImplementedError

    def free(self, handle: Handle) -> None:
        self.free_mask |= 2 << handle.slot


def after(slots: Any, *actions: int | None) -> Desk:
    """A desk after some actions: ``None`` allocates, a number frees that slot."""
    desk = Desk(slots)
    for slot in actions:
        if slot is None:
            desk.allocate()
        else:
            desk.free(slot)
    return desk


# --- what is done and said --------------------------------------------------------------------------------------------


def test_each_action_goes_through_the_allocator():
    slots = SlotAllocator(4)
    desk = after(slots, None, None, None, 1)
    assert slots.free_mask == 0b1010
    assert desk.view() == {
        "num_slots": 4,
        "mask": "1010",
        "last": {"do": "free", "slot": 1, "ok": True, "words": "free(slot 1)"},
        "history": ["allocate() gave slot 0", "allocate() gave slot 1", "allocate() gave slot 2", "free(slot 1)"],
        "trouble": None,
    }


def test_a_refusal_is_shown_in_the_allocators_own_words():
    assert after(SlotAllocator(2), 1).last == {
        "do": "free",
        "slot": 1,
        "ok": False,
        "words": "free(slot 1) refused: slot 1 is free already: two owners would share it",
    }
    assert after(SlotAllocator(1), None, None).last["words"] == (
        "allocate() refused: no free slot among all: free are []"
    )
    assert after(Broken(2), None).last["words"] == "allocate() refused: NotImplementedError"


@pytest.mark.parametrize(
    ("slots", "actions", "words"),
    [
        (Careless(3), [None], "allocate() gave slot 2, but the lowest free slot was 0"),
        (Careless(3), [1], "free(slot 1), but it was free already and this should be refused: two owners would share"),
        (Sharing(3), [None, None], "allocate() gave slot 0, but slot 0 was not free: two owners would share it"),
        (Broken(3), [0], "free(slot 0), but it was free already"),
    ],
)
def test_an_allocator_that_does_wrong_is_told_so(slots: Any, actions: list[int | None], words: str):
    last = after(slots, *actions).last
    assert last["words"].startswith(words)
    assert not last["ok"]


def test_a_mask_with_bits_that_are_no_slots_is_told():
    slots = Broken(2)
    desk = after(slots, 1)
    assert slots.free_mask == 0b111
    assert desk.view()["trouble"] == "free_mask is 0b111, but there are only the slots 0 to 1"
    assert desk.view()["mask"] == "11"
    assert "0b111" in bitmask_text(desk.view()) and "0b111" in bitmask_svg(desk.view())


def test_the_history_is_bounded():
    desk = after(SlotAllocator(64), *[None] * 20)
    assert desk.view()["history"] == [f"allocate() gave slot {slot}" for slot in range(12, 20)]


@pytest.mark.parametrize("mask", [0b0, 0b1, 0b1000, 0b101100, (1 << 200) + (1 << 77)])
def test_the_sum_finds_the_lowest_bit(mask: int):
    bits = f"{mask:0256b}"
    negative, found, slot = lowest_bit({"num_slots": 256, "mask": bits})
    flipped = "".join("10"[int(bit)] for bit in bits)
    assert int(negative, 2) == (int(flipped, 2) + 1) % (1 << 256)
    assert slot == (bits[::-1].index("1") if mask else None)
    assert found.count("1") == (mask > 0) and (slot is None or found[-1 - slot] == "1")


# --- twins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_slots", [1, 8, 64, 256])
@pytest.mark.parametrize("width", [320, 960])
def test_the_svg_shows_every_bit_and_the_text_says_the_same(num_slots: int, width: int):
    view = after(SlotAllocator(num_slots), None, 0, None).view()
    drawn = bitmask_svg(view, width=width)
    assert drawn == bitmask_svg(view, width=width)
    root = ElementTree.fromstring(drawn)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    negative, found, slot = lowest_bit(view)
    for bits in (view["mask"], negative, found):
        assert bits in bitmask_text(view)
    assert sum(text in ("0", "1") for text in texts) >= 3 * num_slots
    words = "no slot is free" if slot is None else f"slot {slot} is the lowest free one"
    assert words in bitmask_text(view) and any(words in text for text in texts)
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(box.get("x")) + float(box.get("width")) <= width


def test_the_widget_brings_its_twins_along():
    board = BitmaskBoard(SlotAllocator(4))
    board.allocate()
    bundle, _ = board._repr_mimebundle_()
    assert bundle["text/plain"] == board.text() == bitmask_text(board.view)
    assert bundle["image/svg+xml"] == board.svg()
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_board_that_is_shown_again_looks_at_the_allocator_again():
    slots = SlotAllocator(4)
    board = BitmaskBoard(slots)
    slots.allocate()
    board._repr_mimebundle_()
    assert board.view["mask"] == "1110"


def test_without_anywidget_the_drawing_works_and_the_board_names_the_extra():
    code = """
import sys
sys.modules["anywidget"] = None
from astrai.widgets.twins.bitmask import Desk, bitmask_text
from astrai.widgets.twins.radix_tree import radix_tree_svg
try:
    import astrai.widgets.bitmask_board
except ImportError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "the bitmask board needs anywidget: pip install 'astrai[lab]'\n"


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(page: Any, mount: Any) -> Any:
    mount("bitmask_board", functions=["makeBitmaskBoard"])
    return page


def put(page: Any, slots: Any) -> BitmaskBoard:
    """A board in the page whose clicks go to the Python widget, and whose view comes back."""
    board = BitmaskBoard(slots)

    def clicked(message: dict[str, Any]) -> dict[str, Any]:
        board._clicked(board, message, [])
        return dict(board.view)

    page.expose_function("send", clicked)
    page.evaluate(
        """view => {
            window.host = document.body.appendChild(document.createElement("div"));
            const tell = message => send(message).then(view => board.draw({ ...view, animate: true }));
            window.board = makeBitmaskBoard(host, {
                onAllocate: () => tell({ do: "allocate" }),
                onFree: slot => tell({ do: "free", slot }),
            });
            board.draw(view);
        }""",
        board.view,
    )
    return board


def said(page: Any, words: str) -> None:
    page.wait_for_function("words => host.querySelector('[role=status]').textContent === words", arg=words)


def bits(page: Any) -> list[str]:
    """m, -m and m & -m as the page has them, the highest slot first."""
    lines = page.evaluate("""() => {
        const buttons = [...host.querySelectorAll("button[data-slot]")];
        const per = Number(host.style.getPropertyValue("--per"));
        const cells = [...host.querySelectorAll(".bit")].map(cell => cell.textContent);
        const words = [...host.querySelectorAll(".word")].map(word => {
            const found = [...word.querySelectorAll(".bit")].map(cell => cell.textContent);
            return [found.slice(0, found.length / 2).join(""), found.slice(found.length / 2).join("")];
        });
        const join = index => words.map(word => word[index]).join("");
        return [buttons.map(button => button.textContent).join(""), join(0), join(1)];
    }""")
    return lines


def test_clicks_allocate_and_free_slots_of_a_real_allocator(page: Any):
    slots = SlotAllocator(8)
    put(page, slots)
    for slot in range(3):
        page.get_by_role("button", name="allocate()").click()
        said(page, f"allocate() gave slot {slot}")
    page.get_by_label("slot 1, taken").click()
    said(page, "free(slot 1)")
    assert slots.free_mask == 0b11111010
    assert bits(page) == ["11111010", "00000110", "00000010"]
    assert page.locator(".bit.lowest").count() == 2
    assert page.locator("button.lowest").get_attribute("data-slot") == "1"
    assert page.locator(".history li").all_inner_texts()[-1] == "free(slot 1)"
    assert page.inner_text(".count") == "6 of 8 slots free"


def test_a_free_slot_that_is_freed_again_shows_the_refusal(page: Any):
    put(page, SlotAllocator(4))
    page.get_by_label("slot 2, free").click()
    said(page, "free(slot 2) refused: slot 2 is free already: two owners would share it")
    assert "wrong" in page.locator("[role=status]").get_attribute("class")


def test_when_nothing_is_free_the_page_says_so(page: Any):
    put(page, SlotAllocator(1))
    page.get_by_role("button", name="allocate()").click()
    said(page, "allocate() gave slot 0")
    assert "no slot is free" in page.inner_text(".finding")
    page.get_by_role("button", name="allocate()").click()
    said(page, "allocate() refused: no free slot among all: free are []")


def test_the_keyboard_allocates_moves_and_frees(page: Any):
    slots = SlotAllocator(8)
    put(page, slots)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    said(page, "allocate() gave slot 0")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.slot") == "0"
    assert "slot 0 is taken" in page.inner_text(".tip")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.dataset.slot") == "1"
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.dataset.slot") == "7"
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    said(page, "free(slot 0)")
    assert slots.free_mask == 0xFF
    assert page.evaluate("document.activeElement.dataset.slot") == "0"


@pytest.mark.parametrize(("num_slots", "width"), [(8, 400), (64, 400), (64, 1200), (256, 400), (256, 1200)])
def test_all_bits_fit_the_width_and_agree_with_the_text(page: Any, num_slots: int, width: int):
    page.set_viewport_size({"width": width, "height": 700})
    slots = SlotAllocator(num_slots)
    for _ in range(5):
        slots.allocate()
    board = put(page, slots)
    page.wait_for_function("width => host.clientWidth === width", arg=width)
    negative, found, _ = lowest_bit(board.view)
    assert bits(page) == [board.view["mask"], negative, found]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    smallest = page.evaluate(
        "Math.min(...[...host.querySelectorAll('*')].map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 11


def test_with_reduced_motion_nothing_swells(page: Any):
    page.emulate_media(reduced_motion="reduce")
    put(page, SlotAllocator(4))
    page.get_by_role("button", name="allocate()").click()
    said(page, "allocate() gave slot 0")
    assert page.evaluate("document.getAnimations().length") == 0

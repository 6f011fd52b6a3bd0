"""The free slots of a real allocator on a learner's screen, to be allocated and freed by hand."""

from __future__ import annotations

from typing import Any

from astrai.widgets.assemble import css, esm
from astrai.widgets.twins.bitmask import Desk, bitmask_svg, bitmask_text

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError(f"the bitmask board needs {error.name}: pip install 'astrai[lab]'", name=error.name) from error

GLUE = """
export default {
  render({ model, el }) {
    const board = makeBitmaskBoard(el, {
      onAllocate: () => model.send({ do: "allocate" }),
      onFree: (slot) => model.send({ do: "free", slot }),
    });
    const draw = () => board.draw({ ...model.get("view"), animate: true });
    model.on("change:view", draw);
    draw();
    return () => {
      model.off("change:view", draw);
      board.destroy();
    };
  },
};
"""


class BitmaskBoard(anywidget.AnyWidget):
    """A board on which each click goes through the allocator: its answer is what is shown, an error in its own words.

    Args:
        slots: a ``SlotAllocator``, or a class of your own with ``num_slots``, ``free_mask``, ``allocate()``,
            ``free(handle)`` and ``handle(slot)``.

    Example:
        >>> from astrai.inference.cache.slots import SlotAllocator
        >>> board = BitmaskBoard(SlotAllocator(4))
        >>> board.allocate()
        >>> print(board.text())
        3 of 4 slots are free, the highest on the left
        m       1110
        -m      0010
        m & -m  0010  slot 1 is the lowest free one
        allocate() gave slot 0
    """

    _esm = esm("bitmask_board") + GLUE
    _css = css()

    view = traitlets.Dict().tag(sync=True)  # see bitmask.Desk.view

    def __init__(self, slots: Any) -> None:
        self.desk = Desk(slots)
        super().__init__(view=self.desk.view())
        self.on_msg(self._clicked)

    def allocate(self) -> None:
        """Take the lowest free slot."""
        self.desk.allocate()
        self.refresh()

    def free(self, slot: int) -> None:
        """Give a slot back."""
        self.desk.free(slot)
        self.refresh()

    def refresh(self) -> None:
        """Look at the allocator again, after it was used elsewhere."""
        self.view = self.desk.view()

    def svg(self, width: int = 960) -> str:
        """The board as an SVG that stands for itself."""
        return bitmask_svg(self.desk.view(), width=width)

    def text(self) -> str:
        """The board in words."""
        return bitmask_text(self.desk.view())

    def _clicked(self, _: Any, message: dict[str, Any], buffers: Any) -> None:
        if message["do"] == "allocate":
            self.allocate()
        else:
            self.free(int(message["slot"]))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        self.refresh()
        shown = super()._repr_mimebundle_(**options)
        if shown is None:
            return None
        data, metadata = shown
        return {**data, "text/plain": self.text(), "image/svg+xml": self.svg()}, metadata

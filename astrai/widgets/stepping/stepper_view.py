"""A stepper on a notebook's page: what it shows goes there as one string of JSON, clicks come back as messages.

A page that is reloaded, or opened a second time, shows the same. The page asks for one thing at a time, also when it
plays, so the scheduler is never asked by two at once; the stepper's lock sees to the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from astrai.widgets.assemble import css, esm

PICTURES = ("slot_map", "radix_tree", "phase_timeline")
PANELS = ("stepper_source", "stepper_requests", "stepper_fork", "stepper_bar", "stepper", "stepper_widget")


class StepperView(anywidget.AnyWidget):
    """What JupyterLab shows of a ``SchedulerStepper``."""

    _esm = esm(*PICTURES, *PANELS)
    _css = css()

    face = traitlets.Unicode().tag(sync=True)  # JSON: SchedulerStepper.face(), and the last message that was answered

    def __init__(self, stepper: Any) -> None:
        super().__init__()
        self.stepper = stepper
        self._answered: str | None = None
        self._focus: tuple[str, int] | None = None
        stepper.changed = self.show
        self.show()
        self.on_msg(self._answer)

    def show(self) -> None:
        """Send what the stepper shows now."""
        face = self.stepper.face(self._focus) | {"answered": self._answered}
        self.face = json.dumps(face, separators=(",", ":"))

    def _answer(self, _: Any, message: dict[str, Any], __: Any) -> None:
        self._answered = message.get("id")
        try:
            if message["do"] == "focus":
                self._focus = None if message["slot"] is None else (message["run"], message["slot"])
            else:
                ACTIONS[message["do"]](self.stepper, message)
        except Exception as error:  # told on the page: nobody sees what is raised here
            self.stepper.said = str(error) or type(error).__name__
        self.show()


def _add(stepper: Any, message: dict[str, Any]) -> None:
    prompt = message["prompt"]
    if stepper.engine.tokenizer is None:
        prompt = [int(number) for number in prompt.replace(",", " ").split()]
    stepper.add(prompt, max_tokens=message["max_tokens"])


ACTIONS: dict[str, Callable[[Any, dict[str, Any]], object]] = {
    "step": lambda stepper, message: stepper.step(),
    "phase": lambda stepper, message: stepper.phase(),
    "goto": lambda stepper, message: stepper.goto(message["frame"]),
    "goto_step": lambda stepper, message: stepper.goto_step(message["step"]),
    "add": _add,
    "cancel": lambda stepper, message: stepper.cancel(message["request"]),
    "to_back": lambda stepper, message: stepper.to_back(message["request"]),
    "fork": lambda stepper, message: stepper.fork(message["step"], **message["then"]),
    "goto_fork": lambda stepper, message: stepper.goto_fork(message["step"]),
    "close_fork": lambda stepper, message: stepper.close_fork(),
}

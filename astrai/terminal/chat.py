"""A conversation in the terminal: answers stream, Ctrl-C stops one, the last line tells what it cost.

It knows the engine's public face only. Each turn sends the whole conversation again, as any chat client does; the
prefix cache is what makes that cheap, and the line of figures shows it (``cached``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import astrai

if TYPE_CHECKING:
    from astrai.config import SamplingParams
    from astrai.inference.engine import GenerationResult, InferenceEngine

HELP = "Write and press Enter. Ctrl-C stops an answer; /clear begins anew; Ctrl-D or /quit leaves."
NUM_SLOTS = 4  # one talks, the others remember


class Conversation:
    """Messages so far, and the engine that answers them."""

    def __init__(self, engine: InferenceEngine, sampling: SamplingParams, system: str | None = None) -> None:
        self.engine = engine
        self.sampling = sampling
        self._first = [{"role": "system", "content": system}] if system else []
        self.messages = list(self._first)

    @classmethod
    @contextmanager
    def open(cls, model: str, sampling: SamplingParams, system: str | None = None) -> Iterator[Self]:
        """Load a model and start an engine for as long as the block lasts."""
        with astrai.InferenceEngine(*astrai.load(model), num_slots=NUM_SLOTS) as engine:
            yield cls(engine, sampling, system)

    def clear(self) -> None:
        """Forget all but the system message."""
        self.messages = list(self._first)

    def say(self, text: str) -> bool:
        """Send ``text``, print the answer as it comes, and remember both; ``False`` when there was no answer."""
        from astrai.inference.engine import GenerationError

        messages = [*self.messages, {"role": "user", "content": text}]
        request = astrai.GenerationRequest(messages=messages, sampling=self.sampling)
        try:
            stream = self.engine.submit(request)
        except ValueError as error:
            return _complain(f"{error} (/clear begins anew)" if self.messages else str(error))
        pieces = []
        try:
            for piece in stream:
                pieces.append(piece)
                sys.stdout.write(piece)
                sys.stdout.flush()
        except KeyboardInterrupt:
            stream.cancel()
        except GenerationError as error:
            return _complain(f"\nthe engine could not answer: {error}")
        result = stream.result()
        sys.stdout.write("\n")
        sys.stdout.flush()
        # NOTE: what was shown, not all that was made: after Ctrl-C the two differ by what was under way.
        self.messages = [*messages, {"role": "assistant", "content": "".join(pieces)}]
        _dim(figures(result))
        return True


def converse(conversation: Conversation) -> None:
    """Read and answer until the input ends."""
    _dim(HELP)
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            _dim(HELP)
            continue
        if text in ("/quit", "/exit"):
            return
        if text == "/clear":
            conversation.clear()
            _dim("A new conversation.")
        elif text:
            conversation.say(text)


def figures(result: GenerationResult) -> str:
    """One line on what an answer cost, such as ``61 tokens, 180.3 tokens/s, first after 34 ms, 40 of 52 cached``."""
    parts = [f"{result.completion_tokens} tokens"]
    if len(result.token_times) > 1:
        seconds = result.token_times[-1] - result.token_times[0]
        parts.append(f"{(len(result.token_times) - 1) / max(seconds, 1e-9):.1f} tokens/s")
    if result.ttft is not None:
        parts.append(f"first after {result.ttft * 1000:.0f} ms")
    parts.append(f"{result.cached_tokens} of {result.prompt_tokens} prompt tokens cached")
    return f"[{', '.join(parts)}; {result.finish_reason}]"


def _dim(text: str) -> None:
    sys.stderr.write(f"\x1b[2m{text}\x1b[0m\n" if sys.stderr.isatty() else f"{text}\n")
    sys.stderr.flush()


def _complain(text: str) -> bool:
    sys.stderr.write(f"{text}\n")
    return False

"""Where a request's tokens become text: filled by the loop thread, read by as many client threads as like to.

It decodes tokens as they come, holds back what may still become a stop string, and wakes whoever listens. It knows no
scheduler and no model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

from astrai.inference.request import Ending, Sampled, Sink
from astrai.tokenizer import StreamDecoder


class StopStrings:
    """Passes text on until the first stop string, of which not even a part is ever given out.

    Example:
        >>> stop = StopStrings(["END"])
        >>> [stop.put("the E"), stop.put("agle EN"), stop.put("D of"), stop.found]
        ['the ', 'Eagle ', '', True]
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = tuple(strings)
        self.found = False
        self._held = ""

    def put(self, text: str) -> str:
        """Take a piece; return what is certain not to belong to a stop string."""
        if self.found:
            return ""
        text = self._held + text
        places = [place for place in (text.find(string) for string in self.strings) if place >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        keep = max((_overlap(text, string) for string in self.strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text that was held back and turned out to be text."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, string: str) -> int:
    """The length of the longest end of ``text`` with which ``string`` begins."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)


class Accumulator(Sink):
    """The output of one request so far.

    Args:
        decoder: turns ids into text; ``None`` for requests that want ids alone.
        silent_ids: tokens that end the request and are no part of its text.
        on_token: called on the loop thread with each id; an exception in it ends the request.
    """

    def __init__(
        self,
        decoder: StreamDecoder | None,
        stop: Sequence[str] = (),
        silent_ids: Collection[int] = (),
        on_token: Callable[[int], None] | None = None,
    ) -> None:
        self.started = time.monotonic()
        self.pieces: list[str] = []
        self.piece_ends: list[int] = []  # for each piece, how many of the tokens were text when it was given out
        self.sampled: list[Sampled] = []
        self.token_times: list[float] = []  # seconds since it was submitted
        self.ending: Ending | None = None
        self._decoder = decoder
        self._stop = StopStrings(stop)
        self._silent_ids = frozenset(silent_ids)
        self._on_token = on_token
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._num_text_tokens = 0  # so far; the one that ended it is none, if it is silent

    # --- the loop's side ----------------------------------------------------------------------------------------------

    def on_token(self, sampled: Sampled) -> bool:
        """Take a token; ``True`` when a stop string is complete."""
        text = ""
        if self._decoder is not None and sampled.token_id not in self._silent_ids:
            text = self._stop.put(self._decoder.put(sampled.token_id))
        with self._changed:
            self.sampled.append(sampled)
            self.token_times.append(time.monotonic() - self.started)
            if sampled.token_id not in self._silent_ids:
                self._num_text_tokens = len(self.sampled)
            self._give_out(text)
        if self._on_token is not None:
            self._on_token(sampled.token_id)
        return self._stop.found

    def on_end(self, ending: Ending) -> None:
        """Take the end, and the text that was held back for what did not come."""
        text = ""
        try:
            if self._decoder is not None:
                text = self._stop.put(self._decoder.flush()) + self._stop.flush()
        finally:  # whatever the tokenizer does, nobody waits for ever
            with self._changed:
                self._give_out(text, ending)

    def _give_out(self, text: str, ending: Ending | None = None) -> None:
        if text:
            self.piece_ends.append(self._num_text_tokens)
            self.pieces.append(text)  # NOTE: after its end, since some readers look at both without the lock
        self.ending = ending  # NOTE: after the last piece, since some readers look at both without the lock
        if text or ending:
            self._changed.notify_all()
            for listener in self._listeners:
                listener()

    # --- the clients' side --------------------------------------------------------------------------------------------

    @property
    def num_text_tokens(self) -> int:
        """Tokens that the text is made of: not the one that ended it, nor those of a stop string alone."""
        if self._stop.found:
            return self.piece_ends[-1] if self.piece_ends else 0
        return self._num_text_tokens

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the loop thread at new text and at the end, or at once if there is any.

        It must not raise.
        """
        with self._changed:
            self._listeners.append(listener)
            if self.pieces or self.ending:
                listener()

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` no more."""
        with self._changed:
            self._listeners.remove(listener)

    def wait_for_piece(self, index: int) -> str | None:
        """Piece ``index`` of the text, as soon as it is there; ``None`` when the request ended before it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.pieces) > index or self.ending is not None)
            return self.pieces[index] if len(self.pieces) > index else None

    def wait_for_end(self, timeout: float | None = None) -> Ending:
        """How the request ended, as soon as it did.

        Raises:
            TimeoutError: it did not within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.ending is not None, timeout):
                raise TimeoutError(f"the request has not ended within {timeout} s; cancel() it or wait longer")
            assert self.ending is not None
            return self.ending

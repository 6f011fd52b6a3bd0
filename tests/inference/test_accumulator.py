"""Tokens to text, and stop strings against plain ``str.find``."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrai.inference.accumulator import Accumulator, StopStrings
from astrai.inference.request import Ending, Sampled


class Letters:
    """A decoder whose token ids are code points."""

    def put(self, token_id: int) -> str:
        return chr(token_id)

    def flush(self) -> str:
        return ""


def feed(accumulator: Accumulator, text: str) -> bool:
    return any([accumulator.on_token(Sampled(ord(letter))) for letter in text])


@given(
    st.lists(st.text("ab", max_size=4), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_stop_strings_cut_at_their_first_place_and_leak_no_part(pieces: list[str], strings: list[str]):
    stop, given_out, seen = StopStrings(strings), "", ""
    for piece in pieces:
        seen += piece
        given_out += stop.put(piece)
        places = [seen.find(string) for string in strings if string in seen]
        assert stop.found == bool(places)
        if places:
            # NOTE: the first string to be complete decides, even where a longer one began before it.
            assert seen.startswith(given_out) and any(seen[len(given_out) :].startswith(s) for s in strings)
            break
        longest = max(len(string) for string in strings)
        assert seen.startswith(given_out) and len(seen) - len(given_out) < longest
        held = seen[len(given_out) :]
        assert any(string.startswith(held) for string in strings)
    else:
        assert given_out + stop.flush() == "".join(pieces)


def test_a_stop_string_is_found_across_tokens_and_what_follows_is_dropped():
    output = Accumulator(Letters(), stop=["</s>"])
    assert not feed(output, "a < b</s")
    assert feed(output, "> more")
    output.on_end(Ending("stop"))
    assert "".join(output.pieces) == "a < b"


def test_text_held_for_a_stop_string_that_never_came_is_given_out_at_the_end():
    output = Accumulator(Letters(), stop=["stop!"])
    assert not feed(output, "please stop")
    assert "".join(output.pieces) == "please "
    output.on_end(Ending("length"))
    assert "".join(output.pieces) == "please stop"


def test_silent_ids_are_counted_but_are_no_text():
    output = Accumulator(Letters(), silent_ids=[ord("$")])
    feed(output, "hi$")
    output.on_end(Ending("stop"))
    assert "".join(output.pieces) == "hi" and len(output.sampled) == len(output.token_times) == 3


def test_waiting_readers_wake_for_text_and_for_the_end():
    output, got = Accumulator(Letters()), []

    def read() -> None:
        while (piece := output.wait_for_piece(len(got))) is not None:
            got.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    feed(output, "abc")
    output.on_end(Ending("length"))
    reader.join(5)
    assert got == ["a", "b", "c"] and not reader.is_alive()


def test_waiting_for_the_end_can_time_out():
    output = Accumulator(Letters())
    with pytest.raises(TimeoutError, match=r"has not ended within 0.01 s"):
        output.wait_for_end(0.01)
    output.on_end(Ending("cancelled"))
    assert output.wait_for_end() == Ending("cancelled")


def test_a_listener_that_comes_late_is_called_at_once():
    output, calls = Accumulator(Letters()), []
    feed(output, "a")
    output.listen(lambda: calls.append("call"))
    assert calls == ["call"]


def test_an_exception_of_on_token_reaches_the_scheduler():
    def fail(token_id: int) -> None:
        raise KeyError(token_id)

    with pytest.raises(KeyError):
        Accumulator(Letters(), on_token=fail).on_token(Sampled(65))

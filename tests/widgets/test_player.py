"""The player in the page gives the frames that Python gives, in whatever order it is asked."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from astrai.widgets.data.deltas import patch
from astrai.widgets.data.frames import frames, recording
from tests.widgets.runs import scripted_log, story_log, words

# JSON with sorted keys, so that Python and the page write the same value as the same text.
SORTED = """
const sorted = (value) => Array.isArray(value) ? value.map(sorted)
  : value && typeof value === "object"
    ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])])) : value;
window.written = (value) => JSON.stringify(sorted(value));
"""


@cache
def recorded(name: str) -> dict[str, Any]:
    if name == "story":
        log, decode = story_log()
        return recording(log, decode=decode)
    by = "phase" if name == "phases" else "step"
    return recording(scripted_log(seed=2, steps=70), by, decode=words, keyframe_every=16)


@pytest.fixture
def play(mount: Any) -> Any:
    def load(values: dict[str, Any]) -> Any:
        page = mount("player", functions=["makePlayer", "patch"])
        page.evaluate(f"(values) => {{ window.recording = JSON.parse(values); {SORTED} }}", json.dumps(values))
        page.evaluate("window.player = makePlayer(recording)")
        return page

    return load


@pytest.mark.parametrize("name", ["steps", "phases", "story"])
def test_every_frame_in_the_page_is_the_frame_in_python(play: Any, name: str) -> None:
    values = recorded(name)
    page = play(values)
    texts = page.evaluate("[...Array(player.count).keys()].map((index) => written(player.frame(index)))")
    for index, (text, state) in enumerate(zip(texts, frames(values), strict=True)):
        assert json.loads(text) == state, f"frame {index}"
    assert page.evaluate("[...Array(player.count).keys()].map(player.label)") == values["labels"]
    assert page.evaluate("player.count") == values["count"]


def test_frames_do_not_depend_on_the_order_in_which_they_are_asked_for(play: Any) -> None:
    page = play(recorded("steps"))
    asked = [70, 3, 4, 5, 4, 15, 16, 17, 16, 15, 33, 32, 31, 70, 0, 69, 69]
    expected = list(frames(recorded("steps")))
    got = page.evaluate("(asked) => asked.map((index) => written(player.frame(index)))", asked)
    assert [json.loads(text) for text in got] == [expected[index] for index in asked]


def test_playing_changes_nothing_in_the_recording(play: Any) -> None:
    page = play(recorded("steps"))
    assert page.evaluate("""() => {
        const before = written(recording);
        for (let index = 0; index < player.count; index += 1) player.frame(index);
        for (let index = player.count - 1; index >= 0; index -= 1) player.frame(index);
        return written(recording) === before;
    }""")


def test_a_step_forward_costs_one_patch_and_an_earlier_frame_starts_at_its_keyframe(play: Any) -> None:
    page = play(recorded("steps"))
    counts = page.evaluate("""() => {
        let reads = 0;
        const deltas = new Proxy(recording.deltas, { get: (list, key) => (reads += 1, list[key]) });
        const counting = makePlayer({ ...recording, deltas });
        return [20, 21, 21, 22, 20, 16, 40].map((index) => { reads = 0; counting.frame(index); return reads; });
    }""")
    assert counts == [4, 1, 0, 1, 4, 0, 8]


def test_a_frame_that_does_not_exist_is_refused(play: Any) -> None:
    page = play(recorded("steps"))
    for index in ("-1", "71", "1.5", "undefined"):
        message = page.evaluate(f"() => {{ try {{ player.frame({index}) }} catch (error) {{ return error.message }} }}")
        assert message == f"there is no frame {index}: they count from 0 to 70"


def test_a_recording_of_another_schema_is_refused(play: Any) -> None:
    page = play(recorded("steps"))
    message = page.evaluate("""() => {
        try { makePlayer({ ...recording, schema: 9 }) } catch (error) { return error.message }
    }""")
    assert message == "a recording of schema 9 is unknown here: this player reads schema 1"


PATCHES: list[tuple[Any, Any, Any]] = [
    ("🦊 fox", [1, " 🪁"], " fox 🪁"),
    ([1, 2, 3], [1, [4]], [2, 3, 4]),
    ([1, 2, 3], [1, 1, [9, 8]], [1, 9, 8, 3]),
    ([[1], [2]], {"1": {"0": 5}}, [[1], [7]]),
    ({"a": 1, "b": None}, {"a": [], "b": [[]], "c": [0]}, {"b": [], "c": 0}),
    (7, {}, 7),
    (None, [None], None),
]


def test_the_page_patches_as_python_does(play: Any) -> None:
    page = play(recorded("steps"))
    for before, delta, after in PATCHES:
        assert patch(before, delta) == after
        assert page.evaluate("([value, delta]) => patch(value, delta)", [before, delta]) == after

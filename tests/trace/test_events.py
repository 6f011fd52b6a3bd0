import json
from dataclasses import fields
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrai.trace import Record, jsonl
from astrai.trace.events import EVENT_TYPES, FINISH_REASONS, PHASES, FinishReason, Phase, from_json, to_json

INTS = st.integers(-(2**63), 2**63)
FLOATS = st.floats(allow_nan=False)
VALUES = INTS | FLOATS | st.text() | st.none() | st.booleans()
BY_HINT = {
    int: INTS,
    str: st.text(),
    float: FLOATS,
    Phase: st.sampled_from(PHASES),
    FinishReason: st.sampled_from(FINISH_REASONS),
    tuple[int, ...]: st.lists(INTS, max_size=5).map(tuple),
    tuple[tuple[str, Any], ...]: st.lists(
        st.tuples(st.text(), VALUES | st.tuples(st.tuples(INTS, FLOATS))), max_size=3
    ).map(tuple),
}


def events(name: str) -> st.SearchStrategy[Any]:
    hints = get_type_hints(EVENT_TYPES[name])
    return st.builds(
        EVENT_TYPES[name], **{field.name: BY_HINT[hints[field.name]] for field in fields(EVENT_TYPES[name])}
    )


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_every_event_survives_json(name):
    @settings(max_examples=30)
    @given(events(name))
    def check(event):
        again = from_json(json.loads(json.dumps(to_json(event))))
        assert again == event
        assert type(again) is type(event)

    check()


@given(st.sampled_from(sorted(EVENT_TYPES)).flatmap(events), st.integers(0, 10**12), FLOATS)
def test_a_record_is_one_ascii_line_that_keeps_its_stamps(event, seq, time):
    step = getattr(event, "step", 7)
    line = jsonl.record_line(Record(seq, step, time, event))
    values = json.loads(line)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    assert (values["seq"], values["step"], values["time"]) == (seq, step, time)
    assert from_json(values) == event


def test_an_unknown_event_is_refused_by_name():
    with pytest.raises(ValueError, match="'SlotExploded'"):
        from_json({"event": "SlotExploded", "slot": 1})

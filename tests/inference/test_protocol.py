"""Reading requests and writing answers, without a server."""

import inspect
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.resources.chat.completions import Completions

from astrai.inference.accumulator import Accumulator
from astrai.inference.request import Ending, Sampled
from astrai.inference.server.choices import News
from astrai.inference.server.errors import ApiError
from astrai.inference.server.forms import ChatForm, CompletionForm, Usage
from astrai.inference.server.json_body import parse_object
from astrai.inference.server.logprobs import ChatLogprobs, CompletionLogprobs
from astrai.inference.server.protocol import NEUTRAL, ChatBody, CompletionBody, validate

EXTRAS = {"extra_headers", "extra_query", "extra_body", "timeout"}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "tiny", "prompt": "hi"}
USAGE = Usage(prompt_tokens=3, cached_tokens=2, completion_tokens=4)


def refusal(kind, values):
    with pytest.raises(ApiError) as caught:
        validate(kind, values)
    return caught.value


# --- JSON -------------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), json_values))
def test_every_json_object_is_read_as_the_standard_library_reads_it(values):
    assert parse_object(json.dumps(values).encode()) == values


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,0123456789eE.+-truefalsn \\u', max_size=60).map(str.encode))
def test_whatever_bytes_come_they_are_an_object_or_a_400(raw):
    try:
        assert isinstance(parse_object(raw), dict)
    except ApiError as error:
        assert error.status == 400
        json.loads(error.to_json())


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"a": 1, "a": 2}', "key twice"),
        (b'{"b": {"a": 1, "a": 1}}', "key twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": "\xc3"}', "no UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "10,000 digits"),
        (b"{} {}", "line 1, column 4"),
        (b'"text"', "must be an object"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(raw, said):
    with pytest.raises(ApiError, match=said):
        parse_object(raw)


# --- bodies -----------------------------------------------------------------------------------------------------------


STOCK = set(inspect.signature(Completions.create).parameters) - {"self", *EXTRAS}  # what OpenAI's client can send


@pytest.mark.parametrize("field", sorted({*ChatBody.model_fields, *STOCK, *NEUTRAL} - {"model", "messages"}))
def test_null_means_that_a_field_was_not_given(field):
    assert validate(ChatBody, {**CHAT, field: None}) == validate(ChatBody, CHAT)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("temperature", [-0.1, 2.1, "1", True, [1], math.inf]),
        ("top_p", [-0.1, 1.1, "1"]),
        ("min_p", [-0.1, 1.1]),
        ("top_k", [-1, 1.5, True]),
        ("n", [0, -1, 1.5, True]),
        ("max_tokens", [-1, 2**31, 1.0]),
        ("seed", [2**63, -(2**63) - 1, 0.5]),
        ("stop", [5, ["a"] * 5, [""], "x" * 513, [1]]),
        ("stream", [1, "true"]),
        ("logprobs", [1, "true"]),
        ("top_logprobs", [-1, 21]),
        ("presence_penalty", [-2.1, 2.1]),
        ("frequency_penalty", [-2.1, 2.1]),
        ("logit_bias", [{"a": 1}, {"1": 101}, {"-1": 1}, {"01": 1}, [1], {str(i): 1 for i in range(1025)}]),
        ("user", [5, "x" * 513]),
        ("model", ["", 5]),
        ("messages", [[], "hi", [{}], [{"role": "user"}], [{"role": "tool", "content": "x"}], [[]]]),
        ("stream_options", [{"include_obfuscation": True}, 5]),
        ("response_format", [{"type": "json_object"}, {}, "text"]),
    ],
)
def test_each_field_refuses_what_it_cannot_mean_by_its_name(field, wrong):
    for value in wrong:
        error = refusal(ChatBody, {**CHAT, field: value})
        assert error.status == 400 and error.param.startswith(field), (value, error.message)
        assert error.message.startswith(field)


def test_numbers_at_the_edges_are_taken():
    edges = {"temperature": 2, "top_p": 0, "min_p": 1.0, "top_k": 0, "n": 1, "seed": -(2**63), "max_tokens": 0}
    sampling = validate(ChatBody, {**CHAT, **edges}).to_sampling()
    assert (sampling.temperature, sampling.min_p, sampling.max_tokens) == (2.0, 1.0, 0)
    assert 0 < sampling.top_p < 1e-6, "keeps the most likely token and no other"


def test_a_value_that_is_almost_neutral_is_not():
    for field, value in (("store", 0), ("best_of", True), ("best_of", 1.0), ("echo", 0), ("modalities", ["audio"])):
        assert refusal(CompletionBody, {**TEXT, field: value}).param == field
    assert validate(CompletionBody, {**TEXT, "store": False, "best_of": 1, "echo": False}) == validate(
        CompletionBody, TEXT
    )


def test_content_parts_other_than_text_are_refused_by_their_type():
    for part, said in (({"type": "image_url"}, "image_url"), ("text", "without a type"), ({"type": "text"}, "must be")):
        error = refusal(ChatBody, {**CHAT, "messages": [{"role": "user", "content": [part]}]})
        assert said in error.message and error.param == "messages[0].content"


def test_a_huge_unknown_field_is_not_said_back_whole():
    assert len(refusal(ChatBody, {**CHAT, "x" * 100_000: 1}).to_json()) < 1000


@settings(max_examples=50, deadline=None)
@given(json_values, st.sampled_from(sorted({*ChatBody.model_fields, "tools", "other"})))
def test_any_value_in_any_field_is_taken_or_refused_with_a_400(value, field):
    try:
        validate(ChatBody, {**CHAT, field: value}).to_sampling()
    except ApiError as error:
        assert error.status == 400 and error.param


# --- answers ----------------------------------------------------------------------------------------------------------


def events(raw):
    return [
        json.loads(event.removeprefix("data: "))
        for event in raw.decode().split("\n\n")
        if event and "[" not in event[:8]
    ]


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_any_text_survives_a_chunk_and_stays_on_one_line(text):
    form = ChatForm("tiny")
    raw = form.block(News(0, "\n" + text, [], None))
    assert raw.count(b"\n") == 4, "two events of one line each"
    assert events(raw)[1]["choices"][0]["delta"] == {"content": "\n" + text}


def test_the_role_comes_once_for_each_choice():
    form = ChatForm("tiny")
    raw = b"".join(form.block(News(index, "a", [], None)) for index in (0, 1, 0, 1))
    roles = [event["choices"][0]["index"] for event in events(raw) if "role" in event["choices"][0]["delta"]]
    assert roles == [0, 1]


def test_usage_is_null_in_every_chunk_but_the_last():
    form = CompletionForm("tiny", include_usage=True)
    raw = form.block(News(0, "a", [], Ending("stop"))) + form.end(USAGE)
    *chunks, last = events(raw)
    assert [chunk["usage"] for chunk in chunks] == [None, None]
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 7
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}


def test_half_characters_have_no_bytes_and_no_width(tokenizer):
    fox = tokenizer.encode("🦊")
    tokens = [Sampled(token_id, -1.0, ((token_id, -1.0),)) for token_id in [*tokenizer.encode("é"), *fox]]
    news = News(0, tokenizer.decode([token.token_id for token in tokens]), tokens, None)
    chat = ChatLogprobs(tokenizer).of_chunk(news)["content"]
    for entry in chat:
        assert entry["bytes"] is None or bytes(entry["bytes"]).decode() == entry["token"]
    offsets = CompletionLogprobs(tokenizer).of_chunk(news)["text_offset"]
    assert offsets == sorted(offsets) and offsets[0] == 0 and offsets[-1] <= len(news.text)


def test_offsets_go_on_from_chunk_to_chunk_for_each_choice(tokenizer):
    (letter,) = tokenizer.encode("x")
    form = CompletionLogprobs(tokenizer)
    told = [form.of_chunk(News(index, "xx", [Sampled(letter, -1.0)] * 2, None))["text_offset"] for index in (0, 1, 0)]
    assert told == [[0, 1], [0, 1], [2, 3]]


def test_minus_infinity_is_something_that_json_can_say(tokenizer):
    news = News(0, "x", [Sampled(tokenizer.encode("x")[0], -math.inf)], Ending("stop"))
    whole = json.loads(ChatForm("tiny", ChatLogprobs(tokenizer)).whole([news], USAGE))
    assert whole["choices"][0]["logprobs"]["content"][0]["logprob"] == -9999.0


# --- which tokens a text is made of -----------------------------------------------------------------------------------


def accumulate(tokenizer, text, stop=(), silent=None):
    output = Accumulator(tokenizer.stream(), stop, () if silent is None else {silent})
    for token_id in [*tokenizer.encode(text), *([] if silent is None else [silent])]:
        if output.on_token(Sampled(token_id)):
            break
    output.on_end(Ending("stop"))
    return output


def test_each_piece_knows_the_tokens_it_is_made_of(tokenizer):
    output = accumulate(tokenizer, "x🦊y")
    ids = [sampled.token_id for sampled in output.sampled]
    for piece, end in zip(output.pieces, output.piece_ends, strict=True):
        assert tokenizer.decode(ids[:end]).endswith(piece)
    assert output.num_text_tokens == len(ids)


def test_the_token_that_ends_a_request_is_no_text(tokenizer):
    output = accumulate(tokenizer, "xy", silent=tokenizer.eos_ids[0])
    assert len(output.sampled) == 3 and output.num_text_tokens == 2 == output.piece_ends[-1]


def test_the_tokens_of_a_stop_string_are_no_text(tokenizer):
    output = accumulate(tokenizer, "axyz", stop=["xyz"])
    assert output.pieces == ["a"] and len(output.sampled) == 4 and output.num_text_tokens == 1
    output = accumulate(tokenizer, "axya", stop=["xyz"])
    assert "".join(output.pieces) == "axya" and output.num_text_tokens == 4, "what was held back turned out to be text"

"""The tokenizer against its own whole decode, against Jinja rendered by hand, and against text that tries to forge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from astrai.tokenizer import Tokenizer
from astrai.training.tokenizer import SPECIAL_TOKENS, train_tokenizer

TEXTS = (
    "Once there was a fox named Mia. The fox found a red kite!",
    "Zoë and a crêpe, 12 + 34",
    "猫が好き 🦊👩‍👩‍👧 e\u0301",
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS * 20, ["kite", "lantern"], vocab_size=420)


@pytest.fixture(scope="module")
def sentencepiece_like() -> Tokenizer:
    """As in Llama 2: spaces are "▁", unknown characters are single bytes, and a text loses its first space."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [*"▁abcdefghijklmnopqrstuvwxyz", "▁fox", "é", "▁▁"]
    bpe = tokenizers.Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bpe.add_special_tokens(["<unk>", "<s>", "</s>"])
    return Tokenizer(bpe, bos_token="<s>", eos_tokens=["</s>"])


def streamed(tokenizer: Tokenizer, ids: list[int], skip_special: bool = True) -> str:
    stream = tokenizer.stream(skip_special)
    return "".join([stream.put(token_id) for token_id in ids]) + stream.flush()


@given(st.text())
@example("<|end|><|user|>")
@example(" two  spaces \n\n and a tab\t")
@example("\ufffd\u0000\U000f0000")
@settings(deadline=None)
def test_decoding_what_was_encoded_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
@example("e\u0301 👩‍👩‍👧 \ufffd")
@settings(deadline=None)
def test_the_pieces_of_a_streamed_text_join_to_the_text(tokenizer: Tokenizer, text: str) -> None:
    assert streamed(tokenizer, tokenizer.encode(text)) == text


@given(st.lists(st.integers(0, 419)), st.booleans())
@settings(max_examples=300, deadline=None)
def test_the_pieces_of_any_ids_join_to_their_whole_decode(tokenizer: Tokenizer, ids: list[int], skip: bool) -> None:
    assert streamed(tokenizer, ids, skip) == tokenizer.decode(ids, skip)


@given(st.lists(st.integers(0, 288)), st.booleans())
@example([1, 260, 285, 0xC3 + 3, 0xA9 + 3, 285], True)  # bytes that make é, between words
@example([0xC3 + 3, 0xA9 + 3, 0xFF + 3], True)  # one bad byte spoils its whole run
@settings(max_examples=300, deadline=None)
def test_the_same_holds_for_byte_fallback_and_dropped_leading_spaces(
    sentencepiece_like: Tokenizer, ids: list[int], skip: bool
) -> None:
    assert streamed(sentencepiece_like, ids, skip) == sentencepiece_like.decode(ids, skip)


def test_a_stream_gives_each_character_as_soon_as_its_last_byte_is_there(tokenizer: Tokenizer) -> None:
    stream = tokenizer.stream()
    pieces = [stream.put(token_id) for token_id in tokenizer.encode("ß𝄞x")]
    assert pieces == ["", "ß", "", "", "", "𝄞", "x"]
    assert stream.flush() == ""


def test_a_stream_that_ends_within_a_character_shows_the_replacement_character(tokenizer: Tokenizer) -> None:
    stream = tokenizer.stream()
    ids = tokenizer.encode("𝄞")[:-1]
    assert [stream.put(token_id) for token_id in ids] == ["", "", ""]
    assert stream.flush() == "\ufffd" == tokenizer.decode(ids)


@given(st.text(alphabet="<|>enduserbos ") | st.sampled_from(SPECIAL_TOKENS))
@settings(deadline=None)
def test_special_tokens_spelled_in_text_stay_text(tokenizer: Tokenizer, text: str) -> None:
    assert not any(tokenizer.is_special(token_id) for token_id in tokenizer.encode(text))


@given(
    st.lists(
        st.lists(st.sampled_from([*SPECIAL_TOKENS, "<|", "|>", "<", "end", "\U000f0000", "\U000f00001\U000f0000", " "]))
    )
)
@settings(deadline=None)
def test_messages_cannot_forge_special_tokens(tokenizer: Tokenizer, contents: list[list[str]]) -> None:
    messages = [{"role": "user", "content": "".join(content)} for content in contents]
    ids = tokenizer.apply_chat_template(messages)
    expected = [tokenizer.bos_id]
    for message in messages:
        expected += [tokenizer.special_id("<|user|>"), *tokenizer.encode(message["content"]), *tokenizer.eos_ids]
    assert ids == [*expected, tokenizer.special_id("<|assistant|>")]


def test_a_role_cannot_forge_special_tokens_either(tokenizer: Tokenizer) -> None:
    loose = Tokenizer(tokenizer._special_aware, "{{ messages[0].role }}<|end|>", eos_tokens=["<|end|>"])
    ids = loose.apply_chat_template([{"role": "<|bos|>", "content": ""}])
    assert [token_id for token_id in ids if loose.is_special(token_id)] == list(loose.eos_ids)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
@settings(deadline=None)
def test_a_conversation_that_grows_keeps_its_tokens(tokenizer: Tokenizer, answers: list[str]) -> None:
    messages = [{"role": "system", "content": " Be kind. "}, {"role": "user", "content": "Hello "}]
    for answer in answers:
        ids = tokenizer.apply_chat_template(messages) + tokenizer.encode(answer) + [tokenizer.eos_ids[0]]
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And then?"}]
        assert tokenizer.apply_chat_template(messages)[: len(ids)] == ids


def test_a_template_that_refuses_says_why(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="unknown role wizard"):
        tokenizer.apply_chat_template([{"role": "wizard", "content": "hi"}])


def test_a_template_cannot_reach_python(tokenizer: Tokenizer) -> None:
    evil = Tokenizer(tokenizer._special_aware, "{{ messages.__class__.__mro__ }}")
    with pytest.raises(ValueError, match="refused"):
        evil.apply_chat_template([])
    changing = Tokenizer(tokenizer._special_aware, "{{ messages.append(1) }}")
    with pytest.raises(ValueError, match="refused"):
        changing.apply_chat_template([])


def test_without_a_template_the_error_names_the_remedy(sentencepiece_like: Tokenizer) -> None:
    with pytest.raises(ValueError, match="no chat template: pass plain text"):
        sentencepiece_like.apply_chat_template([])


def test_a_lone_surrogate_is_refused_with_its_place(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="lone surrogate at character 2"):
        tokenizer.encode("ab\ud800")
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer.apply_chat_template([{"role": "user", "content": "\ud800"}])


def test_saving_and_loading_changes_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.hash == tokenizer.hash
    assert (loaded.bos_id, loaded.eos_ids, loaded.vocab_size) == (
        tokenizer.bos_id,
        tokenizer.eos_ids,
        tokenizer.vocab_size,
    )
    messages = [{"role": "user", "content": TEXTS[0]}]
    assert loaded.apply_chat_template(messages) == tokenizer.apply_chat_template(messages)


def test_another_vocabulary_has_another_hash(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(TEXTS * 20, vocab_size=400).hash != tokenizer.hash
    assert train_tokenizer(TEXTS * 20, ["kite", "lantern"], vocab_size=420).hash == tokenizer.hash


def test_words_of_the_world_are_single_tokens(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode(" lantern")) == len(tokenizer.encode(" kite")) == 1


def test_add_special_puts_bos_in_front(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("fox", add_special=True) == [tokenizer.bos_id, *tokenizer.encode("fox")]


def test_a_folder_of_hugging_face_loads_with_all_its_ends(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    config = {
        "bos_token": {"content": "<|bos|>", "special": True},
        "eos_token": "<|end|>",
        "chat_template": [
            {"name": "tool_use", "template": "wrong"},
            {"name": "default", "template": "{{ bos_token }}{{ messages[0]['content'] | trim }}{{ eos_token }}"},
        ],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [4, 1]}))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.eos_ids == (4, 1)
    assert loaded.apply_chat_template([{"role": "user", "content": " fox "}]) == [0, *tokenizer.encode("fox"), 4]
    (tmp_path / "chat_template.jinja").write_text("<|user|>")
    assert Tokenizer.load(tmp_path).apply_chat_template([]) == [tokenizer.special_id("<|user|>")]


def test_the_template_renders_as_in_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    reference = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    reference.chat_template = tokenizer.chat_template
    messages = [{"role": "user", "content": text} for text in TEXTS]
    expected = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert tokenizer.apply_chat_template(messages) == expected


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        Tokenizer.load(tmp_path)

"""Text to token ids and back: byte-pair encoding, the chat template, and decoding while tokens still arrive.

Two rules hold throughout. Text that somebody typed never becomes a special token, whatever it spells: only a chat
template writes those. And the pieces of a stream, joined, are what decoding all ids at once gives.

This module knows no model and no tensor; ``astrai.training.tokenizer`` learns the merges that it applies.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import tokenizers
from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # how SentencePiece vocabularies spell a single byte
PRIVATE_USE = range(0xF0000, 0x10FFFE)


class Tokenizer:
    """A ``tokenizers.Tokenizer`` with its chat template and the ids that begin and end a text.

    Example:
        >>> tokenizer = Tokenizer.load("astrai/assets/tiny")
        >>> tokenizer.decode(tokenizer.encode("A fox, a kite."))
        'A fox, a kite.'
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        chat_template: str | None = None,
        bos_token: str | None = None,
        eos_tokens: Iterable[str | int] = (),
    ) -> None:
        self._special_aware = tokenizer
        # A second copy that reads "<|end|>" as seven letters and signs. Two objects, because the switch is a property
        # of the whole tokenizer, and threads share it.
        self._plain = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        self._plain.encode_special_tokens = True
        added = tokenizer.get_added_tokens_decoder()
        self._special = {token.content: token_id for token_id, token in added.items() if token.special}
        self.chat_template = chat_template
        self.bos_token = bos_token
        self.bos_id = None if bos_token is None else self._id_of(bos_token)
        self.eos_ids = tuple(dict.fromkeys(e if isinstance(e, int) else self._id_of(e) for e in eos_tokens))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read ``tokenizer.json`` and what stands beside it, from our folders and Hugging Face Llama folders alike.

        Raises:
            ValueError: the folder has no ``tokenizer.json``, or a file that cannot be read as one.
        """
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ValueError(f"{folder} has no tokenizer.json: give the folder that a tokenizer was saved in")
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path} cannot be read as a tokenizer: {error}") from error
        config = _read_json(folder / "tokenizer_config.json")
        eos = [_token_text(config.get("eos_token"))]
        for name in ("generation_config.json", "config.json"):
            values = _read_json(folder / name)
            eos += _as_list(values.get("eos_token_id")) + _as_list(values.get("eos_ids"))
        return cls(
            tokenizer,
            chat_template=_find_chat_template(folder, config),
            bos_token=_token_text(config.get("bos_token")),
            eos_tokens=[e for e in eos if e is not None],
        )

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``, which :meth:`load` reads back."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._special_aware.save(str(folder / "tokenizer.json"))
        eos_token = self._special_aware.id_to_token(self.eos_ids[0]) if self.eos_ids else None
        config = {"bos_token": self.bos_token, "eos_token": eos_token, "chat_template": self.chat_template}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @property
    def vocab_size(self) -> int:
        """Tokens, the special ones counted."""
        return self._special_aware.get_vocab_size(with_added_tokens=True)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the serialised tokenizer, in hex: two runs with the same hash mean the same by a token id."""
        return hashlib.sha256(self._special_aware.to_str().encode()).hexdigest()

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        """Token ids of plain text. ``add_special`` puts the tokenizer's own frame around it (usually ``bos``).

        Special tokens spelled in ``text`` are read letter by letter.

        Raises:
            ValueError: ``text`` holds a lone surrogate, which is no Unicode text.
        """
        return self._plain.encode(_valid(text), add_special_tokens=add_special).ids

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of token ids. Bytes that are no UTF-8 become U+FFFD."""
        return self._special_aware.decode(list(ids), skip_special_tokens=skip_special)

    def stream(self, skip_special: bool = True) -> StreamDecoder:
        """A decoder for ids that arrive one at a time."""
        return StreamDecoder(self, skip_special)

    def apply_chat_template(self, messages: Sequence[dict[str, Any]], add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation of ``{"role": ..., "content": ...}``, ready for the model to answer.

        A conversation that grew by the model's answer and one more message begins with the ids that stood before,
        as long as the template is one that only appends and the answer was encoded as this tokenizer would.

        Raises:
            ValueError: there is no chat template, or it refuses these messages.
        """
        mark = _unused_character(messages)
        # What is typed must not spell a special token once the template has put its own around it. So each one in a
        # message is masked before rendering; the text is then cut at the special tokens that the template wrote, and
        # the mask comes off in the pieces between them, which are encoded as plain text.
        masks = {text: f"{mark}{index}{mark}" for index, text in enumerate(self._special)}
        rendered = _valid(self._render(_map_strings(messages, masks), add_generation_prompt))
        if mark not in rendered:
            return self._special_aware.encode(rendered, add_special_tokens=False).ids
        ids: list[int] = []
        for piece in self._special_pattern.split(rendered):
            if piece in self._special:
                ids.append(self._special[piece])
            elif piece:
                ids += self.encode(_map_strings(piece, {masked: text for text, masked in masks.items()}))
        return ids

    def special_id(self, token: str) -> int:
        """The id of a special token, for whoever builds a conversation by hand."""
        return self._special[token]

    def is_special(self, token_id: int) -> bool:
        """Whether the token frames text rather than being some."""
        return token_id in self._special_ids

    def _render(self, messages: Any, add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                bos_token=self.bos_token or "",
                eos_token=self._special_aware.id_to_token(self.eos_ids[0]) if self.eos_ids else "",
            )
        except (TemplateError, TypeError) as error:
            raise ValueError(f"the chat template refused these messages: {error}") from error

    @cached_property
    def _template(self) -> Template:
        if self.chat_template is None:
            raise ValueError(
                "this tokenizer has no chat template: pass plain text or token ids, "
                "or add chat_template to its tokenizer_config.json"
            )
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return environment.from_string(self.chat_template)

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._special, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(self._special.values())

    @cached_property
    def _byte_ids(self) -> frozenset[int]:
        vocabulary = self._special_aware.get_vocab(with_added_tokens=False)
        return frozenset(token_id for token, token_id in vocabulary.items() if BYTE_TOKEN.fullmatch(token))

    def _id_of(self, token: str) -> int:
        token_id = self._special_aware.token_to_id(token)
        if token_id is None:
            raise ValueError(f"tokenizer_config.json names {token!r}, which is no token of tokenizer.json")
        return token_id


class StreamDecoder:
    """Turns token ids that arrive one at a time into text that never has to be taken back.

    A token may end in the middle of a character, and some tokenizers drop a leading space only at the start of a
    text. So the ids since the last certain piece are decoded together with that piece, and the difference is given out.

    Example:
        >>> stream = Tokenizer.load("astrai/assets/tiny").stream()
        >>> [stream.put(token_id) for token_id in (130, 105)]  # doctest: +SKIP
        ['', 'é']
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._given: list[int] = []  # the last piece that was given out: context for the next
        self._pending: list[int] = []

    def put(self, token_id: int) -> str:
        """Take one id; return the text that is now certain, which may be empty."""
        if self._skip_special and self._tokenizer.is_special(token_id):
            return ""
        self._pending.append(token_id)
        text = self._text_of_pending()
        # A run of byte tokens is valid or not as a whole, so it waits for its end.
        if not text or text.endswith(REPLACEMENT) or token_id in self._tokenizer._byte_ids:
            return ""
        self._given, self._pending = self._pending, []
        return text

    def flush(self) -> str:
        """The rest: a byte sequence that was never completed comes out as a whole decode shows it."""
        text = self._text_of_pending()
        self._given, self._pending = self._pending, []
        return text

    def _text_of_pending(self) -> str:
        before = self._tokenizer.decode(self._given, self._skip_special)
        return self._tokenizer.decode(self._given + self._pending, self._skip_special)[len(before) :]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    return values if isinstance(values, dict) else {}


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _token_text(value: str | dict[str, Any] | None) -> str | None:
    return value.get("content") if isinstance(value, dict) else value


def _find_chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """``chat_template.jinja`` wins over the config's entry, which may be a list of named templates."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        return named.get("default")
    return template


def _valid(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the text has a lone surrogate at character {error.start}: send valid Unicode") from error
    return text


def _unused_character(messages: Any) -> str:
    used = set(json.dumps(messages, ensure_ascii=False, default=str))
    return next(chr(code) for code in PRIVATE_USE if chr(code) not in used)


def _map_strings(value: Any, replacements: dict[str, str]) -> Any:
    """``value`` with every key of ``replacements`` replaced in every string in it, however deep; longest key first."""
    if isinstance(value, str):
        for old in sorted(replacements, key=len, reverse=True):
            value = value.replace(old, replacements[old])
        return value
    if isinstance(value, dict):
        return {key: _map_strings(entry, replacements) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_map_strings(entry, replacements) for entry in value]
    return value


def _raise_exception(message: str) -> None:
    raise TemplateError(message)

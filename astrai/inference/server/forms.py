"""What answers look like on the wire: one form for chat, one for completions, each whole and in chunks.

A chunk is made for every token of every stream, so it is put together from parts that are encoded once; only the text
is new. A form belongs to one HTTP request. It knows no HTTP and no engine loop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import uuid4

from astrai.inference.server.choices import News
from astrai.inference.server.logprobs import LogprobForm

_encode = json.JSONEncoder(separators=(",", ":")).encode  # in ASCII: no text can break a line of an event stream
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one HTTP request; a prompt counts once, however many choices it has."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    def to_dict(self) -> dict[str, Any]:
        """In OpenAI's shape."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Form:
    """What the two forms share. ``logprobs`` is ``None`` unless they were asked for."""

    prefix: ClassVar[str]
    whole_object: ClassVar[str]
    chunk_object: ClassVar[str]

    def __init__(self, model: str, logprobs: LogprobForm | None = None, include_usage: bool = False) -> None:
        self.id = f"{self.prefix}-{uuid4().hex}"
        self._logprobs = logprobs
        self._include_usage = include_usage
        self._opened: set[int] = set()
        self._common = {"created": int(time.time()), "model": model}
        head = _encode({"id": self.id, "object": self.chunk_object, **self._common})
        self._head = f'data: {head[:-1]},"choices":['
        self._tail = '],"usage":null}\n\n' if include_usage else "]}\n\n"

    def block(self, news: News) -> bytes:
        """The chunks that tell ``news``, ready to be sent."""
        chunks = []
        if news.index not in self._opened:
            self._opened.add(news.index)
            chunks.append(self._opening(news.index))
        logprobs = self._logprobs.of_chunk(news) if self._logprobs and news.tokens else None
        if news.text or logprobs:
            chunks.append(self._text(news.index, news.text, "null" if logprobs is None else _encode(logprobs)))
        if news.ending:
            chunks.append(self._finish(news.index, news.ending.reason))
        return "".join([f"{self._head}{chunk}{self._tail}" for chunk in chunks if chunk]).encode("ascii")

    def end(self, usage: Usage) -> bytes:
        """What follows the last chunk of the last choice."""
        if not self._include_usage:
            return DONE
        return f'{self._head}],"usage":{_encode(usage.to_dict())}}}\n\n'.encode("ascii") + DONE

    def whole(self, all_news: Sequence[News], usage: Usage) -> bytes:
        """The answer in one piece."""
        head = _encode({"id": self.id, "object": self.whole_object, **self._common})
        # NOTE: one by one, since no other thread runs while one is encoded.
        choices = ",".join([_encode(self._choice(news)) for news in all_news])
        return f'{head[:-1]},"choices":[{choices}],"usage":{_encode(usage.to_dict())}}}'.encode("ascii")

    def _logprobs_of(self, news: News) -> dict[str, Any] | None:
        return self._logprobs.of_chunk(news) if self._logprobs else None

    def _opening(self, index: int) -> str:
        raise NotImplementedError

    def _text(self, index: int, text: str, logprobs: str) -> str:
        raise NotImplementedError

    def _finish(self, index: int, reason: str) -> str:
        raise NotImplementedError

    def _choice(self, news: News) -> dict[str, Any]:
        raise NotImplementedError


class ChatForm(Form):
    """``chat.completion`` and its chunks."""

    prefix, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def _opening(self, index: int) -> str:
        delta = '{"role":"assistant","content":"","refusal":null}'
        return f'{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":null}}'

    def _text(self, index: int, text: str, logprobs: str) -> str:
        delta = f'{{"content":{_encode(text)}}}'
        return f'{{"index":{index},"delta":{delta},"logprobs":{logprobs},"finish_reason":null}}'

    def _finish(self, index: int, reason: str) -> str:
        return f'{{"index":{index},"delta":{{}},"logprobs":null,"finish_reason":"{reason}"}}'

    def _choice(self, news: News) -> dict[str, Any]:
        return {
            "index": news.index,
            "message": {"role": "assistant", "content": news.text, "refusal": None},
            "logprobs": self._logprobs_of(news),
            "finish_reason": news.ending.reason if news.ending else None,
        }


class CompletionForm(Form):
    """``text_completion``, whose chunks have the same shape."""

    prefix, whole_object, chunk_object = "cmpl", "text_completion", "text_completion"

    def _opening(self, index: int) -> str:
        return ""

    def _text(self, index: int, text: str, logprobs: str) -> str:
        return f'{{"index":{index},"text":{_encode(text)},"logprobs":{logprobs},"finish_reason":null}}'

    def _finish(self, index: int, reason: str) -> str:
        return f'{{"index":{index},"text":"","logprobs":null,"finish_reason":"{reason}"}}'

    def _choice(self, news: News) -> dict[str, Any]:
        return {
            "index": news.index,
            "text": news.text,
            "logprobs": self._logprobs_of(news),
            "finish_reason": news.ending.reason if news.ending else None,
        }

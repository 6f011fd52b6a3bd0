"""Log-probabilities in the two shapes of OpenAI's API, for whole answers and for chunks alike.

A form belongs to one HTTP request: it remembers what the tokens spell, and how much text each choice has given out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from astrai.inference.request import Sampled
from astrai.inference.server.choices import News
from astrai.tokenizer import REPLACEMENT, Tokenizer

LOWEST = -9999.0  # in place of minus infinity, which JSON cannot say


class LogprobForm:
    """What the two shapes share: the text of single tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Some tokenizers drop a leading space at the start of a text, so tokens are decoded behind another one.
        self._anchor = tokenizer.encode("a")
        self._anchor_len = len(tokenizer.decode(self._anchor))
        self._texts: dict[int, str] = {}

    def of_chunk(self, news: News) -> dict[str, Any]:
        """The log-probabilities of the tokens in ``news``."""
        raise NotImplementedError

    def text_of(self, token_id: int) -> str:
        """What a token spells; bytes that are no whole character come out as U+FFFD."""
        if token_id not in self._texts:
            text = self._tokenizer.decode([*self._anchor, token_id], skip_special=False)[self._anchor_len :]
            self._texts[token_id] = text
        return self._texts[token_id]


class ChatLogprobs(LogprobForm):
    """``{"content": [{"token", "logprob", "bytes", "top_logprobs"}]}``."""

    def of_chunk(self, news: News) -> dict[str, Any]:
        """One entry a token."""
        return {"content": [self._entry(token) for token in news.tokens], "refusal": None}

    def _entry(self, token: Sampled) -> dict[str, Any]:
        top = [self._token(token_id, logprob) for token_id, logprob in token.top_logprobs]
        return {**self._token(token.token_id, token.logprob), "top_logprobs": top}

    def _token(self, token_id: int, logprob: float | None) -> dict[str, Any]:
        text = self.text_of(token_id)
        # NOTE: the API allows null where a token has no bytes of its own to show, such as half a character.
        token_bytes = None if REPLACEMENT in text else list(text.encode())
        return {"token": text, "logprob": _finite(logprob), "bytes": token_bytes}


class CompletionLogprobs(LogprobForm):
    """``{"tokens", "token_logprobs", "top_logprobs", "text_offset"}``; offsets count from the choice's own text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._given: Counter[int] = Counter()  # characters of each choice so far

    def of_chunk(self, news: News) -> dict[str, Any]:
        """Four lists, one entry a token."""
        texts = [self.text_of(token.token_id) for token in news.tokens]
        offsets = self._offsets(texts, self._given[news.index], len(news.text))
        self._given[news.index] += len(news.text)
        return {
            "tokens": texts,
            "token_logprobs": [_finite(token.logprob) for token in news.tokens],
            "top_logprobs": [self._top(token) for token in news.tokens],
            "text_offset": offsets,
        }

    def _top(self, token: Sampled) -> dict[str, float]:
        """The most likely ones and the token itself. Of two that spell the same, the likelier one."""
        top: dict[str, float] = {}
        for token_id, logprob in (*token.top_logprobs, (token.token_id, token.logprob)):
            top.setdefault(self.text_of(token_id), _finite(logprob))
        return top

    @staticmethod
    def _offsets(texts: Sequence[str], start: int, length: int) -> list[int]:
        """Where each token begins. Tokens that are parts of one character begin together."""
        offsets, at = [], start
        for text in texts:
            offsets.append(min(at, start + length))
            at += 0 if REPLACEMENT in text else len(text)
        return offsets


def _finite(logprob: float | None) -> float:
    assert logprob is not None, "log-probabilities were not asked for"
    return max(logprob, LOWEST)

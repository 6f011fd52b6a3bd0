"""Conversations as training steps: which token ids go in, and at which of them the model is asked for the next one.

A row is one whole conversation, so that a story and the words asked for are always seen together, and nothing else is.
The loss is taken where the model speaks (and over all of a plain story): what users type is drawn by chance and cannot
be learned, and leaving it out is what lets copying form early.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from astrai.tokenizer import Tokenizer
from astrai.training.chats import chat
from astrai.training.skills import drill_turn
from astrai.training.storyworld import Choices, draw_world, tell
from astrai.training.tokenizer import ASSISTANT, BOS, END

PLAIN_STORIES = 0.06  # share of rows without turns, so that the model can also go on with plain text
COPY_WEIGHT = 3.0
SEED_STRIDE = 1_000_000_007


class Row(NamedTuple):
    """Token ids of a conversation, and the indices of the tokens after which the next one is to be learned."""

    ids: list[int]
    asked: list[int]


class Batch(NamedTuple):
    """Rows of similar length. ``logits_at`` indexes the flattened ids, ``targets`` are the ids that come next there.

    ``weights`` make words count more that stood in the conversation before: those are the ones to be copied.
    """

    ids: Tensor  # (B, T)
    logits_at: Tensor  # (N,)
    targets: Tensor  # (N,)
    weights: Tensor  # (N,)


def encode_chat(tokenizer: Tokenizer, messages: Sequence[dict[str, str]]) -> Row:
    """The ids of the chat template, with every token of the assistant and the end of its turns asked for."""
    ids = [tokenizer.bos_id]
    asked: list[int] = []
    role_ids = {role: tokenizer.special_id(f"<|{role}|>") for role in ("system", "user", "assistant")}
    for message in messages:
        start = len(ids)
        content = tokenizer.encode(message["content"])
        ids += [role_ids[message["role"]], *content, tokenizer.special_id(END)]
        if role_ids[message["role"]] == tokenizer.special_id(ASSISTANT):
            asked += range(start, start + len(content) + 1)
    return Row(ids, asked)


def encode_story(tokenizer: Tokenizer, text: str) -> Row:
    """A story without turns, all of it asked for."""
    ids = [tokenizer.special_id(BOS), *tokenizer.encode(text), tokenizer.special_id(END)]
    return Row(ids, list(range(len(ids) - 1)))


def make_row(tokenizer: Tokenizer, seed: int, index: int, drill: float) -> Row:
    """Row ``index`` of the stream of ``seed``. ``drill`` is the share of rows that are a single turn of copying."""
    row_seed = seed * SEED_STRIDE + index
    choices = Choices(-1 - row_seed)
    if choices.chance(drill):
        turn = drill_turn(choices)
        messages = [{"role": "user", "content": turn.prompt}, {"role": "assistant", "content": turn.answer}]
        return encode_chat(tokenizer, messages)
    if choices.chance(PLAIN_STORIES):
        return encode_story(tokenizer, tell(draw_world(choices), choices).text)
    return encode_chat(tokenizer, chat(row_seed))


def copy_weights(row: Row, words: frozenset[int]) -> list[float]:
    """For each target of the row: more than 1 if it is one of ``words`` and the row has held it before."""
    first_seen: dict[int, int] = {}
    for position, token_id in enumerate(row.ids):
        first_seen.setdefault(token_id, position)
    targets = ((position + 1, row.ids[position + 1]) for position in row.asked)
    return [COPY_WEIGHT if t in words and first_seen[t] < position else 1.0 for position, t in targets]


def make_batch(rows: Sequence[Row], width: int, words: frozenset[int] = frozenset()) -> Batch:
    """Pad rows on the right, where a causal model does not look."""
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    logits_at, targets, weights = [], [], []
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        logits_at += [index * width + position for position in row.asked]
        targets += [row.ids[position + 1] for position in row.asked]
        weights += copy_weights(row, words)
    return Batch(ids, torch.tensor(logits_at), torch.tensor(targets), torch.tensor(weights))


def split_by_length(rows: Sequence[Row], groups: int, words: frozenset[int] = frozenset()) -> Iterator[Batch]:
    """Batches of about as many tokens each, so that short rows are not padded to the longest of a step."""
    rows = sorted(rows, key=lambda row: len(row.ids))
    share = sum(len(row.ids) for row in rows) / groups
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if sum(len(member.ids) for member in group) >= share:
            yield make_batch(group, len(row.ids), words)
            group = []
    if group:
        yield make_batch(group, len(group[-1].ids), words)

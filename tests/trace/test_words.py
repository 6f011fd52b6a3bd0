"""Every event has words."""

from __future__ import annotations

import pytest

from astrai.trace import events as e
from astrai.trace.words import describe, tokens

SAMPLES = {
    "RequestArrived": (e.RequestArrived(3, (5, 6), ()), "request 3: joined the queue with 2 tokens [5 6]"),
    "RequestsRejected": (e.RequestsRejected(2, "queue full"), "2 submits refused: queue full"),
    "RequestHeld": (e.RequestHeld(3, 1), "request 3: waits for the prefix that request 1 is writing"),
    "RequestAdmitted": (e.RequestAdmitted(3, 0, 2, 1), "request 3: owns slot 0 v2, 1 token found in the cache"),
    "RequestFinished": (e.RequestFinished(3, "error", "no luck"), "request 3: ended with error: no luck"),
    "PrefixMatched": (e.PrefixMatched(3, 4, 0, 2), "request 3: its first 4 tokens are held by slot 0 v2"),
    "SlotAllocated": (e.SlotAllocated(0, 2, 3), "slot 0 v2: handed to request 3, to be written from its start"),
    "SlotReused": (e.SlotReused(0, 2, 3, 4), "slot 0 v2: handed to request 3 with 4 tokens kept (zero-copy)"),
    "PrefixCopied": (e.PrefixCopied(0, 2, 1, 5, 4), "slot 0 v2 -> slot 1 v5: the first 4 positions were copied"),
    "SlotTruncated": (e.SlotTruncated(0, 2, 4), "slot 0 v2: cut to 4 tokens to make room"),
    "SlotFreed": (e.SlotFreed(0, 2, 4), "slot 0 v2: free, 4 tokens stay in the cache"),
    "NodeInserted": (e.NodeInserted(2, 1, (7,)), "node 2: added below node 1 with 1 token [7]"),
    "NodeSplit": (e.NodeSplit(2, 4, 3), "node 2: split, its first 3 moved to node 4 above it"),
    "NodeMerged": (e.NodeMerged(2, 4), "node 2: took over its only child, node 4"),
    "NodeEvicted": (e.NodeEvicted(2), "node 2: evicted, since no slot holds it"),
    "PathHeld": (e.PathHeld(0, 2, 4), "slot 0 v2: holds the path to node 4"),
    "PathLocked": (e.PathLocked(0), "slot 0: what it holds may not be evicted"),
    "PathUnlocked": (e.PathUnlocked(0), "slot 0: what it holds may be evicted again"),
    "PathUsed": (e.PathUsed(4, 9), "node 4: its path was used at tick 9"),
    "StepStarted": (e.StepStarted(1), "step 1 began"),
    "PhaseStarted": (e.PhaseStarted("refill"), "refill began"),
    "PhaseEnded": (e.PhaseEnded("refill", 0.0015), "refill ended after 1.50 ms"),
    "Prefilled": (e.Prefilled(3, 0, 2, 6), "request 3: 4 tokens computed into slot 0, positions 2 to 5"),
    "FirstTokenSampled": (e.FirstTokenSampled(3, 8), "request 3: first token [8]"),
    "TokensDecoded": (
        e.TokensDecoded((3, 4), (0, 1), (5, 5), (8, 9), (2,)),
        "2 tokens in 1 forward pass: request 3 [8], request 4 [9]",
    ),
}


@pytest.mark.parametrize("name", sorted(e.EVENT_TYPES))
def test_each_event_is_told_in_one_sentence(name: str) -> None:
    event, words = SAMPLES[name]
    assert describe(event) == words


def test_token_ids_become_text_where_a_decoder_is_given() -> None:
    words = describe(e.RequestArrived(0, (1, 2), ()), decode=lambda ids: f"<{len(ids)}>")
    assert words == "request 0: joined the queue with 2 tokens <2>"


def test_a_long_prompt_is_cut_short() -> None:
    assert describe(e.RequestArrived(0, tuple(range(2000)), ())).endswith(
        "with 2,000 tokens [0 1 2 3 4 5 6 7 8 9 10 11 ...]"
    )


def test_one_token_and_many() -> None:
    assert [tokens(n) for n in (0, 1, 1024)] == ["0 tokens", "1 token", "1,024 tokens"]

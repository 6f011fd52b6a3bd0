"""The recording behind ``LowestSetBit``: slots are taken, freed, and taken again for what they remember."""

from __future__ import annotations

from typing import Any

from astrai import GenerationRequest, InferenceEngine, SamplingParams, load
from astrai.trace.log import EventLog

PROMPTS = (  # the step after which it arrives, what is asked, the tokens of its answer
    (0, "Tell me a story about a fox.", 24),
    (1, "Who are you?", 5),
    (2, "Tell me a story about a kite.", 40),
    (3, "Where is the cat?", 40),
    (10, "Tell me a story about a boat.", 40),
    (13, "What do you like?", 40),
    (20, "Tell me a story about a frog and a bear.", 30),
    (22, "Hello!", 30),
    (24, "Tell me a story about a goat.", 12),
)
FOLLOW_UP, FOLLOWED = 5, 1  # this one goes on with that chat


def eight_slots() -> EventLog:
    """Eight chats on eight slots; one of them asks a second question."""
    model, tokenizer = load("tiny", device="cpu")
    engine = InferenceEngine(model, tokenizer, num_slots=8, start=False)
    chats: list[list[dict[str, Any]]] = []
    streams = []
    while len(streams) < len(PROMPTS) or engine.scheduler.has_work:
        number = len(streams)
        if number < len(PROMPTS) and PROMPTS[number][0] <= engine.trace.catch_up().step:
            _, text, longest = PROMPTS[number]
            before = []
            if number == FOLLOW_UP:
                answer = streams[FOLLOWED].result(timeout=0).text
                before = [*chats[FOLLOWED], {"role": "assistant", "content": answer}]
            chats.append([*before, {"role": "user", "content": text}])
            sampling = SamplingParams(max_tokens=longest, ignore_eos=True)
            streams.append(engine.submit(GenerationRequest(messages=chats[-1], sampling=sampling)))
        else:
            engine.scheduler.step()
    return engine.trace

"""Makes the kept recordings again: runs of the bundled model on a CPU, step by step, the same each time.

``python -m animations.record`` writes them to ``animations/traces``; the times in them are those of the machine.
"""

from __future__ import annotations

from pathlib import Path

from astrai import GenerationRequest, InferenceEngine, SamplingParams, load
from astrai.trace.log import EventLog

from .record_eight_slots import eight_slots
from .record_ghost import keep as keep_ghost
from .record_small_cache import small_cache

TRACES = Path(__file__).parent / "traces"
RULES = "You are Astra, a little storyteller. Use simple words."
SIX_CHATS = (  # the step after which it arrives, what is asked, the longest answer
    (0, "Tell me a story about a fox.", 18),
    (0, "Tell me a story about a kite.", 6),
    (0, "Tell me a story about a cat.", 9),
    (0, "Tell me a story about a fox and a boat.", 14),
    (3, "Tell me a story about a frog.", 6),
    (5, "Tell me a story about a cat and a kite.", 8),
)


def six_chats() -> EventLog:
    """Six chats on three slots, with the same system message: some arrive while others run."""
    model, tokenizer = load("tiny", device="cpu")
    engine = InferenceEngine(model, tokenizer, num_slots=3, start=False)
    coming = list(SIX_CHATS)
    while coming or engine.scheduler.has_work:
        while coming and coming[0][0] <= engine.trace.catch_up().step:
            _, text, longest = coming.pop(0)
            messages = [{"role": "system", "content": RULES}, {"role": "user", "content": text}]
            engine.submit(GenerationRequest(messages=messages, sampling=SamplingParams(max_tokens=longest)))
        engine.scheduler.step()
    return engine.trace


RECORDINGS = {"six_chats": six_chats, "small_cache": small_cache, "eight_slots": eight_slots}


def main() -> None:
    """Record all and keep them."""
    for name, record in RECORDINGS.items():
        log = record()
        log.save(TRACES / f"{name}.jsonl")
        print(f"{name}: {log.next_seq:,} events, {log.records[-1].step} steps")
    keep_ghost()


if __name__ == "__main__":
    main()

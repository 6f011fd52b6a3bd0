"""The recording behind ``SplitTheEdge``: a cache of few tokens and prompts that begin alike, one after the other."""

from __future__ import annotations

from astrai import GenerationRequest, InferenceEngine, SamplingParams, load
from astrai.trace.log import EventLog

CAPACITY = 30  # tokens that the tree may hold: too few for all of these
PROMPTS = (  # what is asked, and the tokens of its answer
    ("Once upon a time there was a fox", 4),
    ("Once upon a time there was a frog", 4),
    ("Once upon a time, a brave bear", 4),
    ("Once upon a time there was a fox named Fred. One day", 4),  # the first story goes on
    ("Once upon a time, a little mouse", 4),
)


def small_cache() -> EventLog:
    """Each prompt is sent when the answer before it is complete."""
    model, tokenizer = load("tiny", device="cpu")
    engine = InferenceEngine(model, tokenizer, num_slots=5, capacity_tokens=CAPACITY, start=False)
    for prompt, longest in PROMPTS:
        engine.submit(GenerationRequest(prompt, sampling=SamplingParams(temperature=0, max_tokens=longest)))
        while engine.scheduler.has_work:
            engine.scheduler.step()
    return engine.trace

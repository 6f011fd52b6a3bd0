"""What the film of the architecture says about the package, as plain data: a test proves each word of it.

It imports nothing, so that the facts can be checked where manim is missing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its name, where it stands in the repository, its two lines of detail, and its use."""

    name: str
    path: str
    details: tuple[str, str]
    purpose: tuple[str, str]


LAYERS = (
    Layer(
        "HTTP API Server",
        "astrai/inference/server/",
        ("FastAPI, OpenAI-compatible /v1/chat/completions", "streaming SSE, async, /health and /stats endpoints"),
        ("The server speaks HTTP.", "Clients made for OpenAI's API can use it."),
    ),
    Layer(
        "InferenceEngine",
        "astrai/inference/engine.py",
        (
            "generate(), generate_async(), generate_with_request()",
            "batch mode, streaming generator, thread-safe accumulator",
        ),
        ("The engine turns text into tokens,", "and the tokens that come back into text."),
    ),
    Layer(
        "InferenceScheduler",
        "astrai/inference/scheduler.py",
        (
            "background daemon, a 4-phase loop: Cleanup, Refill, Prefill, Decode",
            "ragged or position-grouped decode, bitmask O(1) slot allocation",
        ),
        ("The scheduler decides which requests run,", "turn by turn, in a loop of four phases."),
    ),
    Layer(
        "PrefixCacheManager + KV Cache",
        "astrai/inference/cache/",
        (
            "radix tree prefix matching, LRU eviction, slot versioning",
            "zero-copy reuse, else copy_() on the GPU; k_cache / v_cache tensors",
        ),
        ("The cache keeps what was computed,", "and finds it again by how a prompt begins."),
    ),
    Layer(
        "Transformer, 1B parameters",
        "astrai/model/transformer.py",
        (
            "24 DecoderBlocks, GQA 6:1, RoPE, SwiGLU MLP",
            "dim 1536, max length 2048, bfloat16, 100K vocabulary",
        ),
        ("The transformer reads tokens,", "and computes what the next one may be."),
    ),
)
SCHEDULER, CACHE = 2, 3  # the layers of the key innovations

NOTE = "Key Innovations: Continuous Batching + Prefix Cache"
CLOSING = ("AstrAI", "Single GPU · Open Source · 1B params")

# One chat of the bundled model, asked right after another one that begins alike, on an engine with four slots.
EARLIER_QUESTION = "Tell me a story."
QUESTION = "Tell me a story about a fox."
NUM_SLOTS, SLOT = 4, 1
PROMPT_TOKENS = 12  # with those of the chat template
CACHED_TOKENS = 6
ANSWER_IDS = (582, 1058, 261, 909)  # its first tokens
ANSWER = ("Once", " upon", " a", " time")


@dataclass(frozen=True, slots=True)
class Stop:
    """Where the request's card or the first token stands, what is written on it, and in which role's colour."""

    layer: int
    lines: tuple[str, ...]
    role: str | None
    caption: str


WAY_DOWN = (
    Stop(0, ("request",), None, "A request comes in, here to the small bundled model."),
    Stop(1, ("request", f"{PROMPT_TOKENS} tokens"), None, f"The engine cuts its text into {PROMPT_TOKENS} tokens."),
    Stop(SCHEDULER, ("request", "refill"), None, "Refill: the scheduler picks it, and asks for a slot."),
    Stop(
        CACHE,
        (f"{CACHED_TOKENS} cached", f"slot {SLOT}"),
        "copied",
        f"{CACHED_TOKENS} are cached from an earlier chat: copied to slot {SLOT}.",
    ),
    Stop(
        4,
        (f"{PROMPT_TOKENS - CACHED_TOKENS} new", f"slot {SLOT}"),
        "prefill",
        f"Prefill: only the other {PROMPT_TOKENS - CACHED_TOKENS} are computed. Out comes a token.",
    ),
)
WAY_UP = (
    Stop(4, (str(ANSWER_IDS[0]),), "prefill", "It is a number, and travels up."),
    Stop(SCHEDULER, (str(ANSWER_IDS[0]),), "prefill", "The scheduler notes it, for its next turn."),
    Stop(1, (f"“{ANSWER[0]}”",), "prefill", "The engine makes text of it,"),
    Stop(0, (f"“{ANSWER[0]}”",), "prefill", "and the server streams it to the client."),
)

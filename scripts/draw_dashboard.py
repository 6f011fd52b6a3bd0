"""Draws docs/dashboard.svg, the README's picture, from a run of the bundled model.

python scripts/draw_dashboard.py
"""

from __future__ import annotations

from pathlib import Path

from astrai import GenerationRequest, InferenceEngine, SamplingParams, load
from astrai.widgets.run import Run, decoder

RULES = "You are Astra, a little storyteller. Use simple words. Every story has a happy end."
QUESTIONS = ("Tell me a story about a fox.", "Tell me a story about a kite.", "Tell me a story about a fox and a boat.")
STEPS_OF_SECOND_TURN = 7


def main() -> None:
    """Three chats share a system message; then the first goes on. The picture is of the middle of its second turn."""
    model, tokenizer = load("tiny", device="cpu")
    engine = InferenceEngine(model, tokenizer, num_slots=4, start=False)
    sampling = SamplingParams(max_tokens=60)
    chats = [[{"role": "system", "content": RULES}, {"role": "user", "content": text}] for text in QUESTIONS]
    streams = [engine.submit(GenerationRequest(messages=chat, sampling=sampling)) for chat in chats]
    while engine.scheduler.has_work:
        engine.scheduler.step()
    chats[0] += [{"role": "assistant", "content": streams[0].result().text}]
    chats[0] += [{"role": "user", "content": "Give the story a title."}]
    chats[1][1]["content"] = "Tell me a story about a fox and a red kite."
    for chat in chats[:2]:
        engine.submit(GenerationRequest(messages=chat, sampling=sampling))
    for _ in range(STEPS_OF_SECOND_TURN):
        engine.scheduler.step()
    path = Path(__file__).parents[1] / "docs" / "dashboard.svg"
    path.write_text(Run(engine.trace, decoder(tokenizer)).svg(), encoding="utf-8")
    print(f"written to {path.name}")


if __name__ == "__main__":
    main()

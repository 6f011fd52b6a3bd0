"""Makes the arrays that checks of the course compare with: what Hugging Face computes on the bundled model.

A check asks for no network and no Hugging Face, so what ``LlamaForCausalLM`` said is kept in
astrai/course/references/NN.safetensors, and a test makes it again. Run this after the bundled model has changed:

    python scripts/make_references.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from astrai import load
from astrai.model.checkpoint import save

FOLDER = Path(__file__).resolve().parents[1] / "astrai" / "course" / "references"
PROMPT = [{"role": "user", "content": "Tell me a story about a fox."}]
NEW_TOKENS = 24


@torch.inference_mode()
def chapter_08() -> dict[str, Tensor]:
    """A prompt's keys and values as Hugging Face keeps them, its last logits, and the greedy answer.

    Returns:
        ``prompt_ids`` (T,) and ``answer_ids`` (24,) int64, ``keys`` and ``values`` (L, K, T, E) float32 as they stand
        in the cache (keys rotated), ``logits`` (V,) float32 after the last prompt token.
    """
    from transformers import LlamaForCausalLM

    model, tokenizer = load("tiny", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder, layout="hf")
        theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    prompt_ids = torch.tensor(tokenizer.apply_chat_template(PROMPT))
    out = theirs(prompt_ids[None], use_cache=True)
    kept = out.past_key_values.layers
    keys, values = (torch.stack([getattr(layer, name)[0] for layer in kept]) for name in ("keys", "values"))
    ids = prompt_ids
    for _ in range(NEW_TOKENS):  # NOTE: all of it each time: neither a cache nor a mask that could be wrong
        ids = torch.cat([ids, theirs(ids[None]).logits[0, -1:].argmax(-1)])
    return {
        "prompt_ids": prompt_ids,
        "answer_ids": ids[len(prompt_ids) :].clone(),
        "keys": keys.contiguous(),
        "values": values.contiguous(),
        "logits": out.logits[0, -1].clone(),
    }


def main() -> None:
    """Write all references."""
    FOLDER.mkdir(exist_ok=True)
    save_file(chapter_08(), FOLDER / "08.safetensors", metadata={"made_by": "scripts/make_references.py"})
    print(f"made {FOLDER.name}/08.safetensors")


if __name__ == "__main__":
    main()

"""Trains the bundled model from nothing: ``astrai train --minutes 40`` writes a folder that ``astrai.load`` reads.

A plain loop: draw conversations, ask for the tokens that the model speaks, step, and say how it goes. The learning rate
rises, stays and falls to zero over the minutes (or steps) given. The first lessons are nothing but copying, because a
model that cannot copy tells fluent stories about the wrong animal.

With ``--steps`` a run is exactly repeatable, interrupted and resumed or not; with ``--minutes`` it depends on the
speed of the machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from astrai.training.sample import answer
from astrai.training.trainer import Trainer

SAMPLE_PROMPTS = (
    "Tell me a story about a fox.",
    "Tell me a story about an owl and a red kite.",
    'Say "moon kite bear sock".',
)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="astrai train", description="Train the small model on the storyworld.")
    parser.add_argument("--out", type=Path, default=Path("astrai-run"), help="folder for model, tokenizer and state")
    parser.add_argument("--minutes", type=float, default=40.0, help="wall time of the whole run")
    parser.add_argument("--steps", type=int, default=0, help="count steps instead of minutes (repeatable)")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch likes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens-per-step", type=int, default=1000)
    parser.add_argument("--muon-lr", type=float, default=0.03, help="for the matrices inside the blocks")
    parser.add_argument("--adam-lr", type=float, default=0.008, help="for embeddings and norms")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer to use instead of training one")
    parser.add_argument("--resume", action="store_true", help="go on from the state in --out")
    parser.add_argument("--checkpoint-every", type=float, default=120.0, help="seconds")
    parser.add_argument("--sample-every", type=float, default=240.0, help="seconds; 0: never")
    parser.add_argument("--stop-after", type=int, default=0, help="leave after this step, as if interrupted")
    return parser.parse_args(argv)


def run(trainer: Trainer) -> None:
    """Train to the end of the run, with a progress bar, checkpoints and samples."""
    options, progress = trainer.options, trainer.progress
    total = options.steps or int(60 * options.minutes)
    bar = tqdm(total=total, unit="step" if options.steps else "s", mininterval=2)
    clock = checkpointed = sampled = time.monotonic()
    average = None
    while progress.share(options) < 1 and not (options.stop_after and progress.step >= options.stop_after):
        loss = trainer.step()
        average = loss if average is None else 0.95 * average + 0.05 * loss
        now = time.monotonic()
        progress.seconds += now - clock
        clock = now
        speed = progress.tokens / progress.seconds
        bar.set_postfix_str(f"loss {average:.3f}, {speed:.0f} tokens/s, step {progress.step}", refresh=False)
        bar.update((progress.step if options.steps else min(total, int(progress.seconds))) - bar.n)
        if now - checkpointed > options.checkpoint_every:
            trainer.save()
            checkpointed = time.monotonic()
        if options.sample_every and now - sampled > options.sample_every:
            show_samples(trainer)
            sampled = time.monotonic()
    bar.close()
    trainer.save()


def show_samples(trainer: Trainer) -> None:
    """What the model says now."""
    for prompt in SAMPLE_PROMPTS:
        text = answer(trainer.model, trainer.tokenizer, [{"role": "user", "content": prompt}])
        tqdm.write(f"{prompt}\n    {text}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``astrai train``."""
    options = parse(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    trainer = Trainer(options)
    print(f"{trainer.model.config.num_parameters:,} parameters, {trainer.tokenizer.vocab_size} tokens", file=sys.stderr)
    run(trainer)
    print(f"saved to {options.out}: {trainer.progress}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

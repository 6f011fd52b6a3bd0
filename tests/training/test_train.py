"""The training loop: it learns, it resumes exactly, and it asks for the right tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from astrai.config import ModelConfig
from astrai.model.checkpoint import load_model
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer
from astrai.training.batches import encode_chat, make_row, split_by_length
from astrai.training.chats import chat
from astrai.training.muon import orthogonalise
from astrai.training.sample import greedy
from astrai.training.train import main, parse
from astrai.training.trainer import DRILL_STEPS, Trainer, drill_share, learning_rate_factor

TINY = Path(__file__).parents[2] / "astrai" / "assets" / "tiny"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(TINY)


def short_run(out: Path, *more: str) -> list[str]:
    quick = ["--tokens-per-step", "150", "--sample-every", "0", "--tokenizer", str(TINY)]
    return ["--out", str(out), "--threads", "1", *quick, *more]


def test_twenty_steps_make_the_loss_fall(tmp_path: Path) -> None:
    trainer = Trainer(parse(short_run(tmp_path, "--steps", "100")))
    losses = [trainer.step() for _ in range(20)]
    assert losses[0] == pytest.approx(8.3, abs=0.2)  # the logarithm of 4,096
    assert sum(losses[-3:]) / 3 < 6.5


def test_a_resumed_run_equals_one_that_was_never_interrupted(tmp_path: Path) -> None:
    assert main(short_run(tmp_path / "whole", "--steps", "6")) == 0
    assert main(short_run(tmp_path / "parts", "--steps", "6", "--stop-after", "3")) == 0
    stopped = load_model(tmp_path / "parts")
    assert main(short_run(tmp_path / "parts", "--steps", "6", "--resume")) == 0
    whole, parts = load_model(tmp_path / "whole"), load_model(tmp_path / "parts")
    for (name, expected), found, before in zip(
        whole.named_parameters(), parts.parameters(), stopped.parameters(), strict=True
    ):
        assert torch.equal(expected, found), name
        assert not torch.equal(before, found), name
    assert Tokenizer.load(tmp_path / "parts").hash == Tokenizer.load(TINY).hash


def test_resuming_nothing_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(tmp_path)
    with pytest.raises(ValueError, match="start without --resume"):
        main(short_run(tmp_path, "--steps", "1", "--resume"))


def test_a_row_is_the_chat_template_with_the_answers_asked_for(tokenizer: Tokenizer) -> None:
    for seed in range(50):
        messages = chat(seed)
        row = encode_chat(tokenizer, messages)
        assert row.ids == tokenizer.apply_chat_template(messages, add_generation_prompt=False)
        answers = [m["content"] for m in messages if m["role"] == "assistant"]
        asked = tokenizer.decode([row.ids[position + 1] for position in row.asked], skip_special=False)
        assert asked == "".join(f"{answer}<|end|>" for answer in answers)


def test_batches_hold_every_row_once_and_targets_are_the_next_ids(tokenizer: Tokenizer) -> None:
    rows = [make_row(tokenizer, seed=1, index=index, drill=0.5) for index in range(40)]
    asked = 0
    for batch in split_by_length(rows, groups=3):
        flat = batch.ids.flatten()
        assert torch.equal(flat[batch.logits_at + 1], batch.targets)
        asked += len(batch.targets)
    assert asked == sum(len(row.asked) for row in rows)


def test_rows_depend_only_on_seed_and_index(tokenizer: Tokenizer) -> None:
    assert make_row(tokenizer, 1, 5, 0.5) == make_row(tokenizer, 1, 5, 0.5)
    assert make_row(tokenizer, 1, 5, 0.5) != make_row(tokenizer, 2, 5, 0.5)


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (32, 32)])
def test_orthogonalising_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix)
    assert torch.linalg.svdvals(result).max() < 1.3
    # The singular vectors stay: in their basis the result is diagonal.
    core = left.T @ result @ right.T
    assert (core - torch.diag(torch.diagonal(core))).abs().max() < 1e-3
    assert torch.diagonal(core)[:20].min() > 0.6


def test_schedules() -> None:
    assert learning_rate_factor(0, 0.0) == pytest.approx(1 / 40)
    assert learning_rate_factor(100, 0.1) == 1.0
    assert learning_rate_factor(100, 1.0) == pytest.approx(0.01)
    assert drill_share(0) == drill_share(DRILL_STEPS - 1) == 1.0
    assert drill_share(DRILL_STEPS) == 1.0 and drill_share(100_000) == 0.5


def test_greedy_answers_equal_a_loop_without_a_cache(tokenizer: Tokenizer) -> None:
    model = Transformer.random(ModelConfig.preset("tiny"), seed=3)
    prompts = [[0, 2, 30 + index, 40, *range(50, 50 + index // 2), 4, 3] for index in range(5)]
    answers = greedy(model, tokenizer, prompts, max_tokens=6)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = list(prompt)
        for _ in range(6):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        assert ids[len(prompt) :] == answer

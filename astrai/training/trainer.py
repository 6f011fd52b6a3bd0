"""The state of a training run and one step of it: model, two optimizers, how far it is, and how to save all that."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from astrai.config import ModelConfig
from astrai.model import checkpoint
from astrai.model.transformer import Transformer
from astrai.tokenizer import Tokenizer
from astrai.training.batches import Row, make_row, split_by_length
from astrai.training.chats import chat, vocabulary
from astrai.training.muon import Muon
from astrai.training.storyworld import without_invented_names, words
from astrai.training.tokenizer import train_tokenizer

TOKENIZER_CHATS = 4000
TOKENIZER_SEED = 999
DRILL_STEPS = 220
STATE_FILE = "training_state.safetensors"
PROGRESS_FILE = "training.json"


@dataclass
class Progress:
    """How far a run is. ``seconds`` counts training only, over all its sessions."""

    step: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def share(self, options: argparse.Namespace) -> float:
        """From 0 at the start to 1 at the end."""
        done = self.step / options.steps if options.steps else self.seconds / (60 * options.minutes)
        return min(1.0, done)


def learning_rate_factor(step: int, share: float) -> float:
    """Up in the first 40 steps, whole for the first tenth of the run, then straight down to 1 % at its end."""
    return min(1.0, (step + 1) / 40) * min(1.0, max(0.01, (1 - share) / 0.9))


def drill_share(step: int) -> float:
    """The share of rows that only copy: all of them in the first lessons, then ever fewer, and never none.

    Rows, not tokens: a drill has a sixth of a conversation's. This order matters more than anything else here. A model
    that begins with stories learns to tell them about whomever it likes and then does not learn to copy in ten times as
    many tokens; one that stops practising forgets it.
    """
    return 1.0 if step < DRILL_STEPS else max(0.5, 1.0 - (step - DRILL_STEPS) / 800)


class Trainer:
    """The state of a run: model, optimizers, progress."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.progress = Progress()
        self.tokenizer = self._tokenizer()
        self.copyable = frozenset(
            ids[0] for word in vocabulary() for ids in (self.tokenizer.encode(f" {word}"), self.tokenizer.encode(word))
        )
        config = replace(
            ModelConfig.preset("tiny"),
            vocab_size=max(ModelConfig.preset("tiny").vocab_size, self.tokenizer.vocab_size),
            bos_id=self.tokenizer.bos_id,
            eos_ids=self.tokenizer.eos_ids,
        )
        self.model = Transformer.random(config, options.seed).to(options.device)
        matrices = [p for p in self.model.blocks.parameters() if p.ndim == 2]
        rest = [p for p in self.model.parameters() if all(p is not matrix for matrix in matrices)]
        self.muon = Muon(matrices, lr=options.muon_lr)
        self.adam = torch.optim.AdamW(rest, lr=options.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
        if options.resume:
            self._load_state()

    def step(self) -> float:
        """One step on fresh conversations; the mean loss in nats per token."""
        share = self.progress.share(self.options)
        self._set_learning_rates(share)
        rows = self._draw_rows(drill_share(self.progress.step))
        tokens = sum(len(row.ids) for row in rows)
        batches = list(split_by_length(rows, max(1, tokens // 500), self.copyable))
        total = sum(len(batch.targets) for batch in batches)
        total_weight = sum(float(batch.weights.sum()) for batch in batches)
        loss_sum = 0.0
        for batch in batches:
            ids, logits_at, targets, weights = (part.to(self.options.device) for part in batch)
            logits = self.model(ids, logits_at=logits_at)  # (N, V)
            losses = F.cross_entropy(logits, targets, reduction="none")  # (N,)
            ((losses * weights).sum() / total_weight).backward()
            loss_sum += float(losses.detach().sum()) / total
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in (self.muon, self.adam):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.tokens += tokens
        return loss_sum

    def save(self) -> None:
        """Model, tokenizer and everything that :meth:`_load_state` needs, whole at every moment."""
        out = self.options.out
        out.mkdir(parents=True, exist_ok=True)
        save_file(self._state(), out / f"{STATE_FILE}.part")
        os.replace(out / f"{STATE_FILE}.part", out / STATE_FILE)
        (out / PROGRESS_FILE).write_text(json.dumps(asdict(self.progress)) + "\n", encoding="utf-8")
        checkpoint.save(self.model, out)
        self.tokenizer.save(out)

    def _tokenizer(self) -> Tokenizer:
        folder = self.options.out if self.options.resume else self.options.tokenizer
        if folder is not None:
            return Tokenizer.load(folder)
        texts = (
            without_invented_names(message["content"])
            for index in range(TOKENIZER_CHATS)
            for message in chat(TOKENIZER_SEED + index)
        )
        return train_tokenizer(texts, vocabulary(), words()["common"])

    def _draw_rows(self, drill: float) -> list[Row]:
        rows: list[Row] = []
        tokens = 0
        while tokens < self.options.tokens_per_step:
            rows.append(make_row(self.tokenizer, self.options.seed, self.progress.rows, drill))
            self.progress.rows += 1
            tokens += len(rows[-1].ids)
        return rows

    def _set_learning_rates(self, share: float) -> None:
        factor = learning_rate_factor(self.progress.step, share)
        for optimizer, rate in ((self.muon, self.options.muon_lr), (self.adam, self.options.adam_lr)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def _state(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for prefix, optimizer in (("muon", self.muon), ("adam", self.adam)):
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"{prefix}.{index}.{name}": tensor for name, tensor in values.items()}
        return tensors

    def _load_state(self) -> None:
        path = self.options.out / STATE_FILE
        if not path.is_file():
            raise ValueError(f"{self.options.out} has no {STATE_FILE}: start without --resume")
        tensors = load_file(path)
        self.progress = Progress(**json.loads((self.options.out / PROGRESS_FILE).read_text(encoding="utf-8")))
        self.model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
        for prefix, optimizer in (("muon", self.muon), ("adam", self.adam)):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith(f"{prefix}."):
                    _, index, key = name.split(".", 2)
                    state.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

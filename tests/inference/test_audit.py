"""Whole engines on small real models: after every step the books agree, and at random steps so do the tensors.

The runs are made to hurt: few rows for many requests with shared prefixes, so that rows are reused, copied, cut and
evicted; clients that go away; and forwards and copies that fail half-way, after some of it was written.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from typing import Any

import pytest
import torch

from astrai.config import EngineConfig, SamplingParams
from astrai.inference.engine import GenerationRequest, InferenceEngine
from astrai.trace.events import Event, Prefilled, PrefixCopied, RequestFinished, SlotReused
from tests.inference.audit import audit, audit_books
from tests.inference.loads import drive, random_load, random_settings
from tests.inference.models import random_config, random_model

REQUIRED = (  # what must have happened in the runs of this file, or the audit proves less than it says
    "audited rows",
    "zero-copy reuse",
    "PrefixCopied",
    "SlotTruncated",
    "NodeEvicted",
    "NodeSplit",
    "NodeMerged",
    "RequestHeld",
    "chunk after a prefix",
    "ended: length",
    "ended: cancelled",
    "failed: planted failure in a layer",
    "failed: planted failure in a copy",
    "failed: not finite",
)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    torch.set_num_threads(1)
    caplog.set_level(logging.CRITICAL, logger="astrai.scheduler")


@pytest.fixture(scope="module")
def happened() -> Counter[str]:
    return Counter()


class Faults:
    """Makes forwards and copies of an engine fail at random, unless told to ``rest``, so that an audit can compute.

    A layer raises after earlier ones wrote their keys and values, or the last norm gives nan, which the sampler
    refuses; a copy raises half-way.
    """

    def __init__(self, engine: InferenceEngine, rng: random.Random, rate: float) -> None:
        self.rng, self.rate, self.rest = rng, rate, False
        self.places = len(engine.model.blocks) + 1
        self.copy_prefix = engine.kv_cache.copy_prefix
        if rate:  # a model with hooks runs on the readable path, one without on the fast one: both are audited
            for block in engine.model.blocks:
                block.mlp.register_forward_pre_hook(self._raise_in_layer)
            engine.model.norm.register_forward_hook(self._spoil)
        engine.kv_cache.copy_prefix = self._copy  # type: ignore[method-assign]

    def _is_due(self) -> bool:
        return not self.rest and self.rng.random() < self.rate / self.places

    def _raise_in_layer(self, *_: object) -> None:
        if self._is_due():
            raise RuntimeError("planted failure in a layer")

    def _spoil(self, module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output * torch.nan if self._is_due() else output

    def _copy(self, src: int, dst: int, length: int) -> None:
        if not self.rest and self.rate and self.rng.random() < 0.25:  # copies are rare
            self.copy_prefix(src, dst, length // 2)
            raise RuntimeError("planted failure in a copy")
        self.copy_prefix(src, dst, length)


def audited_run(seed: int, happened: Counter[str]) -> None:
    """A random load on a random model, with the books checked after each step and the tensors after every fourth."""
    rng = random.Random(f"audit {seed}")
    model = random_model(random_config(seed), seed)
    engine = InferenceEngine(model, config=EngineConfig(**hard_settings(rng, seed)), start=False)
    emit = engine.scheduler.emit
    faults = Faults(engine, rng, rate=rng.choice([0.0, 0.0, 0.03, 0.15]))

    def count_and_emit(event: Event) -> None:
        happened.update(what(event))
        emit(event)

    def check(everything: bool = False) -> None:
        faults.rest = True
        audit_books(engine)
        if everything or rng.random() < 0.25:
            rows, positions = audit(engine)
            happened.update({"audits": 1, "audited rows": rows, "audited positions": positions})
        faults.rest = False

    engine.scheduler.emit = count_and_emit
    drive(engine, random_load(rng, model.config, count=rng.randint(8, 24)), after_step=check)
    check(everything=True)
    engine.shutdown()
    check(everything=True)


def hard_settings(rng: random.Random, seed: int) -> dict[str, Any]:
    """Few rows; both policies in turn; now and then no prefix cache."""
    num_slots = rng.choice([1, 2, 3, 4, 6])
    return {
        **random_settings(rng),
        "num_slots": num_slots,
        "max_running": rng.choice([None, rng.randint(1, num_slots)]),
        "decode_policy": ("ragged", "grouped")[seed % 2],
        "prefix_cache": seed % 8 != 7,
    }


def what(event: Event) -> list[str]:
    """The names under which an event is counted."""
    names = [type(event).__name__]
    if isinstance(event, SlotReused) and event.kept_len:
        names.append("zero-copy reuse")
    if isinstance(event, Prefilled) and event.start and event.end - event.start > 1:
        names.append("chunk after a prefix")
    if isinstance(event, PrefixCopied) and event.length == 1:
        names.append("copy of one token")
    if isinstance(event, RequestFinished):
        names.append(f"ended: {event.reason}")
        names += [f"failed: {text}" for text in FAILURES if text in event.message]
    return names


FAILURES = [name.removeprefix("failed: ") for name in REQUIRED if name.startswith("failed: ")]


@pytest.mark.parametrize("seed", range(20))
def test_rows_hold_what_an_uncached_forward_computes(seed: int, happened: Counter[str]) -> None:
    audited_run(seed, happened)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_rows_hold_what_an_uncached_forward_computes_nightly(seed: int, happened: Counter[str]) -> None:
    audited_run(seed, happened)


@pytest.mark.parametrize("name", ["k_cache", "v_cache"])
@pytest.mark.parametrize("owned", [True, False])
def test_the_audit_sees_a_single_wrong_number(name: str, owned: bool) -> None:
    model = random_model(random_config(1), seed=1)
    engine = InferenceEngine(model, num_slots=2, start=False)
    request = engine.submit(
        GenerationRequest((1, 2, 3, 4, 5, 6), sampling=SamplingParams(max_tokens=4, ignore_eos=True))
    )
    while not owned and request.output.ending is None:
        engine.scheduler.step()
    engine.scheduler.step()
    rows, positions = audit(engine)
    assert rows == 1 and positions >= 6
    getattr(engine.kv_cache, name)[-1, 0, 0, 3, 0] += 0.01
    with pytest.raises(AssertionError, match=f"{name} of slot 0, which holds"):
        audit(engine)


def test_the_runs_above_had_all_that_they_are_for(happened: Counter[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Stands last, after all runs of this file."""
    if not happened:
        pytest.skip("no run was made: run the whole file")
    with capsys.disabled():
        print(f"\n{happened['audits']:,} audits of {happened['audited rows']:,} rows", end=" ")
        print(f"and {happened['audited positions']:,} positions over {happened['StepStarted']:,} steps")
    assert [name for name in REQUIRED if not happened[name]] == [], dict(happened)

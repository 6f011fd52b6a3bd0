"""Do the tests notice? Each known defect is planted into a copy of the package, where tests must then fail.

The numbers are those of ``docs/defects.md``. A plant replaces one piece of source text; if that text is gone, the
plant itself fails, so this table cannot go stale unseen.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
INFERENCE = "astrai/inference"
SCHEDULER, CACHE = f"{INFERENCE}/scheduler.py", f"{INFERENCE}/cache/prefix_cache.py"
SERVER = f"{INFERENCE}/server"
TREE, ENGINE = f"{INFERENCE}/cache/radix_tree.py", f"{INFERENCE}/engine.py"


class Plant(NamedTuple):
    """A defect: in ``path``, ``old`` (which stands there once) becomes ``new``; ``tests`` must notice."""

    number: int
    name: str
    path: str
    old: str
    new: str
    tests: str


PLANTS = [
    Plant(
        1,
        "the last prompt token is fed twice",
        f"{INFERENCE}/request.py",
        "return self.output_ids[-1]",
        "return self.output_ids[-1] if len(self.output_ids) > 1 else self.prompt_ids[-1]",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        2,
        "generate returns at the first token",
        f"{INFERENCE}/accumulator.py",
        "if not self._changed.wait_for(lambda: self.ending is not None, timeout):",
        "if not self._changed.wait_for(lambda: self.sampled or self.ending is not None, timeout):",
        "tests/inference/test_engine.py",
    ),
    Plant(
        3,
        "temperature 0 divides by zero",
        f"{INFERENCE}/sampler.py",
        "max(params.temperature, MIN_TEMPERATURE)",
        "1 / params.temperature * params.temperature**2",
        "tests/inference/test_sampler.py",
    ),
    Plant(
        4,
        "prompt and output run over the row's end",
        SCHEDULER,
        "min(sampling.max_tokens, self.max_seq_len - request.prompt_len)",
        "sampling.max_tokens",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        5,
        "an empty prompt reaches the loop",
        SCHEDULER,
        "if not request.prompt_ids:",
        "if False:",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        6,
        "max_tokens=0 emits a token",
        SCHEDULER,
        "if request.sampling.max_tokens == 0:",
        "if False:",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        7,
        "an evicted node stays linked from its parent",
        TREE,
        "        del node.parent.children[node.token_ids[0]]\n",
        "",
        "tests/inference/cache/test_radix_tree.py",
    ),
    Plant(
        8,
        "eviction does not begin at the leaves",
        TREE,
        "if not n.children and n.node_id and",
        "if n.node_id and",
        "tests/inference/cache",
    ),
    Plant(
        9,
        "eviction spins when every row is locked",
        CACHE,
        "            if leaf is None:\n                break\n",
        "            if leaf is None:\n                continue\n",
        "tests/inference/cache/test_prefix_cache.py",
    ),
    Plant(
        10,
        "a row is handed out without a new version",
        f"{INFERENCE}/cache/slots.py",
        "return self.renew(lowest.bit_length() - 1)",
        "return self.handle(lowest.bit_length() - 1)",
        "tests/inference/cache/test_slots.py",
    ),
    Plant(
        10,
        "a row taken for a partial match keeps its old path",
        CACHE,
        "changes += self.tree.cut(handle, length if in_place else 0)",
        "changes += self.tree.cut(handle, self.tree.end_node(slot).end if in_place else 0)",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        11,
        "positions are read before the batch is sorted",
        f"{INFERENCE}/runner.py",
        "positions = [request.context_len for request in batch]",
        "positions = [request.context_len for request in requests]",
        "tests/inference/test_runner.py",
    ),
    Plant(
        12,
        "top_k is the maximum over the batch",
        f"{INFERENCE}/sampler.py",
        "top_k, top_p = table[:, 1:2], table[:, 2:3]",
        "top_k, top_p = table[:, 1:2].amax(0, keepdim=True), table[:, 2:3]",
        "tests/inference/test_sampler.py",
    ),
    Plant(
        13,
        "a prompt is prefilled again from its start",
        SCHEDULER,
        "start = request.context_len\n",
        "start = request.cached_len\n",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        14,
        "only the largest group decodes",
        SCHEDULER,
        "return list(groups.values())",
        "return [max(groups.values(), key=len)] if groups else []",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        15,
        "the prefix is matched when the request arrives",
        SCHEDULER,
        "                match = self.cache.match(request.prompt_ids)\n",
        "                found = {r.request_id: self.cache.match(r.prompt_ids) for r in self.waiting.values()}\n"
        "                found = self.__dict__.setdefault('found', found)\n"
        "                match = found.get(request.request_id) or self.cache.match(request.prompt_ids)\n",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        16,
        "the loop sleeps between tokens",
        f"{INFERENCE}/daemon.py",
        "                scheduler.step()\n",
        "                scheduler.step()\n                __import__('time').sleep(0.005)\n",
        "tests/inference/test_daemon.py",
    ),
    Plant(
        17,
        "tokens are decoded one by one",
        "astrai/tokenizer.py",
        "self._pending.append(token_id)",
        "return self._tokenizer.decode([token_id])",
        "tests/test_tokenizer.py",
    ),
    Plant(
        18,
        "client threads free rows",
        SCHEDULER,
        "        self.inbox.cancel(request_id)\n",
        "        request = self.running[request_id]\n"
        "        self._finish(request, Ending('cancelled'))\n"
        "        self._release(request)\n",
        "tests/inference/test_daemon.py",
    ),
    Plant(
        19,
        "a dead loop looks like a normal end of text",
        f"{INFERENCE}/daemon.py",
        "scheduler.abandon(ending)",
        "scheduler.abandon(Ending('stop'))",
        "tests/inference/test_daemon.py",
    ),
    Plant(
        20,
        "the blocking call runs on the event loop",
        ENGINE,
        "                await wake.wait()\n",
        "                self.output.wait_for_end()\n",
        "tests/inference/test_engine.py",
    ),
    Plant(
        20,
        "a body is cut into tokens on the event loop",
        f"{SERVER}/app.py",
        "await asyncio.to_thread(read_job, kind, raw, engine, service.config)",
        "read_job(kind, raw, engine, service.config)",
        "tests/inference/test_server_manners.py",
    ),
    Plant(
        21,
        "logits are computed at every prompt position",
        "astrai/model/transformer.py",
        "            x = x.flatten(0, 1)[logits_at]  # (N, D)\n",
        "            head = self.embed if self.head is None else self.head\n"
        "            return F.linear(self.norm(x), head.weight).flatten(0, 1)[logits_at]\n",
        "tests/model tests/inference/test_runner.py",
    ),
    Plant(
        22,
        "a fresh row is the lowest free bit, however warm",
        CACHE,
        "if blank := free & ~self.tree.holding:",
        "if blank := free:",
        "tests/inference/cache/test_prefix_cache.py",
    ),
    Plant(
        23,
        "the tree claims a prompt before it was computed",
        SCHEDULER,
        "        if failure:\n            self._finish(request, failure)\n",
        "        self._emit_all(self.cache.commit(self._handle(request), request.prompt_ids))\n",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        24,
        "two requests of a step compute the same prefix",
        SCHEDULER,
        "                if shared_len > matched_len:\n",
        "                if False:\n",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        25,
        "a request that comes back matches its whole prompt",
        CACHE,
        "return self.tree.match_prefix(prompt_ids[:-1])",
        "return self.tree.match_prefix(prompt_ids)",
        "tests/inference/test_scheduler.py",
    ),
    Plant(
        26,
        "a stale handle is read",
        f"{INFERENCE}/cache/slots.py",
        "if self.versions[handle.slot] != handle.version:",
        "if False:",
        "tests/inference/cache/test_prefix_cache.py",
    ),
    Plant(
        27,
        "a chunk behind a prefix gets a square mask",
        f"{INFERENCE}/cache/kv_cache.py",
        "mask.triu_(segment.start + 1)",
        "mask.triu_(1)",
        "tests/inference/test_kv_cache.py",
    ),
    Plant(
        28,
        "the other RoPE layout",
        "astrai/model/rope.py",
        "swapped = x.roll(x.shape[-1] // 2, dims=-1)",
        "swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)",
        "tests/model",
    ),
    Plant(
        29,
        "a client that goes away keeps its slot",
        ENGINE,
        "        yield from stream\n    finally:\n        stream.cancel()\n",
        "        yield from stream\n    finally:\n        pass\n",
        "tests/inference/test_engine.py",
    ),
    Plant(
        29,
        "an HTTP client that goes away keeps its slot",
        f"{SERVER}/service.py",
        "            choices.close()\n",
        "",
        "tests/inference/test_server_manners.py",
    ),
    Plant(
        30,
        "a prompt that is too long is cut on the left",
        ENGINE,
        "prompt_ids = self._prompt_ids(request)\n",
        "prompt_ids = self._prompt_ids(request)[-self.max_seq_len + 1 :]\n",
        "tests/inference/test_engine.py",
    ),
    Plant(
        31,
        "every request ends with stop",
        ENGINE,
        "finish_reason=ending.reason,",
        'finish_reason="stop",',
        "tests/inference/test_engine.py",
    ),
    Plant(
        31,
        "a stream's last chunk always says stop",
        f"{SERVER}/forms.py",
        """"delta":{{}},"logprobs":null,"finish_reason":"{reason}"}}""",
        """"delta":{{}},"logprobs":null,"finish_reason":"stop"}}""",
        "tests/inference/test_server.py",
    ),
    Plant(
        31,
        "a chat stream has no role",
        f"{SERVER}/forms.py",
        """{"role":"assistant","content":"","refusal":null}'""",
        """{"content":"","refusal":null}'""",
        "tests/inference/test_server.py",
    ),
]


def test_every_known_defect_has_a_plant_and_a_line_in_the_list():
    listed = re.findall(r"^\| (\d+) \|", (ROOT / "docs/defects.md").read_text(), flags=re.MULTILINE)
    assert [int(number) for number in listed] == sorted({plant.number for plant in PLANTS}) == list(range(1, 32))


def copy_of_the_project(folder: Path) -> Path:
    for name in ("astrai", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run_tests(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--timeout=40", "-p", "no:cacheprovider", *tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.nightly
@pytest.mark.timeout(400)
@pytest.mark.parametrize("plant", PLANTS, ids=[f"{plant.number:02d} {plant.name}" for plant in PLANTS])
def test_a_planted_defect_is_noticed(plant: Plant, tmp_path: Path):
    path = copy_of_the_project(tmp_path) / plant.path
    source = path.read_text()
    assert source.count(plant.old) == 1, f"{plant.path} no longer holds {plant.old!r} once: renew this plant"
    path.write_text(source.replace(plant.old, plant.new))
    done = run_tests(tmp_path, plant.tests)
    # A hang is ended by the timeout, which may end pytest itself: that is noticing, too.
    noticed = "failed" in done.stdout or "Timeout" in done.stdout + done.stderr
    assert done.returncode != 0 and noticed, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_without_a_plant_the_same_tests_pass(tmp_path: Path):
    tests = " ".join(sorted({name for plant in PLANTS for name in plant.tests.split()}))
    done = run_tests(copy_of_the_project(tmp_path), tests)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]

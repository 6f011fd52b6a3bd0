"""A recorded run on paper: its events step by step, and the state that replaying them gives.

It reads the trace and knows no engine, except where it records a small run of its own to show.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from astrai.trace.events import PhaseEnded, PhaseStarted, StepStarted
from astrai.trace.jsonl import Record
from astrai.trace.log import EventLog
from astrai.trace.replay import replay
from astrai.trace.snapshot import Snapshot
from astrai.trace.words import FINE_PRINT, describe, tokens

FRAME = (StepStarted, PhaseStarted, PhaseEnded)  # they are the table's form, not its lines
SYSTEM = "You are a storyteller."
DEMO = ("Tell me a story about a fox.", "Tell me a story about a kite.", "Tell me a story about a fox and a kite.")


def print_run(path: Path, step: int | None = None, final_only: bool = False, console: Console | None = None) -> None:
    """Print a run: all its steps and the final state, one step and the state after it, or the final state.

    Raises:
        ValueError: the file is no trace, or has no such step.
    """
    console = console or _console()
    log = EventLog.load(path)
    records = log.records
    if step is not None:
        first, last = (records[0].step, records[-1].step) if records else (0, 0)
        records = [record for record in records if record.step == step]
        if not records:
            raise ValueError(f"{path} has no step {step}: its steps are {first} to {last}")
    if not final_only:
        for number, group in groupby(records, key=lambda record: record.step):
            console.print(_step_table(number, list(group), fine=step is not None))
    seq = records[-1].seq + 1 if step is not None else log.next_seq
    console.print(f"\n[bold]The state after {seq:,} events[/bold] (step {records[-1].step if records else 0})")
    print_state(replay(log, seq), console)


def _step_table(number: int, records: list[Record], fine: bool) -> Table:
    table = Table(title=f"step {number}", title_justify="left", title_style="bold", box=None, show_header=False)
    table.add_column(justify="right", style="dim", min_width=6)
    table.add_column(min_width=8)
    table.add_column(overflow="fold")
    phase, shown = "", ""
    for record in records:
        match record.event:
            case PhaseStarted(name):
                phase = name
            case PhaseEnded():
                phase = ""
            case event if not isinstance(event, FRAME) and (fine or not isinstance(event, FINE_PRINT)):
                table.add_row(str(record.seq), phase if phase != shown else "", _escape(describe(event)))
                shown = phase
    return table


def print_state(state: Snapshot, console: Console) -> None:
    """Print slots, queues, radix tree and counters."""
    slots = Table("slot", "version", "owner", "valid tokens", "tree node", "locked", box=None)
    for slot in state.slots:
        owner = "free" if slot.request_id is None else f"request {slot.request_id}"
        locked = "yes" if slot.locked else ""
        slots.add_row(*map(str, (slot.slot, slot.version, owner, slot.context_len, slot.node_id or "-", locked)))
    console.print(slots)
    console.print(_tree(state))
    console.print(f"waiting: {_list(state.waiting)}   running: {_list(state.running)}")
    counters = state.counters
    ends = ", ".join(f"{count} {reason}" for reason, count in counters.finished if count) or "none"
    console.print(
        f"requests: {counters.arrived} arrived, {counters.rejected} rejected; ended: {ends}\n"
        f"tokens: {counters.prefilled_tokens} prefilled, {counters.cached_tokens} found in the cache "
        f"({counters.copied_tokens} of them copied), {counters.decoded_tokens} decoded; "
        f"{counters.evicted_nodes} nodes evicted"
    )


def _tree(state: Snapshot) -> Tree:
    total = sum(len(node.token_ids) for node in state.nodes)
    branches = {0: Tree(f"radix tree: {len(state.nodes)} nodes, {tokens(total)}")}
    waiting = list(state.nodes)
    while waiting:  # a split gives the parent the higher id, so parents may come later
        node = waiting.pop(0)
        if node.parent_id not in branches:
            waiting.append(node)
            continue
        held = ", ".join(map(str, node.holders))
        text = f"node {node.node_id}: {tokens(len(node.token_ids))}, held by slot {held}"
        branches[node.node_id] = branches[node.parent_id].add(text)
    return branches[0]


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def _list(request_ids: tuple[int, ...]) -> str:
    return ", ".join(map(str, request_ids)) or "none"


def _escape(text: str) -> str:
    return text.replace("[", "\\[")


def record_demo(path: Path, model: str = "tiny", console: Console | None = None) -> int:
    """Record three chats that share a prefix and a second turn of the first; 1 if the file does not replay truly.

    Raises:
        ValueError: there is no such model.
        OSError: the file cannot be written.
    """
    from astrai import GenerationRequest, InferenceEngine, SamplingParams, load
    from astrai.inference.witness import take_snapshot

    console = console or _console()
    sampling = SamplingParams(max_tokens=48)
    chats = [[{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}] for text in DEMO]
    with InferenceEngine(*load(model), num_slots=4) as engine:
        with engine.trace.record(path):
            streams = [engine.submit(GenerationRequest(messages=chat, sampling=sampling)) for chat in chats]
            answers = [stream.result() for stream in streams]
            again = {"role": "user", "content": "Tell me another one."}
            turn = [*chats[0], {"role": "assistant", "content": answers[0].text}, again]
            answers.append(engine.generate_with_request(GenerationRequest(messages=turn, sampling=sampling)))
            engine.shutdown()
        for answer in answers:
            figures = f"{answer.prompt_tokens} prompt tokens, {answer.cached_tokens} of them cached"
            console.print(f"{_escape(answer.text.strip())}\n  [dim]{figures}, {answer.finish_reason}[/dim]\n")
        # The replay of the file against the scheduler's own books, not against another replay.
        true = replay(EventLog.load(path)) == take_snapshot(engine.scheduler)
    verdict = "equals" if true else "DIFFERS FROM"
    console.print(f"{path}: its replay {verdict} the engine's own final state. Read it: astrai trace show {path}")
    return 0 if true else 1

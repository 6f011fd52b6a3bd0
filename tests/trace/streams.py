"""A toy engine that makes valid streams of events, and knows its own state without looking at them.

Its rows hold lists of tokens; who holds a node, and where a row's path ends, is found by comparing tokens, never by
keeping count. So ``World.snapshot`` is an independent witness for ``Replayer.snapshot``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from astrai.trace import Counters, NodeState, RequestState, SlotState, Snapshot
from astrai.trace import events as e


@dataclass
class Row:
    version: int = 0
    owner: int | None = None
    tokens: tuple[int, ...] = ()  # valid KV
    held: tuple[int, ...] = ()  # the part that the tree knows
    locked: bool = False


@dataclass
class Edge:
    parent: int
    tokens: tuple[int, ...]
    last_used: int = 0


@dataclass
class Client:
    prompt: tuple[int, ...]
    output: list[int] = field(default_factory=list)
    slot: int | None = None
    cached_len: int = 0
    leader: int | None = None
    reason: str | None = None


class World:
    """``step()`` appends one step's events to ``events``. All choices come from ``seed``."""

    def __init__(self, seed: int, num_slots: int = 4, vocabulary: int = 3, max_prompt: int = 9) -> None:
        self.random = Random(seed)
        self.vocabulary, self.max_prompt = vocabulary, max_prompt
        self.events: list[e.Event] = []
        self.rows = [Row() for _ in range(num_slots)]
        self.tree: dict[int, Edge] = {}
        self.clients: dict[int, Client] = {}
        self.waiting: list[int] = []
        self.running: list[int] = []
        self.steps = self.tick = self.last_node = self.last_request = 0
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def emit(self, event: e.Event) -> None:
        self.events.append(event)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def step(self) -> None:
        self.steps += 1
        self.emit(e.StepStarted(self.steps))
        for phase in (self.cleanup, self.refill, self.prefill, self.decode):
            self.emit(e.PhaseStarted(phase.__name__))
            phase()
            self.emit(e.PhaseEnded(phase.__name__, self.random.random()))

    # --- the four phases ----------------------------------------------------------------------------------------------

    def cleanup(self) -> None:
        if self.chance(0.1):
            self.emit(e.RequestsRejected(2, "queue full"))
            self.counts["rejected"] += 2
        for _ in range(self.random.choice((0, 0, 1, 2))):
            self.arrive()
        for request_id in [*self.waiting, *self.running]:
            if self.chance(0.03) and not self.clients[request_id].reason:
                self.finish(request_id, self.random.choice(("cancelled", "timeout")))
        for request_id in [r for r in self.running if self.clients[r].reason]:
            self.release(request_id)
        for slot, row in enumerate(self.rows):
            if row.owner is None and row.held and self.chance(0.1):
                self.truncate(slot, self.random.randrange(len(row.held)))

    def refill(self) -> None:
        for request_id in list(self.waiting):
            leaders = [r for r in self.running if not self.clients[r].output and not self.clients[r].reason]
            if leaders and self.chance(0.2):
                self.clients[request_id].leader = self.random.choice(leaders)
                self.emit(e.RequestHeld(request_id, self.clients[request_id].leader))
            elif any(row.owner is None for row in self.rows):
                self.admit(request_id)

    def prefill(self) -> None:
        for request_id in self.running:
            client = self.clients[request_id]
            if client.reason or client.output:
                continue
            row = self.rows[client.slot]
            start = len(row.tokens)
            end = self.random.randint(start + 1, len(client.prompt))
            row.tokens = client.prompt[:end]
            self.emit(e.Prefilled(request_id, client.slot, start, end))
            self.counts["prefilled_tokens"] += end - start
            self.hold(client.slot, row.tokens)
            self.use(row.tokens)
            if end == len(client.prompt):
                client.output.append(self.token())
                self.emit(e.FirstTokenSampled(request_id, client.output[-1]))

    def decode(self) -> None:
        ready = [r for r in self.running if self.clients[r].output and not self.clients[r].reason]
        if not ready:
            return
        clients = [self.clients[r] for r in ready]
        slots = tuple(client.slot for client in clients)
        positions = tuple(len(self.rows[slot].tokens) for slot in slots)
        token_ids = tuple(self.token() for _ in ready)
        self.emit(e.TokensDecoded(tuple(ready), slots, positions, token_ids, (len(ready),)))
        self.counts["decoded_tokens"] += len(ready)
        for request_id, client, slot, token_id in zip(ready, clients, slots, token_ids, strict=True):
            self.rows[slot].tokens += (client.output[-1],)
            client.output.append(token_id)
            if self.chance(0.1):
                self.hold(slot, self.rows[slot].tokens)
            if self.chance(0.2):
                self.finish(request_id, self.random.choice(("stop", "length", "error")))

    # --- requests -----------------------------------------------------------------------------------------------------

    def token(self) -> int:
        return self.random.randrange(self.vocabulary)

    def arrive(self) -> None:
        self.last_request += 1
        prompt = tuple(self.token() for _ in range(self.random.randint(1, self.max_prompt)))
        self.clients[self.last_request] = Client(prompt)
        self.waiting.append(self.last_request)
        self.emit(e.RequestArrived(self.last_request, prompt, (("max_tokens", 5),)))
        self.counts["arrived"] += 1

    def finish(self, request_id: int, reason: str) -> None:
        self.clients[request_id].reason = reason
        self.reasons[reason] += 1
        self.emit(e.RequestFinished(request_id, reason, ""))
        if request_id in self.waiting:
            self.waiting.remove(request_id)
            del self.clients[request_id]

    def admit(self, request_id: int) -> None:
        client = self.clients[request_id]
        source, length = self.longest_match(client.prompt[:-1])
        free = [slot for slot, row in enumerate(self.rows) if row.owner is None]
        slot = self.random.choice(free)
        if length:
            self.use(client.prompt[:length])
            self.emit(e.PrefixMatched(request_id, length, source, self.rows[source].version))
        row = self.rows[slot]
        row.version, row.owner = row.version + self.random.choice((1, 1, 3)), request_id
        in_place = slot == source and length > 0
        row.tokens = client.prompt[:length] if in_place else ()
        if in_place:
            self.emit(e.SlotReused(slot, row.version, request_id, length))
        else:
            self.emit(e.SlotAllocated(slot, row.version, request_id))
        self.hold(slot, row.tokens)
        row.locked = True
        self.emit(e.PathLocked(slot))
        if length and not in_place:
            row.tokens = client.prompt[:length]
            self.emit(e.PrefixCopied(source, self.rows[source].version, slot, row.version, length))
            self.counts["copied_tokens"] += length
            self.hold(slot, row.tokens)
        client.slot, client.cached_len, client.leader = slot, length, None
        self.waiting.remove(request_id)
        self.running.append(request_id)
        self.emit(e.RequestAdmitted(request_id, slot, row.version, length))
        self.counts["cached_tokens"] += length

    def release(self, request_id: int) -> None:
        slot = self.clients.pop(request_id).slot
        row = self.rows[slot]
        self.running.remove(request_id)
        self.hold(slot, row.tokens)
        row.locked, row.owner = False, None
        self.emit(e.PathUnlocked(slot))
        self.emit(e.SlotFreed(slot, row.version, len(row.tokens)))

    def truncate(self, slot: int, kept_len: int) -> None:
        row = self.rows[slot]
        row.version, row.tokens = row.version + 1, row.tokens[:kept_len]
        self.emit(e.SlotTruncated(slot, row.version, kept_len))
        self.hold(slot, row.tokens)

    # --- the tree -----------------------------------------------------------------------------------------------------

    def longest_match(self, prompt: tuple[int, ...]) -> tuple[int, int]:
        """The row that holds the longest prefix, and its length."""
        lengths = [_shared(row.held, prompt) for row in self.rows]
        return max(enumerate(lengths), key=lambda pair: pair[1])

    def path_of(self, node_id: int) -> tuple[int, ...]:
        edge = self.tree.get(node_id)
        return (*self.path_of(edge.parent), *edge.tokens) if edge else ()

    def holders(self, node_id: int) -> tuple[int, ...]:
        path = self.path_of(node_id)
        return tuple(slot for slot, row in enumerate(self.rows) if row.held[: len(path)] == path)

    def children(self, node_id: int) -> list[int]:
        return [other for other, edge in self.tree.items() if edge.parent == node_id]

    def node_at(self, tokens: tuple[int, ...]) -> int:
        """The node that ends exactly at ``tokens``; it must exist."""
        return next((node_id for node_id in self.tree if self.path_of(node_id) == tokens), 0)

    def hold(self, slot: int, tokens: tuple[int, ...]) -> None:
        """Make the tree say that a row holds ``tokens``."""
        self.grow(tokens)
        self.rows[slot].held = tokens
        self.emit(e.PathHeld(slot, self.rows[slot].version, self.node_at(tokens)))
        while gone := [n for n in self.tree if not self.children(n) and not self.holders(n)]:
            del self.tree[gone[0]]
            self.emit(e.NodeEvicted(gone[0]))
            self.counts["evicted_nodes"] += 1
        while pair := self.mergeable():
            self.merge(*pair)

    def grow(self, tokens: tuple[int, ...]) -> None:
        node_id, rest = 0, tokens
        while rest:
            child = next((c for c in self.children(node_id) if self.tree[c].tokens[0] == rest[0]), None)
            if child is None:
                self.last_node += 1
                self.tree[self.last_node] = Edge(node_id, rest)
                self.emit(e.NodeInserted(self.last_node, node_id, rest))
                return
            shared = _shared(self.tree[child].tokens, rest)
            node_id = child if shared == len(self.tree[child].tokens) else self.split(child, shared)
            rest = rest[shared:]

    def split(self, node_id: int, length: int) -> int:
        self.last_node += 1
        lower = self.tree[node_id]
        self.tree[self.last_node] = Edge(lower.parent, lower.tokens[:length], lower.last_used)
        self.tree[node_id] = Edge(self.last_node, lower.tokens[length:], lower.last_used)
        self.emit(e.NodeSplit(node_id, self.last_node, length))
        return self.last_node

    def mergeable(self) -> tuple[int, int] | None:
        for node_id in self.tree:
            below = self.children(node_id)
            if len(below) == 1 and self.holders(node_id) == self.holders(below[0]):
                return node_id, below[0]
        return None

    def merge(self, node_id: int, child: int) -> None:
        upper, lower = self.tree[node_id], self.tree.pop(child)
        last_used = max(upper.last_used, lower.last_used)
        self.tree[node_id] = Edge(upper.parent, upper.tokens + lower.tokens, last_used)
        for edge in self.tree.values():
            if edge.parent == child:
                edge.parent = node_id
        self.emit(e.NodeMerged(node_id, child))

    def use(self, tokens: tuple[int, ...]) -> None:
        """Mark all nodes on the way to ``tokens``, down to the one that they end in."""
        self.tick += 1
        node_id, rest = 0, tokens
        while rest:
            node_id = next(c for c in self.children(node_id) if self.tree[c].tokens[0] == rest[0])
            self.tree[node_id].last_used = self.tick
            rest = rest[len(self.tree[node_id].tokens) :]
        self.emit(e.PathUsed(node_id, self.tick))

    # --- the witness --------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The state between two steps."""
        return Snapshot(
            step=self.steps,
            phase=None,
            slots=tuple(
                SlotState(slot, row.version, row.owner, len(row.tokens), self.node_at(row.held), row.locked)
                for slot, row in enumerate(self.rows)
            ),
            nodes=tuple(
                NodeState(node_id, edge.parent, edge.tokens, self.holders(node_id), edge.last_used)
                for node_id, edge in sorted(self.tree.items())
            ),
            waiting=tuple(self.waiting),
            running=tuple(self.running),
            requests=tuple(self.request_state(request_id) for request_id in sorted(self.clients)),
            counters=Counters(
                finished=tuple((reason, self.reasons[reason]) for reason in e.FINISH_REASONS),
                steps=self.steps,
                **self.counts,
            ),
        )

    def request_state(self, request_id: int) -> RequestState:
        client = self.clients[request_id]
        row = self.rows[client.slot] if client.slot is not None else Row()
        return RequestState(
            request_id,
            client.prompt,
            tuple(client.output),
            client.slot,
            row.version,
            client.cached_len,
            len(row.tokens),
            client.leader,
            client.reason,
        )


def _shared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many tokens two sequences share from their start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def stream(seed: int, steps: int, num_slots: int = 4) -> list[e.Event]:
    """The events of a run of so many steps."""
    world = World(seed, num_slots)
    for _ in range(steps):
        world.step()
    return world.events


def decode_stream(steps: int, num_slots: int = 4) -> list[e.Event]:
    """A long run with as many requests as slots, all of which decode in every step; quick to make."""
    slots = tuple(range(num_slots))
    events: list[e.Event] = [e.StepStarted(1)]
    for slot in slots:
        events.append(e.RequestArrived(slot, (1, 2, slot), ()))
        events.append(e.SlotAllocated(slot, 1, slot))
        events.append(e.RequestAdmitted(slot, slot, 1, 0))
        events.append(e.Prefilled(slot, slot, 0, 3))
        events.append(e.FirstTokenSampled(slot, 9))
    for step in range(steps):
        events.append(e.StepStarted(step + 2))
        for phase in e.PHASES:
            events.append(e.PhaseStarted(phase))
            if phase == "decode":
                tokens = (step % 50,) * num_slots
                events.append(e.TokensDecoded(slots, slots, (3 + step,) * num_slots, tokens, (num_slots,)))
            events.append(e.PhaseEnded(phase, 0.001))
    return events

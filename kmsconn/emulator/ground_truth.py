"""The ground truth about the work of one node, or of a committee, read from the emulated Gateway alone. Changes nothing.

A request becomes visible with the block of its event and is answered by the first reply of this node that the contract took.
Every further transaction for the same request is a double, whatever its status: the node paid for it. What the Core and the node say
about the moments on the way (`note_started` and its dependencies) only completes the traces. Never asks the connector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Never

import attrs
import trio

from kmsconn.emulator.blocks import Block, EmulatedTransaction, Mined
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.dependencies import FHEVM, EmulatedDependencies, GenerationEvents, sender_of
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import Kind


@attrs.frozen
class ReplyOnChain:
    """One included transaction that carries a reply. ``at`` is Trio time."""

    transaction_hash: bytes
    status: int
    block: int
    at: float


@attrs.define
class Trace:
    """One request on the chain and the replies to it, in their order. ``at`` is the Trio time when its block was there."""

    id: int
    transaction_hash: bytes
    block: int
    at: float
    replies: list[ReplyOnChain] = attrs.field(factory=list)
    answer: ReplyOnChain | None = None
    agreed: float | None = None
    """When the contract had enough answers, of whichever nodes."""
    started: float | None = None
    """When the Core first heard of it."""
    given: float | None = None
    """When the Core first gave its answer out."""
    sent: float | None = None
    """When a transaction with a reply first reached the node."""

    @property
    def latency(self) -> float | None:
        """Seconds from the event's block to the block of the answer; None while it is open."""
        return None if self.answer is None else self.answer.at - self.at


@attrs.frozen
class ChainVerdict:
    """What the chain says about all requests together. Percentiles in seconds, None before the first answer.

    ``strays`` are replies to unknown ids.
    """

    emitted: int
    answered: int
    doubled: int
    strays: int
    p50: float | None
    p99: float | None
    consensus: int = 0
    """Requests of which the contract has enough answers, of whichever nodes."""

    @property
    def open(self) -> int:
        """Requests without an answer."""
        return self.emitted - self.answered

    @property
    def well(self) -> bool:
        """Everything is answered, and nothing twice."""
        return not (self.open or self.doubled or self.strays)


class GroundTruth:
    """Follows the chain for the replies of one tx sender, which stands for one node signer."""

    def __init__(
        self,
        chain: EmulatedChain,
        decryption: Address,
        sender: Address,
        *,
        generation_events: GenerationEvents = FHEVM,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.traces: dict[int, Trace] = {}
        """Requests by name, in the order of the chain."""
        self.on_request: Callable[[Trace], None] = lambda _: None
        """Is told each request when its block is read."""
        self.on_reply: Callable[[Trace, Mined], None] = lambda *_: None
        """Is told each reply to a known request when its block is read."""
        self._chain, self._clock = chain, clock
        self._decryption, self._sender, self._events = decryption, sender, generation_events
        self._seen_at: dict[bytes, float] = {}
        self._by_transaction: dict[bytes, Trace] = {}
        self._strays = 0
        self._last: Block | None = None

    def read(self) -> None:
        """Take what is new on the chain; everything again where a reorganisation replaced what was read.

        New blocks are noted as visible now. Repeating: no effect without a new block.
        """
        there = None if self._last is None else self._chain.block(self._last.number)
        if self._last is not None and (there is None or there.hash != self._last.hash):
            # forget the reading, not when a block was first seen: one that comes back is no news
            self.traces.clear()
            self._by_transaction.clear()
            self._strays, self._last = 0, None
        start = 0 if self._last is None else self._last.number + 1
        for number in range(start, self._chain.head.number + 1):
            block = self._chain.block(number)
            assert block is not None
            self._take(block)

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> Never:
        """Read each new block when it comes, until cancelled."""
        self.read()
        task_status.started()
        while True:
            await self._chain.wait_change()
            self.read()

    def trace_of(self, transaction_hash: bytes) -> Trace | None:
        """Return the request that a transaction made, once it is included."""
        return self._by_transaction.get(transaction_hash)

    def request(self, kind: Kind, identifier: int) -> Trace | None:
        """Return a request by kind and id."""
        return self.traces.get(self.name(kind, identifier))

    def name(self, kind: Kind, identifier: int) -> int:
        """Return the name by which a request is known here."""
        return self._events.name(kind, identifier)

    def note_started(self, request_id: bytes) -> None:
        """Take note that a start call for this name reached the Core; only the first one counts."""
        self._note(int.from_bytes(request_id), "started")

    def note_given(self, request_id: bytes) -> None:
        """Take note that the Core gives the answer of this name out; only the first time counts."""
        self._note(int.from_bytes(request_id), "given")

    def note_sent(self, transaction: EmulatedTransaction) -> None:
        """Take note that a signed transaction reached the node; only the first with a reply of a request counts."""
        if transaction.to == self._decryption and transaction.sender == self._sender:
            self._note(self._events.replied(transaction.data), "sent")

    def _note(self, name: int | None, moment: str, at: float | None = None) -> None:
        trace = None if name is None else self.traces.get(name)
        if trace is not None and getattr(trace, moment) is None:
            setattr(trace, moment, self._clock() if at is None else at)

    def verdict(self) -> ChainVerdict:
        """Judge what was read so far."""
        traces = self.traces.values()
        latencies = sorted(trace.latency for trace in traces if trace.latency is not None)
        return ChainVerdict(
            emitted=len(traces),
            answered=len(latencies),
            doubled=sum(max(0, len(trace.replies) - 1) for trace in traces),
            strays=self._strays,
            p50=percentile(latencies, 0.50),
            p99=percentile(latencies, 0.99),
            consensus=sum(trace.agreed is not None for trace in traces),
        )

    def _take(self, block: Block) -> None:
        if block.mined:
            at = self._seen_at.setdefault(block.hash, self._clock())
            for mined in block.mined:
                self._take_transaction(mined, at)
        self._last = block

    def _take_transaction(self, mined: Mined, at: float) -> None:
        transaction = mined.transaction
        if transaction.to != self._decryption:
            return
        answered = self._events.replied(transaction.data) if transaction.sender == self._sender else None
        if answered is not None:
            self._take_reply(answered, mined, at)
        for log in mined.logs:
            if log.address == self._decryption:
                self._take_log(log.topics, Trace(0, transaction.hash, mined.block_number, at))

    def _take_log(self, topics: tuple[bytes, ...], trace: Trace) -> None:
        """Take a request that a log announces, or the agreement of which it tells."""
        if (name := self._events.requested(topics)) is not None:
            trace.id = name
            self.traces[name] = self._by_transaction[trace.transaction_hash] = trace
            self.on_request(trace)
        else:
            self._note(self._events.agreed(topics), "agreed", trace.at)

    def _take_reply(self, name: int, mined: Mined, at: float) -> None:
        trace = self.traces.get(name)
        if trace is None:
            self._strays += 1
            return
        reply = ReplyOnChain(mined.transaction.hash, mined.outcome.status, mined.block_number, at)
        trace.replies.append(reply)
        if mined.outcome.took_effect and trace.answer is None:
            trace.answer = reply
        self.on_reply(trace, mined)


def ground_truth_of(dependencies: EmulatedDependencies, member: int = 0) -> GroundTruth:
    """Return the ground truth of one node of the committee, the one that belongs to the dependencies if none is named."""
    contract, sender = dependencies.decryption.address, sender_of(member).address
    events = dependencies.generation_events
    return GroundTruth(dependencies.gateway, contract, sender, generation_events=events)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile of sorted values, None of none."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None


@attrs.frozen
class CommitteeVerdict:
    """What the chain says of each node of a committee, in the order of its members."""

    nodes: tuple[ChainVerdict, ...]

    @property
    def emitted(self) -> int:
        """Requests of the chain."""
        return self.nodes[0].emitted

    @property
    def consensus(self) -> int:
        """Requests that enough nodes have answered."""
        return self.nodes[0].consensus

    @property
    def well(self) -> bool:
        """Every request found consensus, and no node answered one twice, or one that nobody made.

        A node of a committee may be missing; one on its own has answered every request.
        """
        if len(self.nodes) == 1:
            return self.nodes[0].well
        once = not any(node.doubled or node.strays for node in self.nodes)
        return once and self.consensus == self.emitted


@attrs.frozen
class CommitteeGroundTruth:
    """Follows the chain for the replies of every node of a committee."""

    nodes: tuple[GroundTruth, ...]

    @classmethod
    def of(cls, dependencies: EmulatedDependencies, members: int) -> CommitteeGroundTruth:
        """Follow so many nodes of a set of dependencies."""
        return cls(tuple(ground_truth_of(dependencies, member) for member in range(members)))

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read each new block when it comes, until cancelled."""
        async with trio.open_nursery() as nursery:
            for node in self.nodes:
                await nursery.start(node.watch)
            task_status.started()

    def trace_of(self, transaction_hash: bytes) -> Trace | None:
        """Return the request that a transaction made, as the node sees it that answered it last, or has not yet."""
        traces = [node.trace_of(transaction_hash) for node in self.nodes]
        there = [trace for trace in traces if trace is not None]
        if len(there) < len(traces):
            return None
        return max(there, key=lambda trace: math.inf if trace.answer is None else trace.answer.at)

    def verdict(self) -> CommitteeVerdict:
        """Judge what was read so far."""
        return CommitteeVerdict(tuple(node.verdict() for node in self.nodes))

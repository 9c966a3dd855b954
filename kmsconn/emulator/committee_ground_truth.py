"""The ground truth about all nodes of a committee, read from the emulated Gateway alone. Never asks a connector and changes nothing."""

from __future__ import annotations

import math

import attrs
import trio

from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.ground_truth import ChainVerdict, GroundTruth, Trace, ground_truth_of


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
        return max(there, key=_answered_at) if len(there) == len(traces) else None

    def verdict(self) -> CommitteeVerdict:
        """Judge what was read so far."""
        return CommitteeVerdict(tuple(node.verdict() for node in self.nodes))


def _answered_at(trace: Trace) -> float:
    return math.inf if trace.answer is None else trace.answer.at

"""Where a node stands: its chain, how far behind it is, and what it cannot do. Answers nothing."""

from __future__ import annotations

from collections import Counter

import attrs

from kmsconn.emulator.blocks import Branch
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.node_faults import NodeFaults
from kmsconn.emulator.view import NodeView


@attrs.define
class NodeLimits:
    """What a node refuses. Every attribute may be changed at any time.

    ``log_range`` in blocks, ``logs`` and ``pruned_before`` (a block number) limit what it tells; ``strict_range`` refuses ranges beyond
    its head; ``unsupported`` names methods that it does not know; ``batch`` calls are the most that it takes in a batch.
    """

    log_range: int | None = None
    logs: int | None = None
    pruned_before: int = 0
    strict_range: bool = False
    unsupported: set[str] = attrs.field(factory=set)
    batch: int | None = None


class NodeStanding:
    """One node's chain, faults and limits. Every attribute may be changed at any time.

    ``lag`` in blocks; ``fork``: a branch that this node still follows; ``log_fork``: one from which it still answers for logs, out of a
    cache, though its headers are the chain's.
    """

    def __init__(self, chain: EmulatedChain, faults: NodeFaults | None = None) -> None:
        self.chain = chain
        self.faults = faults or NodeFaults()
        self.lag = 0
        self.fork: Branch | None = None
        self.log_fork: Branch | None = None
        self.limits = NodeLimits()
        self.sync_seconds = 20.0
        self.tip = 0
        self.legacy_price = 1_000_000_000
        self.calls: Counter[str] = Counter()

    @property
    def behind(self) -> bool:
        """Tell whether the node's head is not the chain's."""
        return bool(self.lag) or self.fork is not None

    def view(self) -> NodeView:
        """Return the chain as this node sees it now."""
        return self.chain.view(self.lag, self.fork)

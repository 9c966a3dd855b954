"""When the gateway lost requests and replies, and when it last showed replies as old: so long the connector may not know better."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import trio

from kmsconn.emulator.blocks import Block, Mined
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.view import NodeView
from kmsconn.rpc.fork import LAGGING
from kmsconn.testing.ground_truth import replies_of
from kmsconn.txmanager.view import FINDING_LIFETIME

GRACE = 15.0  # seconds beside the reorg window, or the settle_time with a low head, in which a reorganisation may not be noticed yet
QUICK_FINALITY = (
    0.75  # of the reorg window: block timestamps are whole seconds, and the pace of blocks is an estimate
)


@attrs.define(eq=False)
class ChainChanges:
    """What was taken away and shown so far, by the names of requests."""

    dependencies: EmulatedDependencies
    reorg_window: float
    _gone_requests: dict[int, float] = attrs.field(factory=dict)
    """When requests left the chain with their blocks, by their names."""
    _gone_final_replies: dict[int, float] = attrs.field(factory=dict)
    """When replies went with blocks that the chain had called final: what is said of those is put right once that is found."""
    _shown_old: dict[int, float] = attrs.field(factory=dict)
    """When the chain, or a node, last showed replies that are old enough to be final under its head, as far as that was noted."""

    def note_gone(self, requests: Iterable[int], final_replies: Iterable[int]) -> None:
        """Note what left the chain with its blocks just now."""
        now = trio.current_time()
        self._gone_requests.update(dict.fromkeys(requests, now))
        self._gone_final_replies.update(dict.fromkeys(final_replies, now))

    def request_must_be_missed(self, name: int) -> bool:
        """Say whether the connector must know by now that a request is gone: it did not go with a block lately."""
        return self._must_be_missed(self._gone_requests, name)

    def reply_must_be_missed(self, name: int) -> bool:
        """Say likewise of a reply that the chain had called final."""
        return self._must_be_missed(self._gone_final_replies, name)

    def note_shown(self) -> None:
        """Note which replies are old where the chain, or a node, shows them now: to be called before a head is taken away."""
        for view in self._views():
            replies = replies_of(self.dependencies, view)
            old = (name for name, one in replies if one.outcome.status and self._is_old(one, view.head))
            self._shown_old.update(dict.fromkeys(old, trio.current_time()))

    def was_shown_old(self, identifier: int) -> bool:
        """Say whether the chain, or a node, shows a reply that is old enough, or did so within an answer's lifetime."""
        self.note_shown()
        since = trio.current_time() - self._shown_old.get(identifier, float("-inf"))
        return since <= FINDING_LIFETIME

    def _views(self) -> list[NodeView]:
        """Return the chain, and the branches that nodes show instead: on any other node nothing is older than on the chain."""
        nodes = [node.view() for node in self.dependencies.clusters["gateway"].nodes]
        return [self.dependencies.gateway.view(), *(view for view in nodes if view.branch is not None)]

    def _is_old(self, mined: Mined, head: Block) -> bool:
        """Say whether a reply may be final where this is the head."""
        deep = head.number - mined.block_number > 2 * self.reorg_window
        return deep or head.timestamp - mined.timestamp >= self.reorg_window * QUICK_FINALITY

    def _must_be_missed(self, gone: dict[int, float], name: int) -> bool:
        since = gone.get(name, float("-inf"))
        return trio.current_time() - since > max(self.reorg_window, LAGGING) + GRACE

"""Contexts as the Gateway knows them: is a tx sender a node of one that is valid, and was one destroyed? Never asks itself.

GatewayConfig says the same of a context that it does not know and of one that was destroyed (3.9); numbers tell them apart.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs

from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.ids import CONTEXT_TAG, counter_of, tag_of
from kmsconn.protocols.fhevm import views
from kmsconn.protocols.port import Verdict
from kmsconn.protocols.queries import QueryPlan, ViewCall

_RECENT = 8  # contexts; two or three are valid at a time, and the Gateway may skip numbers


@attrs.frozen
class GatewayContexts:
    """The contexts of GatewayConfig on its chain."""

    chain_id: int
    config: Address

    def is_member(self, tx_sender: Address, known: Collection[int]) -> QueryPlan[bool]:
        """Ask whether a tx sender is a node of the current context, one just before it, or a ``known`` one, that is still valid."""
        [current] = yield [views.current_context(self.chain_id, self.config)]
        recent = {one for one in range(current - _RECENT + 1, current + 1) if _is_context(one)}
        found = yield [self._is_node(one, tx_sender) for one in sorted(recent | {*known})]
        return any(found)

    def after_invalid(self, context_id: int) -> QueryPlan[Verdict]:
        """Say what "invalid context" means for a reply: final for one that was issued, and so was destroyed since (annex A, bounded)."""
        [current] = yield [views.current_context(self.chain_id, self.config)]
        was_there = _is_context(context_id) and context_id <= current
        return Verdict.FINAL if was_there else Verdict.RETRY

    def _is_node(self, context_id: int, tx_sender: Address) -> ViewCall[bool]:
        asked = views.node_signer(self.chain_id, self.config, context_id, tx_sender)

        def gone(_message: str, data: bytes | None) -> bool | None:
            return False if views.is_invalid_context(data) else None

        return ViewCall(
            asked.chain_id,
            asked.to,
            asked.data,
            lambda data: asked.read(data) != ZERO_ADDRESS,
            on_error=gone,
        )


def _is_context(identifier: int) -> bool:
    return tag_of(identifier) == CONTEXT_TAG and counter_of(identifier) > 0

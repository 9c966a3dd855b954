"""Log filters of ``eth_getLogs`` and ``eth_subscribe``: reading one, and matching a log. Knows no chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from kmsconn.emulator.node_error import INVALID_PARAMS, NodeError
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.hexes import from_hex

Alternatives = frozenset[bytes] | None  # None takes anything


@attrs.frozen
class LogFilter:
    """Addresses and topics; None in a place takes anything there."""

    addresses: Alternatives = None
    topics: tuple[Alternatives, ...] = ()

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> LogFilter:
        """Read the members ``address`` and ``topics``. Raises NodeError."""
        try:
            topics = tuple(_alternatives(topic) for topic in content.get("topics") or ())
            return cls(_alternatives(content.get("address")), topics)
        except (TypeError, ValueError) as error:
            raise NodeError(INVALID_PARAMS, f"invalid filter: {error}") from error

    def takes(self, log: Log) -> bool:
        """Tell whether the log passes."""
        if self.addresses is not None and log.address not in self.addresses:
            return False
        if len(self.topics) > len(log.topics):
            return False
        return all(
            wanted is None or topic in wanted for wanted, topic in zip(self.topics, log.topics, strict=False)
        )


def _alternatives(content: Any) -> Alternatives:
    if content is None or content == []:
        return None
    return frozenset(from_hex(text) for text in ([content] if isinstance(content, str) else content))

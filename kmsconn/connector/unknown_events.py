"""Looks now and then whether a contract emits events that this version does not know. Records nothing and decides nothing.

A reader asks for the topics that it understands, and hears nothing at all of a contract that was upgraded to others. So each contract is
asked for all its events, one call every ten minutes: over all finalized blocks where events are rare, and over the newest few where each
request has some. There an unknown event is found once it is about as frequent as requests are. What was found is told until it is a week
old, by the chain and not by this process: a start looks back as far.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from kmsconn.chain.jsonrpc import is_range_limit
from kmsconn.chain.logs import decode_logs
from kmsconn.chain.port import RpcError
from kmsconn.errors import Retryable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.requests.range_reader import WatchedContract

UNKNOWN_EVENT = "unknown-event"
INTERVAL = 600.0  # seconds between looks
AGAIN = 1.0  # seconds between looks for a first head
WEEK = 7 * 86_400.0
LOOKED_BACK = 50_400
"""Blocks that the first look after a start goes back: a week of Ethereum."""
SAMPLE = 4
"""The newest blocks that are looked at of a contract with many events: a second of a Gateway, and some hundred kilobytes."""
WIDEST = 5_000  # blocks in one call, halved for a node that takes fewer
NAMED = 64  # topics, more than a release ever brings; what a node makes up beyond them is counted


@attrs.define
class UnknownEvents:
    """The watch over the events of one contract. What was found stays an alert until it is a week old."""

    contract: WatchedContract
    known: frozenset[bytes]
    looked_back: int | None = None
    """So many of the newest blocks are looked at, each time; None: all, and at first ``LOOKED_BACK``."""
    next_block: int | None = None
    size: int = WIDEST
    found: dict[bytes, Log] = attrs.field(factory=dict)
    """The newest log of each unknown topic; without a topic, under nothing."""

    async def look(self) -> float:
        """Look at what was finalized since the last look; what a node does not give is asked for at the next one."""
        while (blocks := self._next_range()) is not None:
            try:
                logs, _ = decode_logs(await self._ask(*blocks))
            except RpcError as error:
                if not is_range_limit(error) or self.size == 1:
                    break
                self.size = max(1, self.size // 2)
            except Retryable:
                break
            else:
                self.next_block = blocks[1] + 1
                self._note(logs)
        self._tell()
        return AGAIN if self.contract.head.number is None else INTERVAL

    def _next_range(self) -> tuple[int, int] | None:
        last = self.contract.head.number
        if last is None:
            return None
        first = max(0, last - LOOKED_BACK) if self.next_block is None else self.next_block
        if self.looked_back is not None:
            first = max(first, last - self.looked_back + 1)
        return (first, min(last, first + self.size - 1)) if first <= last else None

    async def _ask(self, first: int, last: int) -> Any:
        address = to_hex(self.contract.subscription.contract)
        return await self.contract.endpoint.call(
            "eth_getLogs", {"address": address, "fromBlock": quantity(first), "toBlock": quantity(last)}
        )

    def _note(self, logs: Iterable[Log]) -> None:
        of = self.contract.subscription.contract
        for log in logs:
            topic = log.topics[0] if log.topics else b""
            if log.address == of and topic not in self.known:
                self.found[topic] = log

    def _tell(self) -> None:
        head = self.contract.head
        oldest = (head.number or 0) - max(LOOKED_BACK, head.blocks_in(WEEK))
        self.found = {topic: log for topic, log in self.found.items() if log.block_number >= oldest}
        about = f"{self.contract.endpoint.name} {self.contract.name}"
        self.contract.components.board.set(UNKNOWN_EVENT, about, "; ".join(self._said()))

    def _said(self) -> Iterator[str]:
        if self.found:
            yield f"the contract emits {len(self.found)} events that this version does not know"
        for topic, log in [*self.found.items()][:NAMED]:
            what = f"topic {to_hex(topic)}" if topic else "an event without topics"
            yield f"{what} in block {log.block_number}, transaction {to_hex(log.transaction_hash)}"


def unknown_events(contracts: Iterable[WatchedContract]) -> Iterator[UnknownEvents]:
    """Yield the watch over each contract whose events the profile knows all of."""
    for contract in contracts:
        profile, address = contract.components.profile, contract.subscription.contract
        if known := profile.all_topics(address):
            yield UnknownEvents(contract, known, SAMPLE if profile.has_many_events(address) else None)

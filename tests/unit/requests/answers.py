"""A chain for the checks: views answered by name, storage by slot, and everything that was asked. Knows no contract."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.follower import HeadTracker
from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import NotYet, Retryable
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.requests import EventPlace, Request
from kmsconn.protocols.fhevm.contracts import ACL, DECRYPTION, ERC1271, GATEWAY_CONFIG, PROTOCOL_CONFIG
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.httpz_rc7.contracts import HTTPZ
from tests.vectors import log_of, request, vector_settings

FUNCTIONS = {
    selector: function
    for abi in (ACL, DECRYPTION, ERC1271, GATEWAY_CONFIG, HTTPZ, PROTOCOL_CONFIG)
    for selector, function in abi.functions_by_selector.items()
}
SETTINGS = vector_settings()
PROFILE = Fhevm(SETTINGS)


@attrs.define
class Answers:
    """An Rpc. ``views``: name → value, what makes it of the arguments, or an error to give or raise; ``slots``: slot → word."""

    views: dict[str, Any] = attrs.field(factory=dict)
    slots: dict[int, int] = attrs.field(factory=dict)
    final: dict[int, int] | None = None
    """The slots as of the finalized block, where those are others."""
    transactions: dict[str, Any] = attrs.field(factory=dict)
    chain_id: int = 0
    delay: float = 0.0
    late: float = 0.0
    """Seconds by which a transaction comes later than an answer of a batch."""
    asked: list[str] = attrs.field(factory=list)
    batches: list[int] = attrs.field(factory=list)

    async def call(self, method: str, *params: Any) -> Any:
        await trio.sleep(self.delay + self.late)
        self.asked.append(method)
        found = self.transactions.get(params[0])
        if isinstance(found, RpcError):
            raise found
        return found

    def send(self, calls: Sequence[Call]) -> None:
        return None

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.sleep(self.delay)
        self.batches.append(len(calls))
        return [self._answer(call) for call in calls]

    def _answer(self, call: Call) -> Any:
        if call.method == "eth_getStorageAt":
            self.asked.append("storage")
            slots = self.final if call.params[2] == "finalized" and self.final is not None else self.slots
            return f"0x{slots.get(int(call.params[1], 16), 0):064x}"
        function = FUNCTIONS[from_hex(call.params[0]["data"])[:4]]
        self.asked.append(function.name)
        value = self.views[function.name]
        if callable(value):
            value = value(*function.decode(from_hex(call.params[0]["data"])))
        if isinstance(value, Retryable):
            raise value
        return value if isinstance(value, RpcError) else to_hex(function.encode_result(value))


def request_of(name: str, rid: int = 1, deadline: float = 1e12) -> Request:
    """Return a request of the vectors."""
    log = log_of(request(name))
    content = PROFILE.decode(log)
    assert content is not None
    place = EventPlace(log.block_number, log.block_hash, log.transaction_hash, log.log_index)
    return Request(
        rid, SETTINGS.chains.gateway.chain_id, log.address, content, PROFILE.digest(log), place, deadline
    )


async def confirmed(head: HeadTracker, ask: Callable[[], Awaitable[object]]) -> None:
    """Ask what ends a request, see that it is waited for, and raise what comes of the same answer at a later head."""
    with pytest.raises(NotYet, match="asked again at a later head"):
        await ask()
    later(head)
    await trio.sleep(CONFIRMING)
    await ask()


def later(head: HeadTracker) -> None:
    """Let the chain have one block more."""
    head.note((head.number or 0) + 1, (head.timestamp or 0) + 1)

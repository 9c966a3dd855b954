"""An account that sends transactions which our own code encoded and signed, through our own JSON-RPC. Retries nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.port import Call
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_quantity, quantity, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Transaction, sign_transaction

GAS = 12_000_000
RICH = 10**24
PATIENCE = 20.0  # seconds for a block on a busy machine
MAX_FEE, TIP = 10**12, 10**9
CREATE2_FACTORY = Address(bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c"))
"""The factory that every anvil has from its genesis on: salt and creation code in, contract out (EIP-1014)."""

Wish = tuple[Address, bytes]
"""A contract and the calldata for it."""


@attrs.define(eq=False)
class Account:
    """One key on one chain; nobody else uses it there."""

    rpc: Endpoint
    key: PrivateKey
    in_turn: bool = False
    """Send each when the one before is in a block: an anvil that mines at once can forget what comes while it mines."""

    async def enrich(self) -> None:
        """Give it ether out of nothing."""
        await self.rpc.call("anvil_setBalance", to_hex(self.key.address), quantity(RICH))

    async def send(self, wishes: Sequence[Wish]) -> list[bytes]:
        """Hand over transactions in this order; return their hashes."""
        sent = await self.rpc.call("eth_getTransactionCount", to_hex(self.key.address), "pending")
        first = from_quantity(sent)
        signed = [self._sign(first + place, *wish) for place, wish in enumerate(wishes)]
        calls = [Call("eth_sendRawTransaction", (to_hex(raw),)) for raw, _ in signed]
        for result in await self.rpc.batch(calls):
            assert isinstance(result, str), result
        return [hash_ for _, hash_ in signed]

    async def do(self, *wishes: Wish) -> list[dict[str, Any]]:
        """Send and wait until all are in blocks; every one must have succeeded. Return the receipts."""
        parts: list[Sequence[Wish]] = [[wish] for wish in wishes] if self.in_turn else [wishes]
        receipts = [await receipt(self.rpc, hash_) for part in parts for hash_ in await self.send(part)]
        assert [each["status"] for each in receipts] == ["0x1"] * len(wishes)
        return receipts

    async def deploy(self, *codes: bytes) -> list[Address]:
        """Deploy contracts of these creation codes; return where they are."""
        salt = bytes(32)
        await self.do(*((CREATE2_FACTORY, salt + code) for code in codes))
        return [created(code, salt) for code in codes]

    def _sign(self, nonce: int, to: Address, data: bytes) -> tuple[bytes, bytes]:
        transaction = Transaction(self.rpc.chain_id, nonce, TIP, MAX_FEE, GAS, to, 0, data)
        return sign_transaction(transaction, self.key)


def created(code: bytes, salt: bytes = bytes(32)) -> Address:
    """Return where the factory puts a contract (EIP-1014)."""
    return Address(keccak256(b"\xff" + CREATE2_FACTORY + salt + keccak256(code))[-20:])


async def receipt(rpc: Endpoint, transaction_hash: bytes) -> dict[str, Any]:
    """Wait for a receipt and return it."""
    with trio.fail_after(PATIENCE):
        while True:
            found: dict[str, Any] | None = await rpc.call(
                "eth_getTransactionReceipt", to_hex(transaction_hash)
            )
            if found is not None:
                return found
            await trio.sleep(0.02)

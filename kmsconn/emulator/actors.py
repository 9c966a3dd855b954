"""The transactions of an emulated chain's own users: without fee, signature or nonce, first in the next block. Executes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from kmsconn.emulator.blocks import Transaction
from kmsconn.emulator.evm import ACTOR_GAS
from kmsconn.emulator.execution import Frame
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.keccak import keccak256

HASH_SEED = b"kmsconn emulator"


@attrs.define(eq=False)
class ActorQueue:
    """What waits for the next block."""

    chain_id: int
    _count: int = attrs.field(default=0, init=False)
    _waiting: list[Transaction] = attrs.field(factory=list, init=False)

    def act(
        self, address: Address, action: Callable[[Frame], object], sender: Address = ZERO_ADDRESS
    ) -> bytes:
        """Queue a transaction of the emulator that runs ``action`` on a contract; return its hash.

        Repeating: a reorganisation runs it again, so ``action`` must depend on the frame alone.
        """
        return self._queue(sender, address, b"", action)

    def transact(self, sender: Address, to: Address, calldata: bytes) -> bytes:
        """Queue a transaction of one of the emulator's users, without fee or signature; return its hash."""
        return self._queue(sender, to, calldata, None)

    def take(self) -> list[Transaction]:
        """Take out everything that waits."""
        taken, self._waiting = self._waiting, []
        return taken

    def give_back(self, transactions: Iterable[Transaction]) -> None:
        """Let transactions wait again, before all others."""
        self._waiting[:0] = transactions

    def drop(self, is_mined: Callable[[bytes], bool]) -> None:
        """Forget what is mined, by its hash: there are no nonces, which would keep it from being mined twice."""
        self._waiting = [one for one in self._waiting if not is_mined(one.hash)]

    def _queue(
        self, sender: Address, to: Address, data: bytes, action: Callable[[Frame], object] | None
    ) -> bytes:
        self._count += 1
        seed = HASH_SEED + self.chain_id.to_bytes(32) + self._count.to_bytes(32) + sender + to + data
        transaction = Transaction(keccak256(seed), sender, to, data, ACTOR_GAS, action=action)
        self._waiting.append(transaction)
        return transaction.hash

"""Has transactions signed beside the rounds of a transaction manager: a signer may be far away, slow, or never answer.

A signature alone changes nothing. The round that finds it decides anew, makes its bytes durable and only then broadcasts them, so that
neither the order of nonces nor the journal depends on when a signer answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from kmsconn.errors import Retryable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.transactions import Transaction
from kmsconn.frozen import frozen
from kmsconn.journal.moves import Signing
from kmsconn.model.life import State
from kmsconn.replies.state import TxState
from kmsconn.replies.view import Step
from kmsconn.replies.wallet import Signed, Wallet

AT_ONCE = 0.05  # seconds for which a round waits: a key in memory needs none, a near key service some 20 ms
KEPT = 30.0  # seconds; older fees and gas limits are signed again

Purpose = tuple[int, Address, bytes]
"""What a transaction is for, whatever it pays: its nonce, whom it calls, and with which calldata."""


@frozen
class SignedAhead:
    """A transaction that was signed, and when that was asked for."""

    transaction: Transaction
    signed: Signed
    at: float


@attrs.define(eq=False)
class Signatures:
    """The signatures for one use of a wallet, one batch at a time: so no later nonce is signed before an earlier one."""

    state: TxState
    wallet: Wallet
    _made: dict[Purpose, SignedAhead] = attrs.field(factory=dict)
    """Those of the last batch that nothing has used yet."""
    _on_its_way: trio.Event | None = None

    @property
    def busy(self) -> bool:
        """Whether the wallet has not answered yet."""
        return self._on_its_way is not None

    async def of(self, wanted: Sequence[Transaction], nursery: trio.Nursery) -> list[SignedAhead | None]:
        """Return a signature for each transaction, perhaps at an earlier price; None for those that are not made yet.

        These are made in ``nursery``, all in one batch, unless another one is on its way or the wallet failed a moment ago. A round that
        begins a batch waits AT_ONCE seconds for it; the end of a longer one makes the next round begin.
        Cancellation: at any time. Repeating: signs again.
        """
        found = self._find(wanted)
        missing = [one for one, made in zip(wanted, found, strict=True) if made is None]
        if not missing or self.busy or self.state.signings.holds(trio.current_time()):
            return found
        done = self._on_its_way = trio.Event()
        nursery.start_soon(self._make, missing, done)
        with trio.move_on_after(AT_ONCE):
            await done.wait()
        return self._find(wanted)

    async def of_replies(
        self, steps: Sequence[Step], nursery: trio.Nursery
    ) -> tuple[list[Step], list[Signing]]:
        """Return the steps whose bytes are there, with these, in their order.

        No reply takes a nonce above one that is not signed yet: the gap would hold it up. A reply that has its nonce waits for none.
        Cancellation and Repeating: as ``of``.
        """
        new = [step.found.transaction for step in steps if step.found.transaction is not None]
        made = iter(await self.of(new, nursery))
        ready = list[Step]()
        signings = list[Signing]()
        waits = False
        for step in steps:
            row = step.track.row
            one = None if step.found.transaction is None else next(made)
            waits = waits or (one is None and step.found.transaction is not None)
            if waits and (one is None or row.state is State.ANSWERED):
                continue
            raw = row.reply.raw or b""
            signed = raw, keccak256(raw)
            if one is not None:
                self.used(one)
                self.state.market.reply_cost = one.transaction.most_cost
                signed = one.signed
            ready.append(step)
            signings.append(Signing(row.rid, step.nonce, *signed))
        return ready, signings

    def used(self, made: SignedAhead) -> None:
        """Forget a signature whose bytes are on their way."""
        self._made.pop(_purpose(made.transaction), None)

    def _find(self, wanted: Sequence[Transaction]) -> list[SignedAhead | None]:
        oldest = trio.current_time() - KEPT
        found = [self._made.get(_purpose(one)) for one in wanted]
        return [None if made is None or made.at < oldest else made for made in found]

    async def _make(self, transactions: Sequence[Transaction], done: trio.Event) -> None:
        """Have transactions signed in their order, as many as the wallet can now; an alert says when it can sign none."""
        state, now = self.state, trio.current_time()
        try:
            signed = await self.wallet.sign(transactions)
        except Retryable as error:
            state.alerts.set("wallet", str(error), critical=True)
            state.signings.failed(trio.current_time())
        else:
            state.alerts.set("wallet", None)
            state.signings.worked()
            pairs = zip(transactions, signed, strict=False)
            self._made = {_purpose(one): SignedAhead(one, raw, now) for one, raw in pairs}
        self._on_its_way = None
        done.set()
        state.manager.wake.go_on()


def _purpose(transaction: Transaction) -> Purpose:
    return transaction.nonce, transaction.to, transaction.data

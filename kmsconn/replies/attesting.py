"""Has other nodes asked before a rise of the account's nonce is believed: what is signed above a wrong one reaches no block."""

from __future__ import annotations

import attrs

from kmsconn.chain.logs import read_number
from kmsconn.chain.looking import ChainView, nonce_call
from kmsconn.chain.witness import WITNESSES
from kmsconn.errors import Unreachable
from kmsconn.model.debounce import CONFIRMING, Debounce
from kmsconn.replies.state import TxState


@attrs.define(eq=False)
class NonceAttesting:
    """Compares the nonce of the node in use with those of witnesses, once it is higher than anything this process knows of."""

    state: TxState
    alone: Debounce = attrs.field(factory=lambda: Debounce(CONFIRMING))
    """Whether the node in use says of the nonce what no other node says."""

    async def attest(self, chain: ChainView) -> None:
        """Return where a look may be believed. If witnesses contradict it for a while, the node in use is left.

        A nonce that is too low costs nothing: what is signed with it is refused. If no witness answers for a reorg window, time alone
        judges (``NonceTracker.rises``).

        Raises Unreachable, Overloaded. Cancellation: at any time. Repeating: asks again.
        """
        state, endpoint = self.state, self.state.manager.endpoint
        if not (state.nonces.rises(chain, state.tracks.nonces) and endpoint.witnesses):
            return
        try:
            nonces = await self._ask()
        except Unreachable:
            if not state.nonces.jumps.confirms("witness", chain.at):
                raise
            return
        state.nonces.jumps.clear("witness")
        if min(nonces) >= chain.nonce:
            self.alone.clear("")
            return
        text = f"one node says that the next nonce is {chain.nonce}, another {min(nonces)}"
        if max(nonces) < chain.nonce and self.alone.confirms("", chain.at):
            endpoint.leave(text)
        raise Unreachable(text)

    async def _ask(self) -> list[int]:
        """Return the next nonce as each witness has it."""
        manager = self.state.manager
        call = nonce_call(manager.account)
        nonces = list[int]()
        for witness in manager.endpoint.witnesses[:WITNESSES]:
            [answer] = await witness.batch([call])
            nonces.append(read_number(answer, call.method))
        return nonces

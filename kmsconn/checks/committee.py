"""Which node am I? The signer that goes with our tx sender in a context, learnt from the contracts and never guessed (3.9)."""

from __future__ import annotations

import attrs

from kmsconn.chain.asking import ask
from kmsconn.chain.port import Rpc
from kmsconn.errors import Misconfigured
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address, checksum
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Request
from kmsconn.protocols.port import Profile


@attrs.define
class Committee:
    """Answers from memory where it can: the nodes of a context never change once it exists."""

    profile: Profile
    gateway: Rpc
    tx_sender: Address
    _signers: dict[int, Address] = attrs.field(factory=dict)
    _contexts: dict[tuple[int, bytes], int] = attrs.field(factory=dict)

    async def signer_for(self, request: Request) -> Address:
        """Return the signer whose answer the contract takes from us for this request.

        Raises Misconfigured when our tx sender is no member of the request's context, Unreachable.
        """
        return await self.signer_in(await self._context_for(request))

    async def signer_in(self, context_id: int) -> Address:
        """Return our signer in a context. Raises as ``signer_for``."""
        known = self._signers.get(context_id)
        if known is not None:
            return known
        signer = await ask(self.gateway, self.profile.node_signer(context_id, self.tx_sender))
        if signer == ZERO_ADDRESS:
            raise Misconfigured(
                f"tx sender {checksum(self.tx_sender)} is no node of context {id_hex(context_id)}"
            )
        self._signers[context_id] = signer
        return signer

    async def _context_for(self, request: Request) -> int:
        named, _ = self.profile.context_of(request.content)
        if named is not None:
            return named
        key = (request.id, request.digest)
        if (known := self._contexts.get(key)) is not None:
            return known
        pinned = await ask(self.gateway, self.profile.pinned_context(request.content))
        if pinned == 0:  # older than pinning, or the node does not have the request yet: not to be remembered
            return await ask(self.gateway, self.profile.current_context())
        if len(self._contexts) >= _REMEMBERED:
            self._contexts.clear()
        self._contexts[key] = pinned
        return pinned


_REMEMBERED = 100_000  # requests without a context in extraData; a few MiB

"""The calldata behind a legacy user request: which contract each handle belongs to, and who delegated. Never asks a node.

Read as a contract reads it, so that what the Gateway took is understood here too: bytes left over are no fault.
Source: fhevm-0.14.md, 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from kmsconn.errors import Rejected, Undecodable
from kmsconn.ethereum.abi import SELECTOR_BYTES
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.fhevm.abi import DECRYPTION

DELEGATED = DECRYPTION.function("delegatedUserDecryptionRequest")
DIRECT = DECRYPTION.function(
    "userDecryptionRequest((bytes32,address)[],(uint256,uint256),(uint256,address[]),address,bytes,bytes,bytes)"
)


@attrs.frozen
class LegacyCall:
    """Handle → contracts it is listed for, in the order of the call; the delegator of a delegated request."""

    contracts: dict[bytes, tuple[Address, ...]]
    delegator: Address | None

    def contracts_of(self, handle: bytes) -> tuple[Address, ...]:
        """Return the contracts of a handle, each once. Raises Rejected when the call does not list it."""
        found = self.contracts.get(handle)
        if found is None:
            raise Rejected(f"handle {handle.hex()} is not in the call data of the request")
        return found


def read_call(decryption: Address, to: Address | None, calldata: bytes) -> LegacyCall:
    """Read the transaction of a legacy request. Raises Rejected: other receiver, other function, unreadable."""
    if to != decryption:
        raise Rejected("the transaction of the request does not go to the Decryption contract")
    selector = calldata[:SELECTOR_BYTES]
    try:
        if selector == DELEGATED.selector:
            pairs, _, (delegator, _), *_ = DELEGATED.decode(calldata, exact=False)
            return LegacyCall(_group(pairs), delegator)
        if selector == DIRECT.selector:
            return LegacyCall(_group(DIRECT.decode(calldata, exact=False)[0]), None)
    except Undecodable as error:
        raise Rejected(f"the call data of the request cannot be read: {error}") from error
    raise Rejected("the transaction of the request calls no legacy request function")


def _group(pairs: Iterable[tuple[bytes, Address]]) -> dict[bytes, tuple[Address, ...]]:
    found: dict[bytes, tuple[Address, ...]] = {}
    for handle, contract in pairs:
        known = found.get(handle, ())
        found[handle] = known if contract in known else (*known, contract)
    return found

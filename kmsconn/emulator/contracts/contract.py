"""What all emulated contracts share: dispatch by selector, lenient decoding, and recovery as contracts do it. Has no rule of its own.

Source: fhevm-0.14.md, 2.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from kmsconn.emulator.execution import Frame, Reverted, revert
from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Abi, Function
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.signing import SIGNATURE_BYTES, recover
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.queries import mapping_slot

SELECTOR_BYTES = 4
Handler = Callable[..., tuple[Any, ...] | None]
"""Called with the frame and the decoded arguments; returns the results, None for none."""


class AbiContract:
    """A contract whose functions are Python methods."""

    def __init__(self, address: Address, abi: Abi, handlers: Mapping[str, Handler]) -> None:
        self.address = address
        self._entries: dict[bytes, tuple[Function, Handler]] = {}
        for name, handler in handlers.items():
            self.offer(abi.function(name), handler)

    def offer(self, function: Function, handler: Handler) -> None:
        """Run a handler for a function."""
        self._entries[function.selector] = function, handler

    def execute(self, frame: Frame) -> bytes:
        """Decode the calldata, run the function, encode its results. Raises Reverted, without data for what it does not know."""
        entry = self._entries.get(frame.data[:SELECTOR_BYTES])
        if entry is None:
            raise Reverted
        function, handler = entry
        try:
            values = function.decode(frame.data, exact=False)
        except Undecodable as error:
            raise Reverted from error
        return function.encode_result(*(handler(frame, *values) or ()))


def told(*key: Any, default: Any = 0) -> Handler:
    """Return what tells a value of the contract's named storage."""
    return lambda frame: (frame.read(*key, default=default),)


def domain_teller(domain: Domain) -> Handler:
    """Return what tells an EIP-712 domain, as EIP-5267 has it."""
    where = (domain.name, domain.version, domain.chain_id, domain.verifying_contract)
    return lambda _: (b"\x0f", *where, bytes(32), ())


def is_set(frame: Frame, mapping: int, key: int | Address) -> bool:
    """Tell whether a flag of a mapping is set."""
    return bool(frame.load(mapping_slot(mapping, key)))


def set_once(frame: Frame, mapping: int, key: int | Address) -> bool:
    """Set a flag of a mapping; False where it was set before."""
    slot = mapping_slot(mapping, key)
    was = frame.load(slot)
    frame.store(slot, 1)
    return not was


def count(frame: Frame, counter: int) -> int:
    """Count one further and return the new number."""
    number = frame.load(counter) + 1
    frame.store(counter, number)
    return number


_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_PARITIES = frozenset({27, 28})

# Calls, estimates and the block itself recover the same signature one after the other.
_recover = lru_cache(maxsize=1024)(recover)


def recover_strictly(digest: bytes, signature: bytes) -> Address:
    """Return the signer: 65 bytes, low s, v 27 or 28. Raises Reverted."""
    if len(signature) != SIGNATURE_BYTES:
        revert(DECRYPTION.error("ECDSAInvalidSignatureLength"), len(signature))
    if int.from_bytes(signature[32:64]) > _HALF_ORDER:
        revert(DECRYPTION.error("ECDSAInvalidSignatureS"), signature[32:64])
    signer = _recover(digest, signature) if signature[64] in _PARITIES else None
    if signer is None:
        revert(DECRYPTION.error("ECDSAInvalidSignature"))
    return signer

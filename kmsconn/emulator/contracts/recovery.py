"""Recovery as contracts do it, stricter than elsewhere. Never says whether a signer may sign.

Source: fhevm-0.14.md, 2.4.
"""

from __future__ import annotations

from functools import lru_cache

from kmsconn.emulator.execution import revert
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import SIGNATURE_BYTES, recover
from kmsconn.protocols.fhevm.abi import DECRYPTION

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

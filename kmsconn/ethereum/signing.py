"""secp256k1: a key that signs digests, and whose a signature is. Never shows a secret, never hashes.

Source: RFC 6979 (nonces), EIP-2 (low s), fhevm-0.14.md 3.4 (which v are taken).
"""

from __future__ import annotations

import re
from functools import cached_property

from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address
from kmsconn.ethereum.keccak import keccak256

SIGNATURE_BYTES = 65
DIGEST_BYTES = 32
_SECRET_BYTES = 32
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_ETHEREUM_V = 27
_EIP155_V = 35
_TAKEN_V = frozenset({0, 1, _ETHEREUM_V, _ETHEREUM_V + 1, *range(_EIP155_V, 256)})


class PrivateKey:
    """A secp256k1 key. Raises ValueError for a secret that is none; its text does not hold the secret."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _SECRET_BYTES:
            raise ValueError(f"a private key must be 32 bytes, 64 hex digits; these are {len(secret)}")
        if not 0 < int.from_bytes(secret) < _ORDER:
            raise ValueError("a private key lies between 1 and the order of secp256k1")
        self._secret = secret

    @classmethod
    def parse(cls, text: str) -> PrivateKey:
        """Read 64 hex digits, with ``0x`` once or more or without. Raises ValueError, without the text."""
        digits = re.sub("^(0x)+", "", text.strip())
        try:
            secret = bytes.fromhex(digits)
        except ValueError:
            raise ValueError(
                "a private key is 64 hex digits; this text holds others, or half of one"
            ) from None
        return cls(secret)

    @cached_property
    def address(self) -> Address:
        """The account of the key."""
        from btclib_secp256k1 import keys

        return address_of_key(keys.pubkey_from_prvkey(self._secret, compressed=False))

    @cached_property
    def public_key(self) -> bytes:
        """The public key, 33 bytes, compressed."""
        from btclib_secp256k1 import keys

        return keys.pubkey_from_prvkey(self._secret)

    def sign(self, digest: bytes) -> bytes:
        """Sign 32 bytes: r ‖ s ‖ v, v 27 or 28, low s, the same every time. Raises ValueError."""
        from btclib_secp256k1.recovery import sign

        # A signature gone wrong is one of another account, which chain and contract refuse: to look costs more than to sign.
        signature, parity = sign(digest, self._secret, verify=False)
        return signature + bytes([_ETHEREUM_V + parity])

    def __repr__(self) -> str:
        return f"PrivateKey(of 0x{self.address.hex()})"


def recover(digest: bytes, signature: bytes) -> Address | None:
    """Return the account that signed, or None when nothing recovers (length, v, r or s out of range).

    v may be 0, 1, 27, 28 or any EIP-155 value from 35; high s is taken, as 0.14 does.
    """
    if len(digest) != DIGEST_BYTES:
        raise ValueError("a digest has 32 bytes")
    if len(signature) != SIGNATURE_BYTES or (v := signature[64]) not in _TAKEN_V:
        return None
    parity = v if v < _ETHEREUM_V else (v - _EIP155_V) % 2
    from btclib_secp256k1.recovery import recover as recovered

    try:
        return address_of_key(recovered(digest, signature[:64], parity, compressed=False))
    except ValueError:
        return None


def recoverable(digest: bytes, r: int, s: int, signer: Address) -> bytes | None:
    """Return a signature as r ‖ s ‖ v, v 27 or 28 and s low, of the (r, s) that ``signer`` made; None where somebody else made it."""
    low = min(s, _ORDER - s)
    if not 0 < r < _ORDER or low <= 0:
        return None
    found = (r.to_bytes(32) + low.to_bytes(32) + bytes([v]) for v in (_ETHEREUM_V, _ETHEREUM_V + 1))
    return next((signature for signature in found if recover(digest, signature) == signer), None)


def is_canonical(signature: bytes) -> bool:
    """Say whether contracts take a signature of this form: 65 bytes, v 27 or 28, low s (EIP-2)."""
    if len(signature) != SIGNATURE_BYTES or signature[64] not in {_ETHEREUM_V, _ETHEREUM_V + 1}:
        return False
    return int.from_bytes(signature[32:64]) <= _ORDER // 2


def address_of_key(point: bytes) -> Address:
    """Return the account of a public key, given as 65 bytes, uncompressed."""
    return Address(keccak256(point[1:])[-ADDRESS_BYTES:])

"""BIP-32: derives private keys from a seed, one step of a path at a time. Reads no mnemonic, and never shows a key.

Public derivation and the text form of extended keys are left out: nobody here needs them.
"""

from __future__ import annotations

import hmac
from typing import Final

import attrs

HARDENED: Final = 2**31
"""Added to an index: the child cannot be computed from the parent's public key."""

_INDEX_BYTES = 4
_KEY_BYTES = 32


@attrs.frozen
class ExtendedKey:
    """A private key and its chain code, 32 bytes each."""

    secret: bytes = attrs.field(repr=False)
    chain_code: bytes = attrs.field(repr=False)

    @classmethod
    def of_seed(cls, seed: bytes) -> ExtendedKey:
        """Return the master key of a seed."""
        return cls(*_split(b"Bitcoin seed", seed))

    def child(self, index: int) -> ExtendedKey:
        """Return the key one step down; an ``index`` from HARDENED on is a hardened one.

        Raises ValueError for the one index in 2^127 that has no key.
        """
        from btclib_secp256k1 import keys

        parent = b"\0" + self.secret if index >= HARDENED else keys.pubkey_from_prvkey(self.secret)
        tweak, chain_code = _split(self.chain_code, parent + index.to_bytes(_INDEX_BYTES))
        return ExtendedKey(keys.prvkey_tweak_add(self.secret, tweak), chain_code)

    def descendant(self, *path: int) -> ExtendedKey:
        """Return the key at the end of a path."""
        key = self
        for index in path:
            key = key.child(index)
        return key


def _split(key: bytes, message: bytes) -> tuple[bytes, bytes]:
    """Return both halves of an HMAC-SHA512."""
    digest = hmac.digest(key, message, "sha512")
    return digest[:_KEY_BYTES], digest[_KEY_BYTES:]

"""Who sends: an account that signs transactions. Knows neither chains nor fees.

The signer may be far away (a key service), hence async; a key in memory signs at once.
"""

from __future__ import annotations

from typing import Protocol

import attrs
import trio

from kmsconn.config.settings import Secret
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Transaction


class Signer(Protocol):
    """Holds a secp256k1 key, here or elsewhere."""

    @property
    def address(self) -> Address:
        """The account of the key."""
        ...

    async def sign(self, digest: bytes) -> bytes:
        """Sign 32 bytes: r ‖ s ‖ v, v 27 or 28, low s.

        Raises Retryable when the key cannot be reached. Repeating: signs anew, perhaps with other bytes.
        """
        ...


@attrs.frozen
class KeyInMemory:
    """A key of this process."""

    _key: PrivateKey

    @property
    def address(self) -> Address:
        """The account of the key."""
        return self._key.address

    async def sign(self, digest: bytes) -> bytes:
        """Sign 32 bytes, the same bytes every time (RFC 6979)."""
        await trio.lowlevel.checkpoint()
        return self._key.sign(digest)


@attrs.frozen
class Wallet:
    """The node's transaction sender."""

    signer: Signer

    @classmethod
    def from_hex(cls, secret: Secret) -> Wallet:
        """Return the wallet of a key written as hex digits. Raises ValueError, without the text."""
        return cls(KeyInMemory(PrivateKey.parse(secret.reveal())))

    @property
    def address(self) -> Address:
        """The account that sends."""
        return self.signer.address

    async def sign_transaction(self, transaction: Transaction) -> tuple[bytes, bytes]:
        """Sign; return the raw bytes and their hash. Raises Retryable when the key cannot be reached."""
        raw = transaction.signed(await self.signer.sign(transaction.signing_digest))
        return raw, keccak256(raw)

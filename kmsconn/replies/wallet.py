"""The account that sends: signs transactions. Knows neither chains nor fees.

The signer may be far away (a key service), hence async and for many digests at once; a key in memory signs them one by one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import attrs
import trio

from kmsconn.config.settings import Settings
from kmsconn.config.values import Secret
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Transaction
from kmsconn.model.events import OnEvent

BREATH = 32  # signatures of a key in memory between two checkpoints: some two milliseconds
Signed = tuple[bytes, bytes]
"""The raw bytes of a transaction and their hash."""


class Signer(Protocol):
    """Holds a secp256k1 key, here or elsewhere."""

    @property
    def address(self) -> Address:
        """The account of the key."""
        ...

    async def sign(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign digests of 32 bytes in their order: r ‖ s ‖ v, v 27 or 28, low s. Fewer come back where the key failed on the way.

        Raises Retryable when it failed at the first. Repeating: signs anew, perhaps with other bytes.
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

    async def sign(self, digests: Sequence[bytes]) -> list[bytes]:
        """Sign all, with the same bytes every time (RFC 6979)."""
        signatures = []
        for start in range(0, len(digests), BREATH):
            await trio.lowlevel.checkpoint()
            signatures += [self._key.sign(digest) for digest in digests[start : start + BREATH]]
        return signatures


@attrs.frozen
class Wallet:
    """The node's transaction sender."""

    signer: Signer
    address: Address = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.signer.address, takes_self=True)
    )
    """The account that sends."""

    @classmethod
    def from_hex(cls, secret: Secret) -> Wallet:
        """Return the wallet of a key written as hex digits. Raises ValueError, without the text."""
        return cls(KeyInMemory(PrivateKey.parse(secret.reveal())))

    async def sign(self, transactions: Sequence[Transaction]) -> list[Signed]:
        """Sign in order; return raw bytes and hash of each, of fewer where the key failed on the way.

        Raises Retryable when it failed at the first.
        """
        signatures = await self.signer.sign([transaction.signing_digest for transaction in transactions])
        raws = [one.signed(signature) for one, signature in zip(transactions, signatures, strict=False)]
        return [(raw, keccak256(raw)) for raw in raws]


@asynccontextmanager
async def open_tx_sender(settings: Settings, on_event: OnEvent) -> AsyncIterator[Wallet | Address]:
    """Open the wallet that the settings name, and no other; for who sends nothing yield no more than the address.

    Raises as ``open_wallet``.
    """
    named = settings.wallet.tx_sender_address
    if settings.sends:
        async with open_wallet(settings, on_event) as wallet:
            yield wallet
    elif named is not None:
        yield named
    else:
        async with open_wallet(settings, on_event) as wallet:
            address = wallet.address
        yield address


@asynccontextmanager
async def open_wallet(settings: Settings, on_event: OnEvent) -> AsyncIterator[Wallet]:
    """Open the wallet that the settings name, and no other. Raises StartRefused when it cannot be used."""
    if settings.wallet.private_key is not None:
        yield Wallet.from_hex(settings.wallet.private_key)
    elif settings.wallet.aws_kms is not None:
        from kmsconn.replies.aws_kms import open_aws_kms

        async with open_aws_kms(settings.wallet.aws_kms, on_event, settings.proxies) as signer:
            yield Wallet(signer)

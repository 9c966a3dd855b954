"""How the rest of the connector learns where ciphertexts are, and gets them (Protocols)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kmsconn.ciphertexts.budget import Lease
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import CiphertextReference
from kmsconn.model.steps import Ciphertext


class Directory(Protocol):
    """Which coprocessor keeps its ciphertexts where."""

    async def find(self, tx_senders: Sequence[Address]) -> list[str]:
        """Return the bucket addresses of these coprocessors in this order. Raises Retryable. Repeating: reads only."""
        ...

    async def wait_loaded(self) -> None:
        """Return once questions can be answered."""
        ...

    async def run(self) -> None:
        """Keep what is known fresh, for ever. Raises StartRefused for what nobody could trust."""
        ...


class Gatherer(Protocol):
    """Fetches ciphertexts."""

    async def fetch(self, reference: CiphertextReference, lease: Lease) -> Ciphertext:
        """Return the ciphertext of a reference; its bytes are held under ``lease``. Raises Retryable. Repeating: reads only."""
        ...

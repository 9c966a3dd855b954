"""Reads one storage slot as the connector's question says. Interprets nothing itself."""

from __future__ import annotations

from typing import TypeVar

from kmsconn.chain.endpoint import Endpoint
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.queries import StorageRead

T = TypeVar("T")


async def ask_slot(rpc: Endpoint, slot: StorageRead[T]) -> T:
    """Return what a slot holds at the head."""
    method, parameters = slot.call()
    return slot.understand(from_hex(await rpc.call(method, *parameters)))

"""Where contracts keep what no view function tells: storage slots. Never asks for one.

Source: ERC-7201; Solidity documentation, "Layout of State Variables in Storage".
"""

from __future__ import annotations

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256


def base_slot(namespace: str) -> int:
    """Return the first slot of an ERC-7201 namespace."""
    inner = int.from_bytes(keccak256(namespace.encode())) - 1
    return int.from_bytes(keccak256(inner.to_bytes(32))) & ~0xFF


def mapping_slot(slot: int, key: int | Address) -> int:
    """Return the slot of a mapping's entry."""
    word = key.to_bytes(32) if isinstance(key, int) else key.rjust(32, b"\0")
    return int.from_bytes(keccak256(word + slot.to_bytes(32)))


def flag(word: bytes) -> bool:
    """Read a bool that has a slot of its own. Raises Undecodable for a word that no Solidity bool is."""
    number = int.from_bytes(word)
    if number > 1:
        raise Undecodable("a flag in storage that is neither 0 nor 1")
    return bool(number)

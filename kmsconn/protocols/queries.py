"""What a chain is asked, as data: calls, storage slots and logs, each with how its answer is read. Asks nobody.

Source of slots: ERC-7201; Solidity documentation, "Layout of State Variables in Storage".
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import reduce
from operator import itemgetter
from typing import Any, Concatenate, Final, Generic, Protocol, TypeVar

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Function, Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.frozen import frozen

T = TypeVar("T")
_WORD_BYTES = 32
_FIRST: Final = itemgetter(0)
T_co = TypeVar("T_co", covariant=True)


class ContractQuery(Protocol[T_co]):
    """One read of a chain: what to ask, and how to understand what comes back."""

    @property
    def chain_id(self) -> int:
        """The chain to ask."""
        ...

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        ...

    def understand(self, result: Any) -> T_co:
        """Read the result, as bytes, or as a sequence of logs.

        Raises Undecodable; a check raises Rejected or NotYet when the answer is no.
        """
        ...

    def refused(self, message: str, data: bytes | None) -> T_co | None:
        """Read a JSON-RPC error that is an answer; None (the default) means that it is none: ask again later."""
        ...


class Instead(Exception):  # noqa: N818 - no error: the contract is of another revision
    """Raised by a question that found the other revision of a contract: another question is to be asked instead."""

    def __init__(self, question: ContractQuery[Any]) -> None:
        super().__init__()
        self.question = question


@frozen
class ViewCall(Generic[T]):
    """An ``eth_call`` without a sender, at ``latest`` or at the block of a number."""

    chain_id: int
    to: Address
    data: bytes
    read: Callable[[bytes], T]
    gas: int | None = None
    on_error: Callable[[str, bytes | None], T | None] | None = None
    block: int | None = None

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        message = {"to": f"0x{self.to.hex()}", "data": f"0x{self.data.hex()}"}
        if self.gas is not None:
            message["gas"] = quantity(self.gas)
        return "eth_call", (message, "latest" if self.block is None else quantity(self.block))

    def understand(self, result: bytes) -> T:
        """Read the return data."""
        return self.read(result)

    def refused(self, message: str, data: bytes | None) -> T | None:
        """Read a revert where it is an answer."""
        return None if self.on_error is None else self.on_error(message, data)


@frozen
class StorageRead(Generic[T]):
    """An ``eth_getStorageAt`` at ``latest`` or another block that has a name."""

    chain_id: int
    to: Address
    slot: int
    read: Callable[[bytes], T]
    block: str = "latest"

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        return "eth_getStorageAt", (f"0x{self.to.hex()}", f"0x{self.slot:064x}", self.block)

    def understand(self, result: bytes) -> T:
        """Read the 32-byte word. Raises Undecodable for what is none: nothing that cannot be taken back may follow from it."""
        if len(result) != _WORD_BYTES:
            raise Undecodable(f"a word of storage has {_WORD_BYTES} bytes, not {len(result)}")
        return self.read(result)

    def refused(self, message: str, data: bytes | None) -> T | None:
        """Nothing that a node says instead of a word is an answer."""
        return None


@frozen
class ContractViews:
    """Questions to a contract at its place."""

    chain_id: int
    address: Address

    @property
    def at(self) -> tuple[int, Address]:
        """The chain id and the address."""
        return self.chain_id, self.address

    def view(
        self, function: Function, *values: Any, block: int | None = None, of: Callable[[Any], Any] = _FIRST
    ) -> ViewCall[Any]:
        """Ask a view function, now or as of a block; ``of`` says what its results amount to, by default to the first."""
        calldata = function.encode(*values)
        return ViewCall(
            self.chain_id, self.address, calldata, lambda data: of(function.decode_result(data)), block=block
        )


def viewed(
    function: Function, of: Callable[[Any], Any] = _FIRST
) -> Callable[Concatenate[ContractViews, ...], ViewCall[Any]]:
    """Return a question of ``ContractViews``: that of ``view`` for the values which it is given, now or as of a ``block``."""

    def ask(views: ContractViews, *values: Any, block: int | None = None) -> ViewCall[Any]:
        return views.view(function, *values, block=block, of=of)

    return ask


def stored(
    slot: int, read: Callable[[bytes], Any] = int.from_bytes, block: str = "latest"
) -> Callable[Concatenate[ContractViews, ...], StorageRead[Any]]:
    """Return a question of ``ContractViews``: for the word in a slot, or for an entry of the mappings there, by its keys."""

    def ask(views: ContractViews, *keys: int | Address) -> StorageRead[Any]:
        return StorageRead(views.chain_id, views.address, reduce(mapping_slot, keys, slot), read, block)

    return ask


QueryPlan = Generator[Sequence[ContractQuery[Any]], Sequence[Any], T]
"""Questions to one chain in rounds, where later ones follow from earlier answers: each round is one batch to one node.

It yields the questions of a round, gets their answers, and returns what they amount to.
"""

PlannedQueries = tuple[int, QueryPlan[T]]
"""A plan with the chain that it is put to."""


@attrs.frozen
class LogsAt(Generic[T]):
    """An ``eth_getLogs`` of one contract and one block; ``topics`` as the node takes them."""

    chain_id: int
    contract: Address
    topics: tuple[bytes, ...]
    block: int
    read: Callable[[Sequence[Log]], T]

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        where = {"address": to_hex(self.contract), "topics": [to_hex(topic) for topic in self.topics]}
        return "eth_getLogs", ({**where, "fromBlock": quantity(self.block), "toBlock": quantity(self.block)},)

    def understand(self, result: Sequence[Log]) -> T:
        """Read the logs."""
        return self.read(result)

    def refused(self, message: str, data: bytes | None) -> T | None:
        """Nothing that a node says instead of logs is an answer."""
        return None


# --- where contracts keep what no view function tells


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

"""What a chain is asked, as data: calls, storage slots and logs, each with how its answer is read. Asks nobody.

Source of slots: ERC-7201; Solidity documentation, "Layout of State Variables in Storage".
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import lru_cache, reduce
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Function
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import quantity
from kmsconn.ethereum.keccak import keccak256
from kmsconn.frozen import frozen

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_WORD_BYTES = 32
_FIRST: Final = itemgetter(0)


@frozen
class ContractQuery(Generic[T_co]):
    """One read of a chain: a method of JSON-RPC with its parameters, the account that is asked about, and how what comes back is read.

    ``understand`` reads the result, as bytes, or as a sequence of logs. It raises Undecodable; a check raises Rejected or NotYet when the
    answer is no. ``refused`` reads message and data of a JSON-RPC error that is an answer; None: it is none, ask again later.
    """

    chain_id: int
    to: Address
    method: str
    parameters: tuple[Any, ...]
    understand: Callable[[Any], T_co]
    refused: Callable[[str, bytes | None], T_co | None] = lambda _message, _data: None


class Instead(Exception):  # noqa: N818 - no error: the contract is of another revision
    """Raised by a question that found the other revision of a contract: another question is to be asked instead."""

    def __init__(self, question: ContractQuery[Any]) -> None:
        super().__init__()
        self.question = question


def view_call(
    chain_id: int,
    to: Address,
    data: bytes,
    read: Callable[[bytes], T],
    *,
    gas: int | None = None,
    block: int | None = None,
) -> ContractQuery[T]:
    """Ask by an ``eth_call`` without a sender, at ``latest`` or at the block of a number."""
    message = {"to": f"0x{to.hex()}", "data": f"0x{data.hex()}"}
    if gas is not None:
        message["gas"] = quantity(gas)
    return ContractQuery(
        chain_id, to, "eth_call", (message, "latest" if block is None else quantity(block)), read
    )


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
        self, function: Function, *values: Any, of: Callable[[Any], Any] = _FIRST, block: int | None = None
    ) -> ContractQuery[Any]:
        """Ask a view function, now or as of a block; ``of`` says what its results amount to, by default to the first."""

        def read(data: bytes) -> Any:
            return of(function.decode_result(data))

        return view_call(self.chain_id, self.address, function.encode(*values), read, block=block)

    def slot(
        self,
        slot: int,
        *keys: int | Address,
        read: Callable[[bytes], Any] = int.from_bytes,
        block: str = "latest",
    ) -> ContractQuery[Any]:
        """Ask for the word in a slot, or for an entry of the mappings there, by its keys; at a block that has a name."""

        def understand(word: bytes) -> Any:
            if len(word) != _WORD_BYTES:  # nothing that cannot be taken back may follow from what is no word
                raise Undecodable(f"a word of storage has {_WORD_BYTES} bytes, not {len(word)}")
            return read(word)

        place = f"0x{reduce(mapping_slot, keys, slot):064x}"
        asked = f"0x{self.address.hex()}", place, block
        return ContractQuery(self.chain_id, self.address, "eth_getStorageAt", asked, understand)


def viewed(function: Function, of: Callable[[Any], Any] = _FIRST) -> Callable[..., ContractQuery[Any]]:
    """Return a question of ``ContractViews``: that of ``view`` for the values which it is given, now or as of a ``block``."""
    return lru_cache(16)(lambda views, *values, **block: views.view(function, *values, of=of, **block))


def stored(
    slot: int, read: Callable[[bytes], Any] = int.from_bytes, block: str = "latest"
) -> Callable[..., ContractQuery[Any]]:
    """Return a question of ``ContractViews``: that of ``slot`` for the keys which it is given."""
    return lambda views, *keys: views.slot(slot, *keys, read=read, block=block)


QueryPlan = Generator[Sequence[ContractQuery[Any]], Sequence[Any], T]
"""Questions to one chain in rounds, where later ones follow from earlier answers: each round is one batch to one node.

It yields the questions of a round, gets their answers, and returns what they amount to.
"""

PlannedQueries = tuple[int, QueryPlan[T]]
"""A plan with the chain that it is put to."""


# --- where contracts keep what no view function tells


def base_slot(namespace: str) -> int:
    """Return the first slot of an ERC-7201 namespace."""
    inner = int.from_bytes(keccak256(namespace.encode())) - 1
    return int.from_bytes(keccak256(inner.to_bytes(32))) & ~0xFF


def mapping_slot(slot: int, key: int | Address) -> int:
    """Return the slot of a mapping's entry."""
    word = key.to_bytes(32) if isinstance(key, int) else key.rjust(32, b"\0")
    return int.from_bytes(keccak256(word + slot.to_bytes(32)))


def content_slot(slot: int) -> int:
    """Return the first slot of what `bytes` hold that are longer than a word; their own slot has twice their length and one."""
    return int.from_bytes(keccak256(slot.to_bytes(32)))


def flag(word: bytes) -> bool:
    """Read a bool that has a slot of its own. Raises Undecodable for a word that no Solidity bool is."""
    number = int.from_bytes(word)
    if number > 1:
        raise Undecodable("a flag in storage that is neither 0 nor 1")
    return bool(number)

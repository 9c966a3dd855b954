"""One message running against the state of a chain: keys and values with each block's changes, and what a contract sees and does.

A block's changes hold the old and the new value of every key it wrote, so that a block can be taken back, put back, or looked
behind: a state *beside* the head reads as of some blocks ago, and takes the writes of a call that must leave no trace.
Contracts are Python classes; gas is a rough model (intrinsic costs as on chain, a figure per function), enough for estimates,
limits and balances. Knows neither blocks nor pools.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, NoReturn, Protocol

import attrs

from kmsconn.ethereum.abi import ContractEvent, Function
from kmsconn.ethereum.addresses import Address

Key = tuple[Any, ...]
Changes = Mapping[Key, tuple[Any, Any]]


class _Missing:
    """The value of a key that was never written."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
NO_CHANGES: Final[Changes] = {}


class ChainState:
    """The state at the head, with the writes since the last sealed block; or, ``beside`` it, another one."""

    def __init__(self, values: MutableMapping[Key, Any] | None = None) -> None:
        self._values: MutableMapping[Key, Any] = {} if values is None else values
        self._written: list[tuple[Key, Any]] = []

    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default`` when it was never written."""
        value = self._values.get(key, MISSING)
        return default if value is MISSING else value

    def beside(self, changed: dict[Key, Any]) -> ChainState:
        """Return a state that differs from this one in some keys; what is written to it touches nothing else."""
        return ChainState(ChainMap({}, changed, self._values))

    def set(self, key: Key, value: Any) -> None:
        """Write ``value`` as part of the block that is being built."""
        self._written.append((key, self._values.get(key, MISSING)))
        self._values[key] = value

    @contextmanager
    def outside_blocks(self) -> Iterator[None]:
        """Let the writes made meanwhile belong to no block: no reorganisation takes them back, and the past shows them as well."""
        mark = self.checkpoint()
        yield
        del self._written[mark:]

    def checkpoint(self) -> int:
        """Return a mark for ``rollback``."""
        return len(self._written)

    def rollback(self, mark: int) -> None:
        """Take back every write since ``mark``."""
        while len(self._written) > mark:
            self._restore(*self._written.pop())

    def seal(self) -> Changes:
        """End a block: return what it changed and begin the next."""
        if not self._written:
            return NO_CHANGES
        first: dict[Key, Any] = {}
        for key, old in self._written:
            first.setdefault(key, old)
        self._written.clear()
        return {key: (old, self._values[key]) for key, old in first.items()}

    def take_back(self, changes: Changes) -> None:
        """Undo the newest block that was not undone yet."""
        for key, (old, _) in changes.items():
            self._restore(key, old)

    def _restore(self, key: Key, old: Any) -> None:
        if old is MISSING:
            self._values.pop(key, None)
        else:
            self._values[key] = old


def difference(undone: Iterable[Changes], done: Iterable[Changes] = ()) -> dict[Key, Any]:
    """Return what distinguishes another state from the head's: blocks undone (newest first), then blocks done (oldest first)."""
    values: dict[Key, Any] = {}
    for changes in undone:
        values.update((key, old) for key, (old, _) in changes.items())
    for changes in done:
        values.update((key, new) for key, (_, new) in changes.items())
    return values


INTRINSIC_GAS = 21_000
_ZERO_BYTE_GAS, _BYTE_GAS = 4, 16
_LOG_GAS, _LOG_BYTE_GAS = 1_500, 8


class Reverted(Exception):  # noqa: N818 - an outcome of contracts, not a fault of this program
    """A contract refused; ``data`` is what it returned: an ABI-encoded error, or nothing."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(data.hex())
        self.data = data


class OutOfGas(Exception):  # noqa: N818 - likewise
    """The message used up its gas limit."""


@attrs.frozen
class BlockContext:
    """What a contract can ask about the block it runs in."""

    chain_id: int
    number: int
    timestamp: int


@attrs.frozen
class Emitted:
    """One log before it has a place."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes


class Meter:
    """Gas of one message: used so far, and the limit."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0

    def burn(self, gas: int) -> None:
        """Use up ``gas``. Raises OutOfGas at the limit."""
        self.used += gas
        if self.used > self.limit:
            self.used = self.limit
            raise OutOfGas


@attrs.frozen
class Frame:
    """A contract's window on one message: sender, calldata, block, its own storage, logs and gas."""

    storage: ChainState
    block: BlockContext
    address: Address
    sender: Address
    data: bytes
    meter: Meter
    logs: list[Emitted] = attrs.Factory(list)

    def read(self, *key: Any, default: Any = None) -> Any:
        """Return a value of this contract's named storage."""
        return self.storage.get((self.address, *key), default)

    def write(self, value: Any, *key: Any) -> None:
        """Write a value into this contract's named storage."""
        self.storage.set((self.address, *key), value)

    def load(self, slot: int) -> int:
        """Return a storage slot as ``eth_getStorageAt`` shows it."""
        return int(self.storage.get((self.address, slot), 0))

    def store(self, slot: int, value: int) -> None:
        """Write a storage slot that ``eth_getStorageAt`` shows."""
        self.storage.set((self.address, slot), value)

    def at(self, address: Address) -> Frame:
        """Return the same message looking at another contract's storage."""
        return Frame(self.storage, self.block, address, self.sender, self.data, self.meter, self.logs)

    def emit(self, event: ContractEvent, *values: Any) -> None:
        """Log an event."""
        topics, data = event.encode(*values)
        self.meter.burn(_LOG_GAS + _LOG_BYTE_GAS * len(data))
        self.logs.append(Emitted(self.address, tuple(topics), data))


class EmulatedContract(Protocol):
    """Code at an address."""

    @property
    def address(self) -> Address:
        """Where it is deployed."""
        ...

    def execute(self, frame: Frame) -> bytes:
        """Run the message and return its result. Raises Reverted or OutOfGas."""
        ...


Contracts = Mapping[Address, EmulatedContract]


def revert(error: Function, *values: Any) -> NoReturn:
    """End the message with a custom error. Raises Reverted."""
    raise Reverted(error.encode(*values))


def intrinsic_gas(data: bytes) -> int:
    """Return the gas that a transaction costs before any code runs."""
    zeros = data.count(0)
    return INTRINSIC_GAS + _ZERO_BYTE_GAS * zeros + _BYTE_GAS * (len(data) - zeros)


def run(contracts: Contracts, frame: Frame) -> bytes:
    """Run one message; an address without code takes anything and returns nothing. Raises Reverted or OutOfGas.

    Writes made before a revert are in ``frame.storage``: the caller takes them back or throws them away.
    """
    frame.meter.burn(intrinsic_gas(frame.data))
    contract = contracts.get(frame.address)
    return b"" if contract is None else contract.execute(frame)

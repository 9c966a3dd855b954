"""One message running against the state: what a contract sees and does. Knows neither blocks nor pools.

Contracts are Python classes; gas is a rough model (intrinsic costs as on chain, a figure per function), enough for estimates,
limits and balances.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

import attrs

from kmsconn.emulator.state import Storage
from kmsconn.ethereum.abi import Error, Event
from kmsconn.ethereum.addresses import Address

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

    storage: Storage
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

    def emit(self, event: Event, *values: Any) -> None:
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


def revert(error: Error, *values: Any) -> NoReturn:
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

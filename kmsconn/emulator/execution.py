"""One message running against the state of a chain: keys and values with each block's changes, and what a contract sees and does.

A block's changes hold the old and the new value of every key it wrote, so that a block can be taken back, put back, or looked
behind: a state *beside* the head reads as of some blocks ago, and takes the writes of a call that must leave no trace.
Contracts are Python classes; gas is a rough model (intrinsic costs as on chain, a figure per function), enough for estimates,
limits and balances. All share dispatch by selector, lenient decoding, and recovery as contracts do it (fhevm-0.14.md, 2.4). Knows neither
blocks nor pools.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NoReturn, Protocol

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Abi, ContractEvent, Domain, Function
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import SIGNATURE_BYTES, recover
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.queries import mapping_slot

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


SELECTOR_BYTES = 4
Handler = Callable[..., tuple[Any, ...] | None]
"""Called with the frame and the decoded arguments; returns the results, None for none."""


class AbiContract:
    """A contract whose functions are Python methods."""

    def __init__(self, address: Address, abi: Abi, handlers: Mapping[str, Handler]) -> None:
        self.address = address
        self._entries: dict[bytes, tuple[Function, Handler]] = {}
        for name, handler in handlers.items():
            self.offer(abi.function(name), handler)

    def offer(self, function: Function, handler: Handler) -> None:
        """Run a handler for a function."""
        self._entries[function.selector] = function, handler

    def execute(self, frame: Frame) -> bytes:
        """Decode the calldata, run the function, encode its results. Raises Reverted, without data for what it does not know."""
        entry = self._entries.get(frame.data[:SELECTOR_BYTES])
        if entry is None:
            raise Reverted
        function, handler = entry
        try:
            values = function.decode(frame.data, exact=False)
        except Undecodable as error:
            raise Reverted from error
        return function.encode_result(*(handler(frame, *values) or ()))


def told(*key: Any, default: Any = 0) -> Handler:
    """Return what tells a value of the contract's named storage."""
    return lambda frame: (frame.read(*key, default=default),)


def domain_teller(domain: Domain) -> Handler:
    """Return what tells an EIP-712 domain, as EIP-5267 has it."""
    where = (domain.name, domain.version, domain.chain_id, domain.verifying_contract)
    return lambda _: (b"\x0f", *where, bytes(32), ())


def is_set(frame: Frame, mapping: int, key: int | Address) -> bool:
    """Tell whether a flag of a mapping is set."""
    return bool(frame.load(mapping_slot(mapping, key)))


def set_once(frame: Frame, mapping: int, key: int | Address) -> bool:
    """Set a flag of a mapping; False where it was set before."""
    slot = mapping_slot(mapping, key)
    was = frame.load(slot)
    frame.store(slot, 1)
    return not was


def consensus_senders(digests: int, frame: Frame, request: int) -> tuple[Any, ...]:
    """Return who sent the replies that completed a request, whose digest stands in the mapping ``digests``."""
    digest = frame.load(mapping_slot(digests, request)).to_bytes(32)
    return (frame.read("senders", request, digest, default=()),)


def count(frame: Frame, counter: int) -> int:
    """Count one further and return the new number."""
    number = frame.load(counter) + 1
    frame.store(counter, number)
    return number


_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_PARITIES = frozenset({27, 28})

# Calls, estimates and the block itself recover the same signature one after the other.
_recover = lru_cache(maxsize=1024)(recover)


def recover_strictly(digest: bytes, signature: bytes) -> Address:
    """Return the signer: 65 bytes, low s, v 27 or 28. Raises Reverted."""
    if len(signature) != SIGNATURE_BYTES:
        revert(DECRYPTION.error("ECDSAInvalidSignatureLength"), len(signature))
    if int.from_bytes(signature[32:64]) > _HALF_ORDER:
        revert(DECRYPTION.error("ECDSAInvalidSignatureS"), signature[32:64])
    signer = _recover(digest, signature) if signature[64] in _PARITIES else None
    if signer is None:
        revert(DECRYPTION.error("ECDSAInvalidSignature"))
    return signer

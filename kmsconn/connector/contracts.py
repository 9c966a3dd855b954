"""Puts questions to contracts by their names, any of a generation, for programs beside the connector: tools, dashboards, tests.

It signs and sends nothing for them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from typing import Any, TypeVar

import attrs

from kmsconn.chain.asking import whole_logs
from kmsconn.chain.endpoint import open_endpoint
from kmsconn.chain.port import Rpc, RpcError
from kmsconn.config.settings import Settings
from kmsconn.errors import CallReverted, Undecodable, Unreachable
from kmsconn.ethereum.abi import SELECTOR_BYTES, Abi, ContractEvent, Function
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.model.requests import FHEVM, HTTPZ_RC7, profile_named
from kmsconn.protocols.deployments import name_revert, read_contracts, show_value, union_of_errors
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from kmsconn.protocols.port import Revert
from kmsconn.protocols.profile import Profile
from kmsconn.transport.dialling import real_ports
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports

PROFILES: Mapping[str, Callable[[Settings], Profile]] = {FHEVM: Fhevm, HTTPZ_RC7: HttpzRc7}
"""The generations by the names that the option ``profile`` has for them."""
_MAIN = "contracts"
Entry = TypeVar("Entry", Function, ContractEvent)


@attrs.frozen
class Decoded:
    """A call or a log with its values in the order of their declaration; the place names one that has no name in the ABI."""

    contract: str
    name: str
    signature: str
    names: tuple[str, ...]
    values: tuple[Any, ...]

    def __getitem__(self, name: str) -> Any:
        """Return a value by its name. Raises KeyError."""
        if name not in self.names:
            raise KeyError(name)
        return self.values[self.names.index(name)]

    def __str__(self) -> str:
        """Show it as it is written in Solidity, with names."""
        shown = (f"{name}={show_value(value)}" for name, value in zip(self.names, self.values, strict=True))
        return f"{self.contract}.{self.name}({', '.join(shown)})"


@attrs.frozen
class UnknownLog:
    """A log of an event, or of an overload of one, that no known ABI has; or of known name and other content. ``reason`` says which."""

    topics: tuple[bytes, ...]
    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    reason: str

    def __str__(self) -> str:
        return f"unknown log {to_hex(self.topics[0]) if self.topics else 'without topics'}: {self.reason}"


class Interfaces:
    """Every function, event and error of one generation: calls, results, logs and reverts by name. Made by ``interfaces``; asks nobody.

    A name is ``Contract.function``, ``Contract.Event`` or, of an earlier or later revision, ``revision.Contract.function``. The contract
    may be left out where one contract alone has the name. A function that is overloaded is chosen by the values that it is given, or
    named by its signature.
    """

    def __init__(self, generation: str) -> None:
        self.contracts: Mapping[str, Abi] = {
            name if group == _MAIN else f"{group}.{name}": abi
            for group, contracts in read_contracts(generation).items()
            for name, abi in contracts.items()
        }
        """Every contract by its name; those of other revisions as ``revision.Contract``."""
        self._errors = union_of_errors(self.contracts.values())

    # --- calls

    def encode_call(self, name: str, *values: Any) -> bytes:
        """Return the calldata of a function. Raises KeyError for a name that is none or not enough, ValueError for unfit values."""
        return self.function(name, values)[1].encode(*values)

    def decode_call(self, calldata: bytes) -> Decoded:
        """Read calldata, whichever contract it is for. Raises Undecodable."""
        for label, abi in self.contracts.items():
            function = abi.functions_by_selector.get(calldata[:SELECTOR_BYTES])
            if function is not None:
                return _decoded(label, function, function.decode(calldata))
        raise Undecodable(f"no known function has the selector {to_hex(calldata[:SELECTOR_BYTES])}")

    def decode_result(self, name: str, data: bytes) -> tuple[Any, ...]:
        """Read what ``eth_call`` of a function gives. Raises KeyError, Undecodable."""
        return self.function(name)[1].decode_result(data)

    def function(self, name: str, values: Sequence[Any] | None = None) -> tuple[str, Function]:
        """Return a function and its contract by name; of overloaded ones that which takes the values. Raises KeyError."""
        found = list(self._named(name, "functions_by_selector"))
        if len(found) > 1 and values is not None:
            found = [(label, function) for label, function in found if _takes(function, values)] or found
        return _only(name, found)

    # --- logs

    def encode_log(self, name: str, *values: Any) -> tuple[tuple[bytes, ...], bytes]:
        """Return the topics and the data of an event. Raises KeyError, ValueError."""
        return self.event(name)[1].encode(*values)

    def decode_log(self, topics: Sequence[bytes], data: bytes) -> Decoded | UnknownLog:
        """Read a log. What is unknown or has another content than its event is reported as a value, so that one log stops nobody."""
        reason = "no known event, nor an overload of one, has this topic"
        for label, abi in self.contracts.items():
            if not topics or (event := abi.events_by_topic.get(topics[0])) is None:
                continue
            try:
                return _decoded(label, event, event.decode(topics, data))
            except Undecodable as error:
                reason = f"{label}.{event.signature}: {error}"
        return UnknownLog(tuple(topics), data, reason)

    def event(self, name: str) -> tuple[str, ContractEvent]:
        """Return an event and its contract by name, or by signature where it is overloaded. Raises KeyError."""
        return _only(name, list(self._named(name, "events_by_topic")))

    # --- reverts

    def show_revert(self, data: bytes | None) -> Revert:
        """Name what a contract reverted with, and its arguments; of an unknown error its selector stands for the name."""
        return name_revert(self._errors, {}, data)

    # --- names

    def _named(self, name: str, table: str) -> Iterator[tuple[str, Any]]:
        label = name.partition("(")[0].rpartition(".")[0]
        wanted = name.removeprefix(f"{label}.")
        for contract, abi in self.contracts.items():
            if contract == label or (not label and "." not in contract):
                entries: Mapping[bytes, Function | ContractEvent] = getattr(abi, table)
                yield from (
                    (contract, one) for one in entries.values() if wanted in {one.name, one.signature}
                )


def _decoded(label: str, entry: Function | ContractEvent, values: tuple[Any, ...]) -> Decoded:
    return Decoded(label, entry.name, entry.signature, entry.parameters, values)


_interfaces = cache(Interfaces)


def interfaces(generation: str) -> Interfaces:
    """Return the contracts of ``fhevm`` or ``httpz-rc7``. Raises ValueError for another generation."""
    return _interfaces(profile_named(generation))


def _takes(function: Function, values: Sequence[Any]) -> bool:
    try:
        function.encode(*values)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _only(name: str, found: Sequence[tuple[str, Entry]]) -> tuple[str, Entry]:
    if len(found) == 1:
        return found[0]
    if not found:
        raise KeyError(f"{name}: no such entry")
    raise KeyError(
        f"{name}: ambiguous, give one of {', '.join(f'{label}.{one.signature}' for label, one in found)}"
    )


@attrs.frozen
class Place:
    """Where a contract is: its chain and its address there."""

    rpc: Rpc
    address: Address


@attrs.frozen
class Provider:
    """The contracts of one deployment. Made by ``open_provider``, or of places of your own."""

    interfaces: Interfaces
    places: Mapping[str, Place]
    """Contract names to places; a contract on several host chains as ``ACL@chain id``."""

    def place(self, contract: str) -> Place:
        """Return where a contract is; another revision is at the place of its own name. Raises KeyError."""
        name = contract.rpartition(".")[2]
        if name not in self.places:
            raise KeyError(f"{name}: no place is known, only of {', '.join(self.places)}")
        return self.places[name]

    async def call(
        self,
        name: str,
        *values: Any,
        at: Place | None = None,
        sender: Address | None = None,
        block: int | None = None,
    ) -> tuple[Any, ...]:
        """Call a function without sending anything and return its results.

        ``at`` is another place than the contract's own, ``sender`` whom the contract sees, ``block`` an earlier one than the latest.
        Raises CallReverted with the name and the arguments of the revert, KeyError or ValueError for a name or values that do not fit,
        Unreachable where there is no usable answer. Repeating: reads only.
        """
        contract, function = self.interfaces.function(name, values)
        place = at or self.place(contract)
        message = {"to": to_hex(place.address), "data": to_hex(function.encode(*values))}
        if sender is not None:
            message["from"] = to_hex(sender)
        try:
            answer = await place.rpc.call("eth_call", message, "latest" if block is None else quantity(block))
        except RpcError as error:
            called = f"{contract}.{function.name}"
            if not error.is_revert:
                raise Unreachable(f"{called}: {error}") from error
            revert = self.interfaces.show_revert(error.data)
            raise CallReverted(called, revert.name, revert.arguments) from error
        try:
            return function.decode_result(from_hex(answer))
        except (Undecodable, ValueError, TypeError, AttributeError) as error:
            where = f"{contract} at {checksum(place.address)}"
            raise Unreachable(
                f"{where} answers {function.name} with an undecodable result: {error}"
            ) from error

    async def logs(self, contract: str, from_block: int, to_block: int) -> list[Decoded | UnknownLog]:
        """Return what a contract told in these blocks, in order; a log that no known event explains comes as UnknownLog.

        Raises Unreachable, also where the node says no (too many blocks). Repeating: reads only.
        """
        place = self.place(contract)
        wanted = {
            "address": to_hex(place.address),
            "fromBlock": quantity(from_block),
            "toBlock": quantity(to_block),
        }
        try:
            found = whole_logs(await place.rpc.call("eth_getLogs", wanted))
        except (RpcError, Undecodable) as error:
            raise Unreachable(f"chain {place.rpc.chain_id} answers eth_getLogs with {error}") from error
        return [self.interfaces.decode_log(log.topics, log.data) for log in found]


@asynccontextmanager
async def open_provider(settings: Settings, *, ports: Ports | None = None) -> AsyncIterator[Provider]:
    """Open the chains of a configuration and give their contracts. Nobody is dialled before the first question.

    Raises, in a group, StartRefused where a chain has another id than configured. Needs no wallet, no Core and no journal.
    """
    ports, chains = attrs.evolve(ports or real_ports(), proxies=settings.proxies), settings.chains
    contracts = PROFILES[settings.protocol.profile](settings).contracts()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(open_http(ports))
        hosts = {f"host chain {host.chain.chain_id}": host.chain for host in chains.host_chains}
        rpcs: dict[int, Rpc] = {}
        for name, chain in {"gateway": chains.gateway, "ethereum": chains.ethereum, **hosts}.items():
            rpcs[chain.chain_id] = await stack.enter_async_context(open_endpoint(chain, name, ports, http))
        places = {}
        for one in contracts:
            place, is_acl = Place(rpcs[one.chain_id], one.address), one.kind == "ACL"
            if is_acl:
                places[f"ACL@{one.chain_id}"] = place
            if not is_acl or len(hosts) == 1:
                places[one.kind] = place
        yield Provider(interfaces(settings.protocol.profile), places)

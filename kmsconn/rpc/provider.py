"""The contracts of a deployment as one object: asks their views and reads their logs by name. Signs and sends nothing.

For programs beside the connector: tools, dashboards, tests. The connector itself asks by its profile's typed questions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs

from kmsconn.config.settings import Chain, Settings
from kmsconn.errors import CallReverted, Undecodable, Unreachable
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.model.profiles import HTTPZ_RC7
from kmsconn.protocols.interfaces import Decoded, Interfaces, UnknownLog, interfaces
from kmsconn.rpc.endpoint import open_endpoint
from kmsconn.rpc.logs import decode_logs
from kmsconn.rpc.port import Rpc, RpcError
from kmsconn.transport.dialling import real_ports
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports

_FHEVM_GATEWAY = {"Decryption": "decryption_contract", "GatewayConfig": "gateway_config_contract"}
_FHEVM_ETHEREUM = {"KMSGeneration": "kms_generation_contract", "ProtocolConfig": "protocol_config_contract"}
_HTTPZ = {
    "DecryptionManager": "decryption_contract",
    "HTTPZ": "gateway_config_contract",
    "KeyManager": "kms_generation_contract",
}


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
            raise self._refusal(f"{contract}.{function.name}", error) from error
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
            found, malformed = decode_logs(await place.rpc.call("eth_getLogs", wanted))
        except RpcError as error:
            raise Unreachable(f"chain {place.rpc.chain_id}: {error}") from error
        if malformed:
            raise Unreachable(
                f"chain {place.rpc.chain_id} answers eth_getLogs with an object that is not a log: {malformed[0]}"
            )
        return [self.interfaces.decode_log(log.topics, log.data) for log in found]

    def _refusal(self, called: str, error: RpcError) -> CallReverted | Unreachable:
        if error.data is None and "revert" not in error.message.lower():
            return Unreachable(f"{called}: {error}")
        revert = self.interfaces.show_revert(error.data)
        return CallReverted(called, revert.name, revert.arguments)


@asynccontextmanager
async def open_provider(settings: Settings, *, ports: Ports | None = None) -> AsyncIterator[Provider]:
    """Open the chains of a configuration and give their contracts. Nobody is dialled before the first question.

    Raises, in a group, StartRefused where a chain has another id than configured. Needs no wallet, no Core and no journal.
    """
    ports = attrs.evolve(ports or real_ports(), proxies=settings.proxies)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(open_http(ports))

        async def chain(chain: Chain, name: str) -> Rpc:
            return await stack.enter_async_context(open_endpoint(chain, name, ports, http))

        gateway = await chain(settings.chains.gateway, "gateway")
        if settings.protocol.profile == HTTPZ_RC7:
            yield Provider(interfaces(settings.protocol.profile), _places(settings, gateway, _HTTPZ))
            return
        ethereum = await chain(settings.chains.ethereum, "ethereum")
        acls = {}
        for host in settings.chains.host_chains:
            rpc = await chain(host.chain, f"host chain {host.chain.chain_id}")
            acls[f"ACL@{host.chain.chain_id}"] = Place(rpc, host.acl)
        one = {"ACL": next(iter(acls.values()))} if len(acls) == 1 else {}
        places = _places(settings, gateway, _FHEVM_GATEWAY) | _places(settings, ethereum, _FHEVM_ETHEREUM)
        yield Provider(interfaces(settings.protocol.profile), {**places, **acls, **one})


def _places(settings: Settings, rpc: Rpc, contracts: Mapping[str, str]) -> dict[str, Place]:
    return {name: Place(rpc, getattr(settings.protocol, field).address) for name, field in contracts.items()}

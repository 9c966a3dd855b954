"""The contracts of an emulated deployment, asked by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio
from eth_typing import ABIFunction
from eth_utils.abi import function_abi_to_4byte_selector

import kmsconn
from kmsconn.chain.asking import Decoded, Place, Provider, UnknownLog, interfaces, open_provider
from kmsconn.chain.port import RpcError
from kmsconn.emulator.dependencies import HOST_ID
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH
from kmsconn.errors import CallReverted, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import to_hex
from tests.unit.requests.few_components import FewComponents, few_components
from tests.vectors import httpz

PLACE = Address(b"\x11" * 20)


@attrs.define
class ScriptedRpc:
    """A node that gives one answer to everything."""

    answer: Any
    chain_id: int = 7
    asked: list[tuple[Any, ...]] = attrs.field(factory=list)

    async def call(self, method: str, *params: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append((method, *params))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def batch(self, calls: Any) -> list[Any]:
        raise NotImplementedError


def scripted(answer: Any) -> tuple[Provider, ScriptedRpc]:
    rpc = ScriptedRpc(answer)
    known = interfaces("fhevm")
    return Provider(known, {name: Place(rpc, PLACE) for name in ("ProtocolConfig", "Decryption")}), rpc


# --- among emulated dependencies


@asynccontextmanager
async def provided(folder: Path) -> AsyncIterator[tuple[FewComponents, Provider]]:
    async with (
        few_components(folder) as components,
        open_provider(components.settings(), ports=components.ports) as provider,
    ):
        yield components, provider


async def test_views_of_every_chain_are_asked_by_name(tmp_path: Path) -> None:
    async with provided(tmp_path) as (_, provider):
        assert await provider.call("getCurrentKmsContextAndEpoch") == (CONTEXT, EPOCH)
        (senders,) = await provider.call("GatewayConfig.getCoprocessorTxSenders")
        assert len(senders) == 2
        (coprocessor,) = await provider.call("GatewayConfig.getCoprocessor", senders[0])
        assert coprocessor[0] == senders[0]
        assert await provider.call("ACL.isAllowedForDecryption", b"\x01" * 32) == (False,)
        assert provider.places["ACL"] == provider.places[f"ACL@{HOST_ID}"]


async def test_a_revert_comes_out_with_name_and_arguments(tmp_path: Path) -> None:
    async with provided(tmp_path) as (_, provider):
        with pytest.raises(CallReverted) as refused:
            await provider.call("Decryption.publicDecryptionResponse", 1, b"", b"", b"", sender=PLACE)
    assert refused.value.called == "Decryption.publicDecryptionResponse"
    assert refused.value.name
    assert str(refused.value).startswith("Decryption.publicDecryptionResponse reverts: ")


async def test_requests_are_read_from_the_logs_by_name(tmp_path: Path) -> None:
    async with provided(tmp_path) as (components, provider):
        for form in ("public", "direct", "unified"):
            components.traffic.forms[form]()
        await trio.sleep(3)
        found = await provider.logs("Decryption", 0, components.dependencies.gateway.head.number)
    names = {one.name for one in found if isinstance(one, Decoded)}
    assert {"PublicDecryptionRequest", "UserDecryptionRequest"} <= names
    assert not [one for one in found if isinstance(one, UnknownLog)]


async def test_a_connector_of_httpz_has_its_three_contracts(tmp_path: Path) -> None:
    async with few_components(tmp_path) as components:
        settings = components.settings(profile="httpz-rc7")
        async with open_provider(settings, ports=components.ports) as provider:
            assert list(provider.places) == ["DecryptionManager", "HTTPZ", "KeyManager"]
            assert provider.interfaces is interfaces("httpz-rc7")


# --- at a scripted node


def sample(kind: str, components: list[Any]) -> Any:
    """Return the smallest value of an ABI type."""
    if kind.endswith("]"):
        return []
    if kind == "tuple":
        return tuple(sample(one["type"], one.get("components", [])) for one in components)
    if kind.startswith(("uint", "int")):
        return 0
    if kind == "bool":
        return False
    return {"address": bytes(20), "string": "", "bytes": b""}.get(kind, bytes(32))


COMPANION = httpz.abi_source()
FUNCTIONS = [
    pytest.param(contract, item, id=f"{contract}.{item['name']}")
    for contract in ("DecryptionManager", "HTTPZ", "KeyManager")
    for item in COMPANION[contract]
    if item["type"] == "function"
]


@pytest.mark.parametrize(("contract", "item"), FUNCTIONS)
async def test_each_function_of_the_first_generation_is_called_through_the_provider(
    contract: str, item: dict[str, Any]
) -> None:
    """The node sees the selector that another library computes from the ABI."""
    rpc = ScriptedRpc(RpcError(3, "execution reverted", b""))
    provider = Provider(interfaces("httpz-rc7"), {contract: Place(rpc, PLACE)})
    values = [sample(one["type"], one.get("components", [])) for one in item["inputs"]]
    with pytest.raises(CallReverted):
        await provider.call(f"{contract}.{item['name']}", *values)
    [(_, message, _)] = rpc.asked
    assert message["data"][:10] == to_hex(function_abi_to_4byte_selector(cast("ABIFunction", item)))


async def test_another_place_sender_and_block_are_passed_on() -> None:
    provider, rpc = scripted("0x" + "00" * 31 + "01")
    other = Place(rpc, Address(b"\x22" * 20))
    answer = await provider.call("ProtocolConfig.isValidKmsContext", 5, at=other, sender=PLACE, block=16)
    assert answer == (True,)
    [(method, message, block)] = rpc.asked
    assert (method, message["to"], message["from"], block) == (
        "eth_call",
        "0x" + "22" * 20,
        "0x" + "11" * 20,
        "0x10",
    )


@pytest.mark.parametrize("answer", ["0x", "0x02", None, 5, "0xzz", ["0x"]])
async def test_an_answer_of_no_sense_names_contract_and_function(answer: Any) -> None:
    provider, _ = scripted(answer)
    with pytest.raises(Unreachable, match=r"ProtocolConfig at 0x1111.* answers isValidKmsContext"):
        await provider.call("ProtocolConfig.isValidKmsContext", 5)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RpcError(3, "execution reverted", b""), "no revert data()"),
        (RpcError(3, "execution reverted"), "no revert data()"),
        (RpcError(3, "x", bytes.fromhex("4e487b71") + (1).to_bytes(32)), "Panic(1)"),
    ],
)
async def test_a_revert_of_any_node_is_a_revert(error: RpcError, told: str) -> None:
    provider, _ = scripted(error)
    with pytest.raises(CallReverted) as refused:
        await provider.call("ProtocolConfig.isValidKmsContext", 5)
    assert str(refused.value) == f"ProtocolConfig.isValidKmsContext reverts: {told}"


async def test_a_node_that_says_no_is_no_revert() -> None:
    provider, _ = scripted(RpcError(-32005, "rate limit"))
    with pytest.raises(Unreachable, match="rate limit"):
        await provider.call("ProtocolConfig.isValidKmsContext", 5)
    with pytest.raises(Unreachable, match="chain 7"):
        await provider.logs("Decryption", 0, 5)


async def test_an_unknown_overload_among_logs_is_reported_and_the_rest_decoded() -> None:
    known = interfaces("fhevm")
    name = "ProtocolConfig.KmsContextDestroyed"
    logs = [([b"\xab" * 32], b""), known.encode_log(name, 5)]
    provider, _ = scripted([_as_json(topics, data, index) for index, (topics, data) in enumerate(logs)])
    unknown, destroyed = await provider.logs("ProtocolConfig", 0, 5)
    assert isinstance(unknown, UnknownLog)
    assert isinstance(destroyed, Decoded)
    assert (destroyed.name, destroyed.values) == ("KmsContextDestroyed", (5,))


async def test_an_object_that_is_no_log_is_not_passed_over() -> None:
    provider, _ = scripted([_as_json([b"\xab" * 32], b"", 0), {"address": 7}])
    with pytest.raises(Unreachable, match="an object that is not a log"):
        await provider.logs("ProtocolConfig", 0, 5)


def _as_json(topics: Any, data: bytes, index: int) -> dict[str, Any]:
    return {
        "address": "0x" + PLACE.hex(),
        "topics": ["0x" + topic.hex() for topic in topics],
        "data": "0x" + data.hex(),
        "blockNumber": "0x1",
        "blockHash": "0x" + "00" * 32,
        "transactionHash": "0x" + "00" * 32,
        "logIndex": hex(index),
    }


async def test_a_contract_without_a_place_is_named() -> None:
    provider, rpc = scripted("0x")
    with pytest.raises(KeyError, match="ACL: no place is known, only of ProtocolConfig, Decryption"):
        await provider.call("ACL.isAllowed", b"\x01" * 32, PLACE)
    assert rpc.asked == []


async def test_another_revision_is_asked_at_the_place_of_its_contract() -> None:
    rpc = ScriptedRpc("0x")
    provider = Provider(interfaces("httpz-rc7"), {"HTTPZ": Place(rpc, PLACE)})
    assert provider.place("rc9_getters.HTTPZ") == Place(rpc, PLACE)


def test_it_is_public() -> None:
    assert kmsconn.Provider is Provider
    assert kmsconn.open_provider is open_provider
    assert kmsconn.interfaces is interfaces

"""The contracts of a generation by name, and those of an emulated deployment, asked by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import repeat
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from eth_typing import ABIFunction
from eth_utils.abi import function_abi_to_4byte_selector

import kmsconn
from kmsconn.chain.port import RpcError
from kmsconn.connector.contracts import Decoded, Place, Provider, UnknownLog, interfaces, open_provider
from kmsconn.emulator.dependencies import HOST_ID
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH
from kmsconn.errors import CallReverted, Undecodable, Unreachable
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.requests import PROFILES
from tests.unit.chain.scripted_node import FakeRpc
from tests.unit.requests.few_components import FewComponents, few_components
from tests.vectors import httpz

PLACE = Address(b"\x11" * 20)


def scripted(answer: Any) -> tuple[Provider, FakeRpc]:
    rpc = FakeRpc(repeat(answer), 7)
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
    rpc = FakeRpc([RpcError(3, "")])
    provider = Provider(interfaces("httpz-rc7"), {contract: Place(rpc, PLACE)})
    values = [sample(one["type"], one.get("components", [])) for one in item["inputs"]]
    with pytest.raises(CallReverted):
        await provider.call(f"{contract}.{item['name']}", *values)
    [[call]] = rpc.batches
    assert call.params[0]["data"][:10] == to_hex(function_abi_to_4byte_selector(cast("ABIFunction", item)))


async def test_another_place_sender_and_block_are_passed_on() -> None:
    provider, rpc = scripted("0x" + "00" * 31 + "01")
    other = Place(rpc, Address(b"\x22" * 20))
    answer = await provider.call("ProtocolConfig.isValidKmsContext", 5, at=other, sender=PLACE, block=16)
    assert answer == (True,)
    [[call]] = rpc.batches
    message, block = call.params
    assert (call.method, message["to"], message["from"], block) == (
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


async def test_a_node_that_says_no_is_no_revert() -> None:
    provider, _ = scripted(RpcError(-32000, "header not found", b""))
    with pytest.raises(Unreachable, match="header not found"):
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
    assert rpc.batches == []


async def test_another_revision_is_asked_at_the_place_of_its_contract() -> None:
    rpc = FakeRpc(["0x"])
    provider = Provider(interfaces("httpz-rc7"), {"HTTPZ": Place(rpc, PLACE)})
    assert provider.place("rc9_getters.HTTPZ") == Place(rpc, PLACE)


def test_it_is_public() -> None:
    assert kmsconn.Provider is Provider
    assert kmsconn.open_provider is open_provider
    assert kmsconn.interfaces is interfaces


FHEVM, HTTPZ = (interfaces(generation) for generation in PROFILES)
SOMEBODY = bytes(range(20))

ERRORS = [
    (generation, label, error)
    for generation in PROFILES
    for label, abi in interfaces(generation).contracts.items()
    for error in abi.errors_by_selector.values()
]


# --- names


def test_a_name_that_one_contract_has_needs_no_contract() -> None:
    assert FHEVM.encode_call("getCurrentKmsContextAndEpoch") == FHEVM.encode_call(
        "ProtocolConfig.getCurrentKmsContextAndEpoch"
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("getVersion", r"ambiguous, give one of Decryption.getVersion\(\), "),
        ("Decryption.nothing", r"Decryption\.nothing: no such entry"),
        ("Nobody.getVersion", "no such entry"),
    ],
)
def test_a_name_of_several_contracts_or_of_none_is_told(name: str, told: str) -> None:
    with pytest.raises(KeyError, match=told):
        FHEVM.encode_call(name)
    assert FHEVM.encode_call("Decryption.getVersion") == FHEVM.encode_call("KMSGeneration.getVersion")


def test_an_overloaded_function_is_chosen_by_its_values() -> None:
    legacy, unified = [
        one.signature
        for one in FHEVM.contracts["Decryption"].functions_by_selector.values()
        if one.name == "userDecryptionRequest"
    ]
    assert FHEVM.function(f"Decryption.{legacy}")[1] != FHEVM.function(f"Decryption.{unified}")[1]
    for signature in (legacy, unified):
        function = FHEVM.function(f"Decryption.{signature}")[1]
        values = function.decode(function.selector + _zeros(function), exact=False)
        assert FHEVM.function("userDecryptionRequest", values)[1] == function


def _zeros(function: object) -> bytes:
    """Return words that lenient decoding reads as empty values: every offset leads to a zero."""
    return bytes(32 * 40)


def test_an_overloaded_event_is_named_by_its_signature() -> None:
    with pytest.raises(KeyError, match="ambiguous"):
        FHEVM.event("Decryption.UserDecryptionRequest")
    for event in FHEVM.contracts["Decryption"].events_by_topic.values():
        assert FHEVM.event(f"Decryption.{event.signature}") == ("Decryption", event)


def test_other_revisions_are_named_by_theirs() -> None:
    label, event = FHEVM.event("later.Decryption.PublicDecryptionRequest")
    assert (label, event.signature) == (
        "later.Decryption",
        "PublicDecryptionRequest(uint256,bytes32[],bytes)",
    )
    assert HTTPZ.function("rc9_getters.HTTPZ.getCoprocessor")[1].selector.hex() == "ef6997f9"
    assert HTTPZ.function("HTTPZ.coprocessors", (SOMEBODY,))[1].selector.hex() == "ecbd96ab"


def test_a_generation_is_read_once_under_all_its_names_and_one_that_is_none_is_refused() -> None:
    assert all(interfaces(name) is FHEVM for name in ("fhevm", "fhevm-0.14", "fhevm-0.15"))
    with pytest.raises(ValueError, match=r"fhevm or httpz-rc7, not 'x'"):
        interfaces("x")


# --- values


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="uint256"):
        FHEVM.encode_call("ProtocolConfig.isValidKmsContext", b"no number")


def test_a_call_is_read_with_the_names_of_its_values() -> None:
    found = FHEVM.decode_call(FHEVM.encode_call("ProtocolConfig.isValidEpochForContext", 7, 9))
    assert (found.contract, found.name) == ("ProtocolConfig", "isValidEpochForContext")
    assert [found[name] for name in found.names] == [7, 9]
    with pytest.raises(KeyError):
        found["nothing"]


def test_what_was_decoded_shows_names_and_values() -> None:
    found = Decoded(
        "ACL", "isAllowed", "isAllowed(bytes32,address)", ("handle", "1"), (b"\x01" * 32, SOMEBODY)
    )
    assert str(found) == f"ACL.isAllowed(handle=0x{'01' * 32}, 1={checksum(SOMEBODY)})"


def test_calldata_of_nobody_is_undecodable() -> None:
    with pytest.raises(Undecodable, match="0x12345678"):
        FHEVM.decode_call(bytes.fromhex("12345678"))


# --- logs


def test_a_handles_only_event_of_the_next_version_is_known_as_such() -> None:
    name = "later.Decryption.PublicDecryptionRequest"
    found = FHEVM.decode_log(*FHEVM.encode_log(name, 1, (b"\x02" * 32,), b""))
    assert isinstance(found, Decoded)
    assert found.contract == "later.Decryption"
    assert found.values == (1, (b"\x02" * 32,), b"")


def test_an_unknown_overload_is_reported_with_its_topic_and_a_log_without_topics_too() -> None:
    found = FHEVM.decode_log((b"\xab" * 32, bytes(32)), b"")
    assert isinstance(found, UnknownLog)
    assert str(found) == f"unknown log 0x{'ab' * 32}: no known event, nor an overload of one, has this topic"
    assert "without topics" in str(FHEVM.decode_log((), b"x"))


def test_a_known_event_with_other_content_is_reported_by_name() -> None:
    topics, data = FHEVM.encode_log("ProtocolConfig.KmsContextDestroyed", 1)
    found = FHEVM.decode_log(topics, data + b"\x00")
    assert isinstance(found, UnknownLog)
    assert found.reason.startswith("ProtocolConfig.KmsContextDestroyed(uint256): ")


# --- reverts


def test_every_error_is_shown_by_name_with_as_many_arguments_as_it_has() -> None:
    for generation, _, error in ERRORS:
        values = _lenient(error.signature[len(error.name) :], bytes(32 * 20))
        shown = interfaces(generation).show_revert(error.encode(*values))
        assert (shown.name, len(shown.arguments)) == (error.name, len(values))


def _lenient(inputs: str, data: bytes) -> tuple[object, ...]:
    from kmsconn.ethereum.abi_types import tuple_type

    return tuple_type(inputs).decode(data, 0, exact=False)[0]


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, "no revert data()"),
        (b"", "no revert data()"),
        (bytes.fromhex("4e487b71") + (17).to_bytes(32), "Panic(17)"),
        (bytes.fromhex("12345678") + bytes(32), "0x12345678()"),
    ],
)
def test_a_revert_without_a_known_error_is_shown_by_what_there_is(data: bytes | None, shown: str) -> None:
    assert str(FHEVM.show_revert(data)) == shown

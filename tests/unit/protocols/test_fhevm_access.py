"""What a request carries beside its event: its extra data, and the call data of the functions before the unified one."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.errors import Rejected
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.fhevm.access import DELEGATED, DIRECT, LegacyCall, read_call
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.operations import build_extra_data, normalise_extra_data, parse_extra_data
from tests import vectors

CONTEXT, EPOCH = (7 << 248) + 1, (8 << 248) + 1
B1 = bytes.fromhex("02" + "07" + "00" * 30 + "01" + "08" + "00" * 30 + "01")


def test_b1_context_and_epoch() -> None:
    assert parse_extra_data(B1) == (CONTEXT, EPOCH)
    assert build_extra_data(CONTEXT, EPOCH) == B1


@pytest.mark.parametrize("entry", vectors.requests(), ids=lambda entry: entry["name"])
def test_ids_of_the_vectors(entry: dict[str, Any]) -> None:
    expected = vectors.optional_id(entry["context_id"]), vectors.optional_id(entry["epoch_id"])
    assert parse_extra_data(from_hex(entry["extra_data"])) == expected


@pytest.mark.parametrize("extra_data", [b"", b"\0", b"\0" + B1])
def test_version_0_names_nothing_whatever_follows(extra_data: bytes) -> None:
    assert parse_extra_data(extra_data) == (None, None)


@pytest.mark.parametrize("rest", [b"", b"more", bytes(32)])
def test_what_follows_the_ids_is_ignored(rest: bytes) -> None:
    assert parse_extra_data(B1 + rest) == (CONTEXT, EPOCH)
    assert parse_extra_data(b"\x01" + B1[1:33] + rest) == (CONTEXT, None)


@pytest.mark.parametrize("extra_data", [b"\x01", B1[:1], b"\x01" + bytes(31), B1[:33], B1[:64]])
def test_too_few_bytes_are_rejected(extra_data: bytes) -> None:
    with pytest.raises(Rejected, match="ends after"):
        parse_extra_data(extra_data)


@pytest.mark.parametrize("version", [3, 4, 0x80, 0xFF])
def test_unknown_versions_are_rejected(version: int) -> None:
    with pytest.raises(Rejected, match=f"version {version} "):
        parse_extra_data(bytes([version]) + bytes(64))


def test_only_the_single_zero_byte_becomes_empty() -> None:
    assert [normalise_extra_data(given) for given in (b"\0", b"", b"\0\0", b"\x01", B1)] == [
        b"",
        b"",
        b"\0\0",
        b"\x01",
        B1,
    ]


def test_an_epoch_needs_its_context() -> None:
    with pytest.raises(ValueError, match="needs its context"):
        build_extra_data(None, EPOCH)


CONTRACT = vectors.vector_settings().protocol.decryption_contract.address
H1, H2 = b"\x01" * 32, b"\x02" * 32
A, B = Address(b"\x0a" * 20), Address(b"\x0b" * 20)
legacy_requests = pytest.mark.parametrize(
    "entry", vectors.requests("legacy_direct", "legacy_delegated"), ids=lambda entry: entry["name"]
)


def direct(*pairs: tuple[bytes, Address]) -> bytes:
    return DIRECT.encode(pairs, (0, 1), (1, ()), A, b"", b"", b"")


@legacy_requests
def test_pairs_and_delegator_of_the_vectors(entry: dict[str, Any]) -> None:
    transaction, expected = entry["transaction"], entry["decoded"]
    call = read_call(CONTRACT, parse_address(transaction["to"]), from_hex(transaction["input"]))
    last = {handle: contracts[-1] for handle, contracts in call.contracts.items()}
    pairs = expected["handle_contract_map"].items()
    assert last == {from_hex(handle): parse_address(contract) for handle, contract in pairs}
    delegator = expected["delegator"]
    assert call.delegator == (None if delegator is None else parse_address(delegator))


def test_the_selectors_of_the_specification() -> None:
    assert (DELEGATED.selector.hex(), DIRECT.selector.hex()) == ("9fad5a2f", "f1b57adb")


def test_a_handle_for_two_contracts_keeps_both_each_once() -> None:
    call = read_call(CONTRACT, CONTRACT, direct((H1, A), (H2, B), (H1, B), (H1, A)))
    assert call.contracts_of(H1) == (A, B)
    assert call.contracts_of(H2) == (B,)


def test_the_delegator_is_read_and_the_delegate_is_not() -> None:
    calldata = DELEGATED.encode(((H1, A),), (0, 1), (A, B), (1, ()), b"", b"", b"")
    assert read_call(CONTRACT, CONTRACT, calldata) == LegacyCall({H1: (A,)}, A)


def test_a_handle_that_is_not_listed_is_rejected() -> None:
    with pytest.raises(Rejected, match="not in the call data"):
        read_call(CONTRACT, CONTRACT, direct((H1, A))).contracts_of(H2)


@pytest.mark.parametrize("to", [None, A])
def test_another_receiver_is_rejected(to: Address | None) -> None:
    with pytest.raises(Rejected, match="does not go to"):
        read_call(CONTRACT, to, direct((H1, A)))


def test_the_unified_function_is_no_legacy_call() -> None:
    unified = DECRYPTION.function(
        "userDecryptionRequest((bytes32,address,address)[],address,bytes,address[],(uint256,uint256),bytes,bytes)"
    )
    with pytest.raises(Rejected, match="no legacy request"):
        read_call(CONTRACT, CONTRACT, unified.encode((), A, b"", (), (0, 1), b"", b""))


@pytest.mark.parametrize("calldata", [b"", b"\xf1", DIRECT.selector, DELEGATED.selector + bytes(64)])
def test_unreadable_calldata_is_rejected(calldata: bytes) -> None:
    with pytest.raises(Rejected):
        read_call(CONTRACT, CONTRACT, calldata)


def test_bytes_left_over_are_taken_as_the_contract_takes_them() -> None:
    assert read_call(CONTRACT, CONTRACT, direct((H1, A)) + b"tag").contracts_of(H1) == (A,)

"""All contracts of a generation as one object."""

from __future__ import annotations

import pytest

from kmsconn.chain.asking import Decoded, UnknownLog, interfaces
from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import checksum
from kmsconn.model.requests import PROFILES

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


def test_a_contract_of_the_next_release_has_its_name_behind_it() -> None:
    assert FHEVM.event("KMSGeneration.KeygenRequest")[1].signature == "KeygenRequest(uint256,uint256,bytes)"
    later = FHEVM.event("later.KMSGeneration.KeygenRequest")[1]
    assert later.signature == "KeygenRequest(uint256,uint256,uint256,bytes)"


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


def test_both_revisions_of_a_request_of_httpz_are_known() -> None:
    found = {
        HTTPZ.event(f"{revision}DecryptionManager.PublicDecryptionRequest")[1].topic0.hex()[:8]
        for revision in ("", "rc7.")
    }
    assert len(found) == 2


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

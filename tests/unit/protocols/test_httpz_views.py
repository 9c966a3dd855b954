from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import SELECTOR_BYTES
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.httpz_rc7 import contracts
from kmsconn.protocols.profile import Coprocessor
from kmsconn.protocols.queries import Instead, StorageRead, ViewCall, mapping_slot
from tests.vectors import httpz

WHERE = (54321, httpz.address("HTTPZ"))
MANAGER = (54321, httpz.address("DecryptionManager"))
KEYS = (54321, httpz.address("KeyManager"))
COMMITS = sorted(httpz.load()["views"])
UNKNOWN = parse_address("0x31De9c8ac5ECD5EacEddDdEE531e9BaD8AC9c2A5")
every_commit = pytest.mark.parametrize("commit", COMMITS)


def recorded(commit: str, data: bytes) -> dict[str, Any]:
    (found,) = [one for one in httpz.load()["views"][commit] if from_hex(one["call_data"]) == data]
    return dict(found)


def answer(commit: str, view: Any) -> Any:
    """Put a view to the recorded contract of a commit, as ``chain.asking`` does."""
    found = recorded(commit, view.data)
    try:
        if "error" in found:
            return view.refused(found["error"]["message"], from_hex(found["error"]["data"]))
        return view.understand(from_hex(found["result"]))
    except Instead as other:
        return answer(commit, other.question)


@every_commit
def test_a_coprocessor_by_whichever_getter_there_is(commit: str) -> None:
    entry = httpz.load()["keys"]["coprocessors"][0]
    sender, signer = parse_address(entry["tx_sender"]), parse_address(entry["signer"])
    expected = Coprocessor(sender, signer, entry["s3BucketUrl"])
    assert answer(commit, contracts.coprocessor(*WHERE, sender)) == expected


@every_commit
def test_an_unknown_coprocessor_has_no_bucket(commit: str) -> None:
    found = answer(commit, contracts.coprocessor(*WHERE, UNKNOWN))
    assert found == Coprocessor(ZERO_ADDRESS, ZERO_ADDRESS, "")


@every_commit
def test_the_signer_of_a_node_by_whichever_getter_there_is(commit: str) -> None:
    node = httpz.node(1)
    found = answer(commit, contracts.node_signer(*WHERE, parse_address(node["tx_sender"])))
    assert found == parse_address(node["signer"])


def test_a_coprocessor_of_rc4_is_four_flat_values() -> None:
    result = (
        contracts.RC4["HTTPZ"]
        .function("coprocessors")
        .encode_result(UNKNOWN, b"identity", "da", "http://b/ct")
    )
    assert contracts.coprocessor(*WHERE, UNKNOWN).understand(result) == Coprocessor(
        UNKNOWN, ZERO_ADDRESS, "http://b/ct"
    )


def test_a_stranger_is_no_node() -> None:
    nobody = (ZERO_ADDRESS, ZERO_ADDRESS, "")
    result = contracts.HTTPZ.function("kmsNodes").encode_result(nobody)
    assert contracts.node_signer(*WHERE, UNKNOWN).understand(result) == ZERO_ADDRESS


def test_the_senders_by_either_name() -> None:
    first = contracts.coprocessor_senders(*WHERE)
    result = contracts.RC9.function("getCoprocessorTxSenders").encode_result((UNKNOWN,))
    with pytest.raises(Instead) as other:
        first.refused("execution reverted", None)
    assert other.value.question.understand(result) == (UNKNOWN,)
    assert first.understand(result) == (UNKNOWN,)


def test_nothing_at_all_asks_by_the_other_name_and_is_then_unreadable() -> None:
    with pytest.raises(Instead) as other:
        contracts.coprocessor(*WHERE, UNKNOWN).understand(b"")
    with pytest.raises(Undecodable):
        other.value.question.understand(b"")


@pytest.mark.parametrize(
    ("message", "data"), [("execution reverted", b"\x01\x02"), ("too many requests", None)]
)
def test_other_refusals_do_not_say_that_the_name_is_wrong(message: str, data: bytes | None) -> None:
    assert contracts.coprocessor(*WHERE, UNKNOWN).refused(message, data) is None


@every_commit
def test_reads_of_the_other_contracts(commit: str) -> None:
    seen = 0
    for entry in httpz.load()["views"][commit]:
        data = from_hex(entry["call_data"])
        question = READS.get(data[:SELECTOR_BYTES])
        if question is not None and "result" in entry:
            view = question(int.from_bytes(data[SELECTOR_BYTES:]))
            assert view.data == data
            (expected,) = entry["decoded"]
            assert view.understand(from_hex(entry["result"])) == (
                int(expected, 16) if isinstance(expected, str) else expected
            )
            seen += 1
    assert seen == 2


READS: dict[bytes, Callable[[int], ViewCall[Any]]] = {
    contracts.KEY_MANAGER.function("getCurrentKeyId").selector: lambda _: contracts.current_key_id(*KEYS),
}


def test_the_threshold_is_a_number() -> None:
    assert contracts.coprocessor_threshold(*WHERE).understand((2).to_bytes(32)) == 2


def test_the_bases_of_annex_c() -> None:
    assert (
        contracts.DECRYPTION_MANAGER_BASE
        == 0x13FA45E3E06DD5C7291D8698D89AD1FD40BC82F98A605FA4761EA2B538C8DB00
    )
    assert contracts.KEY_MANAGER_BASE == 0xFFC36E080F83A3804864597CBF64ED4BB7DB029C2482537359268813D6214200


def test_the_counters_of_annex_c() -> None:
    base, word = contracts.DECRYPTION_MANAGER_BASE, (7).to_bytes(32)
    assert (contracts.newest_public_id(*MANAGER).slot, contracts.newest_user_id(*MANAGER).slot) == (
        base + 1,
        base + 6,
    )
    assert contracts.newest_public_id(*MANAGER).understand(word) == 7


@pytest.mark.parametrize(
    ("question", "at"), [(contracts.has_answered_public, 2), (contracts.has_answered_user, 7)]
)
def test_an_answer_is_found_by_id_and_signer(question: Any, at: int) -> None:
    signer = Address(b"\x01" * 20)
    found: StorageRead[bool] = question(*MANAGER, 5, signer)
    assert found.slot == mapping_slot(mapping_slot(contracts.DECRYPTION_MANAGER_BASE + at, 5), signer)
    assert [found.understand(bytes(32)), found.understand((1).to_bytes(32))] == [False, True]

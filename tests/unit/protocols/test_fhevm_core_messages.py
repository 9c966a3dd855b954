"""What a request carries beside its event: its extra data, and the call data of the functions before the unified one."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn._generated.fhevm.kms.v1 import PublicDecryptionRequest
from kmsconn.errors import Rejected
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols.fhevm.access import DELEGATED, DIRECT, read_call
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.operations import build_extra_data, normalise_extra_data, parse_extra_data
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import CoreCall
from tests import vectors

PROFILE = Fhevm(vectors.vector_settings())
ids = pytest.mark.parametrize("entry", vectors.requests(), ids=lambda entry: entry["name"])


def content_of(entry: dict[str, Any]) -> Any:
    return PROFILE.decode(vectors.log_of(entry))


def start(content: Any, ciphertexts: list[Ciphertext] | None = None) -> CoreCall:
    given = ciphertexts or [vectors.ciphertext(reference.handle) for reference in content.references]
    return PROFILE.operations[content.kind].start_calls(content, given)[0]


@ids
def test_start_requests_and_polls_byte_for_byte(entry: dict[str, Any]) -> None:
    content, core = content_of(entry), entry["core"]
    call = start(content)
    assert bytes(call.message) == vectors.asking_for_ecdsa(call.method, core["request_bytes"])
    assert call.message.size == len(bytes(call.message))
    assert call.method == core["start_rpc"]
    assert call.shard is not None
    assert {n: call.shard % int(n) for n in core["endpoint_index"]} == core["endpoint_index"]
    poll = PROFILE.operations[content.kind].result_call(content)
    assert poll is not None
    assert (poll.method, bytes(poll.message)) == (core["result_rpc"], from_hex(core["poll_bytes"]))
    assert poll.shard == call.shard


def test_large_bodies_are_spliced_and_not_copied() -> None:
    content = content_of(vectors.request("public_four_v2_two_chains_repeated_handle"))
    large = [
        Ciphertext(reference.handle, bytes(1_000_000 + n), 3)
        for n, reference in enumerate(content.references)
    ]
    message = start(content, large).message
    assert [part for part in message.parts if len(part) > 1000] == [entry.body for entry in large]
    assert all(any(part is entry.body for part in message.parts) for entry in large)
    parsed = PublicDecryptionRequest.parse(bytes(message))
    assert [entry.ciphertext for entry in parsed.ciphertexts] == [entry.body for entry in large]


def test_no_bytes_of_a_ciphertext_are_left_out_like_any_default() -> None:
    content = content_of(vectors.request("public_one_v0"))
    message = start(content, [Ciphertext(content.references[0].handle, b"", 0)]).message
    (entry,) = PublicDecryptionRequest.parse(bytes(message)).ciphertexts
    assert bytes(entry) in bytes(message)
    assert entry.ciphertext == b""


def test_a_request_without_references_is_rejected() -> None:
    content = attrs.evolve(content_of(vectors.request("public_one_v0")), references=())
    with pytest.raises(Rejected, match="no ciphertext"):
        PROFILE.operations[content.kind].start_calls(content, [])[0]


def test_other_ciphertexts_than_the_references_are_refused() -> None:
    content = content_of(vectors.request("public_three_v0"))
    wrong = [vectors.ciphertext(reference.handle) for reference in reversed(content.references)]
    for given in (wrong, wrong[:2]):
        with pytest.raises(ValueError, match="not those of the request"):
            PROFILE.operations[content.kind].start_calls(content, given)[0]


def test_the_domain_is_the_configured_one() -> None:
    settings = vectors.vector_settings()
    contract = attrs.evolve(settings.protocol.decryption_contract, domain_name="Other", domain_version="2")
    profile = Fhevm(settings.but(decryption_contract=contract))
    content = content_of(vectors.request("public_one_v0"))
    call = profile.operations[content.kind].start_calls(
        content, [vectors.ciphertext(content.references[0].handle)]
    )[0]
    domain = PublicDecryptionRequest.parse(bytes(call.message)).domain
    assert domain is not None
    assert (domain.name, domain.version, domain.salt) == ("Other", "2", None)


# Requests that name handles only.


def bare(content: Any) -> Any:
    return attrs.evolve(
        content, references=tuple(CiphertextReference.bare(one.handle) for one in content.references)
    )


@ids
def test_a_request_of_the_later_form_is_the_same_to_the_core(entry: dict[str, Any]) -> None:
    content: Any = content_of(entry)
    found = [attrs.evolve(vectors.ciphertext(one.handle), key_id=one.key_id) for one in content.references]
    assert bytes(start(bare(content), found).message) == bytes(start(content).message)


def test_handles_under_different_keys_are_rejected_whether_the_chain_names_them_or_not() -> None:
    content: Any = content_of(vectors.request("public_three_v0"))
    *rest, last = content.references
    other = attrs.evolve(last, key_id=last.key_id + 1)
    with pytest.raises(Rejected, match="different keys"):
        start(attrs.evolve(content, references=(*rest, other)))
    found = [
        attrs.evolve(vectors.ciphertext(one.handle), key_id=1 + place)
        for place, one in enumerate(content.references)
    ]
    with pytest.raises(Rejected, match="different keys"):
        start(bare(content), found)


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


@pytest.mark.parametrize(
    ("extra_data", "told"),
    [
        *((short, "ends after") for short in (b"\x01", B1[:1], b"\x01" + bytes(31), B1[:33], B1[:64])),
        *((bytes([version]) + bytes(64), f"version {version} ") for version in (3, 4, 0x80, 0xFF)),
    ],
)
def test_too_few_bytes_and_unknown_versions_are_rejected(extra_data: bytes, told: str) -> None:
    with pytest.raises(Rejected, match=told):
        parse_extra_data(extra_data)


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


def test_a_handle_for_two_contracts_keeps_both_each_once() -> None:
    call = read_call(CONTRACT, CONTRACT, direct((H1, A), (H2, B), (H1, B), (H1, A)))
    assert call.contracts_of(H1) == (A, B)
    assert call.contracts_of(H2) == (B,)


def test_a_handle_that_is_not_listed_is_rejected() -> None:
    with pytest.raises(Rejected, match="not in the call data"):
        read_call(CONTRACT, CONTRACT, direct((H1, A))).contracts_of(H2)


UNIFIED = DECRYPTION.function(
    "userDecryptionRequest((bytes32,address,address)[],address,bytes,address[],(uint256,uint256),bytes,bytes)"
).encode((), A, b"", (), (0, 1), b"", b"")


@pytest.mark.parametrize(
    ("to", "calldata", "told"),
    [
        *((to, direct((H1, A)), "does not go to") for to in (None, A)),
        (CONTRACT, UNIFIED, "no legacy request"),
        *(
            (CONTRACT, calldata, None)
            for calldata in (b"", b"\xf1", DIRECT.selector, DELEGATED.selector + bytes(64))
        ),
    ],
)
def test_another_receiver_or_function_and_unreadable_calldata_are_rejected(
    to: Address | None, calldata: bytes, told: str | None
) -> None:
    with pytest.raises(Rejected, match=told):
        read_call(CONTRACT, to, calldata)


def test_bytes_left_over_are_taken_as_the_contract_takes_them() -> None:
    assert read_call(CONTRACT, CONTRACT, direct((H1, A)) + b"tag").contracts_of(H1) == (A,)

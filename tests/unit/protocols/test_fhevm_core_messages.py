"""What a request carries beside its event; and a reply may be the one that completes its request: there is gas for it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn._generated.fhevm.kms.v1 import PublicDecryptionRequest
from kmsconn.errors import Rejected, Undecodable
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.protocols.fhevm.access import DELEGATED, DIRECT, read_call
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.operations import build_extra_data, normalise_extra_data, parse_extra_data
from kmsconn.protocols.fhevm.profile import EVENTS, Fhevm
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from kmsconn.protocols.port import CoreCall, Verdict
from kmsconn.protocols.profile import Profile
from kmsconn.protocols.queries import ContractQuery, ContractViews, flag
from tests import vectors
from tests.vectors import httpz

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


SETTINGS = vectors.vector_settings()
OTHER: Profile = Fhevm(SETTINGS)
CONTEXT, EPOCH = (7 << 248) + 1, (8 << 248) + 1
GATEWAY, ETHEREUM = SETTINGS.chains.gateway.chain_id, SETTINGS.chains.ethereum.chain_id
YES, NO = (1).to_bytes(32), bytes(32)


def place(question: ContractQuery[Any]) -> tuple[int, bytes]:
    return question.chain_id, question.to


def content_named(name: str) -> Any:
    return OTHER.decode(vectors.log_of(vectors.request(name)))


def test_decryptions_are_read_at_the_head_and_key_management_once_it_is_final() -> None:
    found = OTHER.subscriptions()
    assert [(one.chain_id, one.contract, one.finalized) for one in found] == [
        (GATEWAY, SETTINGS.protocol.decryption_contract.address, False),
        (ETHEREUM, SETTINGS.protocol.kms_generation_contract.address, True),
        (ETHEREUM, SETTINGS.protocol.protocol_config_contract.address, True),
    ]
    assert [len(one.topics) for one in found] == [
        6,
        7,
        4,
    ]  # three requests in two forms; keys, two of them in two; contexts


def test_only_legacy_requests_need_their_transaction() -> None:
    for entry in vectors.requests():
        content = OTHER.decode(vectors.log_of(entry))
        assert content is not None
        assert content.needs_transaction == entry["variant"].startswith("legacy")


def test_the_digest_is_that_of_the_events_and_an_id_can_be_told_where_the_rest_cannot_be_read() -> None:
    log = vectors.log_of(vectors.request("public_one_v0"))
    content = OTHER.decode(log)
    assert content is not None
    assert OTHER.digest(log) == EVENTS.digest(log)
    assert OTHER.id_of(attrs.evolve(log, data=b"")) == content.id
    assert OTHER.id_of(attrs.evolve(log, topics=log.topics[:1])) is None


def test_both_counters_of_the_contract_are_asked_for_by_tag() -> None:
    subscription, *_ = OTHER.subscriptions()
    found = OTHER.numberings(subscription)
    assert [(one.kind, one.tag) for one in found] == [(Kind.PUBLIC_DECRYPTION, 1), (Kind.USER_DECRYPTION, 2)]
    assert {place(one.newest) for one in found} == {(GATEWAY, subscription.contract)}


def test_context_and_epoch_come_from_extra_data_and_without_a_context_nothing_is_asked() -> None:
    assert content_named("public_one_v2").context == (CONTEXT, EPOCH)
    assert content_named("public_one_v0").context == (None, None)
    assert OTHER.context_checks(None, None) is None


def test_a_context_is_asked_for_on_ethereum() -> None:
    chain_id, plan = OTHER.context_checks(CONTEXT, EPOCH) or (0, iter(()))
    questions = next(plan)
    assert (chain_id, len(questions)) == (ETHEREUM, 3)
    expected = (ETHEREUM, SETTINGS.protocol.protocol_config_contract.address)
    assert {place(question) for question in questions} == {expected}


def test_gateway_questions_go_to_their_contracts() -> None:
    content, (sender, _) = content_named("public_one_v0"), vectors.account("tx1")
    operation = OTHER.operations[content.kind]
    context, answered = operation.replying_context(content), operation.has_answered(content, sender, sender)
    assert isinstance(context, tuple)
    assert answered is not None
    pinned, current = context
    for question in (pinned, answered):
        assert place(question) == (GATEWAY, SETTINGS.protocol.decryption_contract.address)
    for config in (
        current,
        OTHER.operations[Kind.PUBLIC_DECRYPTION].node_signer(CONTEXT, sender),
        OTHER.registry.coprocessor_senders(),
        OTHER.registry.coprocessor(sender),
        OTHER.registry.coprocessor_threshold(),
    ):
        assert place(config) == (GATEWAY, SETTINGS.protocol.gateway_config_contract.address)


def test_reverts_are_those_of_the_kind_s_reply() -> None:
    data = from_hex(vectors.load()["reverts"][0]["eth_call_error"]["data"])
    for kind in (Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION):
        assert OTHER.operations[kind].revert(data).verdict is Verdict.DONE


UNANSWERED = {Kind.ABORT_KEYGEN, Kind.ABORT_CRSGEN, Kind.KMS_CONTEXT_DESTROYED, Kind.KMS_EPOCH_DESTROYED}


@pytest.mark.parametrize("profile", [Fhevm(vectors.vector_settings()), HttpzRc7(httpz.settings())])
def test_every_kind_that_is_answered_has_spare_gas(profile: Profile) -> None:
    without = {kind for kind, operation in profile.operations.items() if not operation.spare(100_000)}
    assert without <= UNANSWERED


def test_shares_of_others_cost_by_their_size() -> None:
    """A first-generation user decryption reads the shares of all nodes out of storage into its event."""
    operation = HttpzRc7(httpz.settings()).operations[Kind.USER_DECRYPTION]
    assert (
        operation.spare(4_000_000) - operation.spare(1_000_000) == 3_000_000 * operation.spare_percent // 100
    )


DESTROYED = ContractViews(1, Address(bytes(20))).slot(7, read=flag)


@pytest.mark.parametrize(("number", "is_set"), [(0, False), (1, True)])
def test_a_flag_is_0_or_1(number: int, is_set: bool) -> None:
    assert DESTROYED.understand(number.to_bytes(32)) is is_set


@pytest.mark.parametrize(
    ("word", "told"),
    [
        *((number.to_bytes(32), "neither 0 nor 1") for number in (2, 0x20, 2**255, 2**256 - 1)),
        *((bytes(size), f"32 bytes, not {size}") for size in (0, 1, 31, 33, 64, 500_000)),
    ],
)
def test_another_word_and_what_is_not_32_bytes_is_no_flag(word: bytes, told: str) -> None:
    """The beginning of a list, say: a context would be taken for destroyed."""
    with pytest.raises(Undecodable, match=told):
        DESTROYED.understand(word)

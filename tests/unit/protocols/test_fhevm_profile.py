"""A reply may be the one that completes its request: each kind that is answered has gas for it, in both generations."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.profile import EVENTS, Fhevm
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from kmsconn.protocols.port import Verdict
from kmsconn.protocols.profile import Profile
from kmsconn.protocols.queries import ContractQuery, StorageRead, ViewCall, flag
from tests import vectors
from tests.vectors import httpz

SETTINGS = vectors.vector_settings()
PROFILE: Profile = Fhevm(SETTINGS)
CONTEXT, EPOCH = (7 << 248) + 1, (8 << 248) + 1
GATEWAY, ETHEREUM = SETTINGS.chains.gateway.chain_id, SETTINGS.chains.ethereum.chain_id
YES, NO = (1).to_bytes(32), bytes(32)


def place(question: ContractQuery[Any]) -> tuple[int, bytes]:
    assert isinstance(question, (ViewCall, StorageRead))
    return question.chain_id, question.to


def content_of(name: str) -> Any:
    return PROFILE.decode(vectors.log_of(vectors.request(name)))


def test_decryptions_are_read_at_the_head_and_key_management_once_it_is_final() -> None:
    found = PROFILE.subscriptions()
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
        content = PROFILE.decode(vectors.log_of(entry))
        assert content is not None
        assert content.needs_transaction == entry["variant"].startswith("legacy")


def test_the_digest_is_that_of_the_events_and_an_id_can_be_told_where_the_rest_cannot_be_read() -> None:
    log = vectors.log_of(vectors.request("public_one_v0"))
    content = PROFILE.decode(log)
    assert content is not None
    assert PROFILE.digest(log) == EVENTS.digest(log)
    assert PROFILE.id_of(attrs.evolve(log, data=b"")) == content.id
    assert PROFILE.id_of(attrs.evolve(log, topics=log.topics[:1])) is None


def test_both_counters_of_the_contract_are_asked_for_by_tag() -> None:
    subscription, *_ = PROFILE.subscriptions()
    found = PROFILE.numberings(subscription)
    assert [(one.kind, one.tag) for one in found] == [(Kind.PUBLIC_DECRYPTION, 1), (Kind.USER_DECRYPTION, 2)]
    assert {place(one.newest) for one in found} == {(GATEWAY, subscription.contract)}


def test_context_and_epoch_come_from_extra_data_and_without_a_context_nothing_is_asked() -> None:
    assert content_of("public_one_v2").context == (CONTEXT, EPOCH)
    assert content_of("public_one_v0").context == (None, None)
    assert PROFILE.context_checks(None, None) is None


def test_a_context_is_asked_for_on_ethereum() -> None:
    chain_id, plan = PROFILE.context_checks(CONTEXT, EPOCH) or (0, iter(()))
    questions = next(plan)
    assert (chain_id, len(questions)) == (ETHEREUM, 3)
    expected = (ETHEREUM, SETTINGS.protocol.protocol_config_contract.address)
    assert {place(question) for question in questions} == {expected}


def test_gateway_questions_go_to_their_contracts() -> None:
    content, (sender, _) = content_of("public_one_v0"), vectors.account("tx1")
    operation = PROFILE.operations[content.kind]
    context, answered = operation.replying_context(content), operation.has_answered(content, sender, sender)
    assert isinstance(context, tuple)
    assert answered is not None
    pinned, current = context
    for question in (pinned, answered):
        assert place(question) == (GATEWAY, SETTINGS.protocol.decryption_contract.address)
    for config in (
        current,
        PROFILE.operations[Kind.PUBLIC_DECRYPTION].node_signer(CONTEXT, sender),
        PROFILE.registry.coprocessor_senders(),
        PROFILE.registry.coprocessor(sender),
        PROFILE.registry.coprocessor_threshold(),
    ):
        assert place(config) == (GATEWAY, SETTINGS.protocol.gateway_config_contract.address)


def test_reverts_are_those_of_the_kind_s_reply() -> None:
    data = from_hex(vectors.load()["reverts"][0]["eth_call_error"]["data"])
    for kind in (Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION):
        assert PROFILE.operations[kind].revert(data).verdict is Verdict.DONE


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


DESTROYED = StorageRead(1, Address(bytes(20)), 7, flag)


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

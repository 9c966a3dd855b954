"""The rows of decryptions over HTTP: a synthetic log keeps the content, and nothing is asked of, heard from or sent to a contract."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import NO_BLOCK, Kind
from kmsconn.model.steps import Answer, Ciphertext
from kmsconn.protocols.fhevm import public_decryption, user_decryption
from kmsconn.protocols.fhevm.http_operations import HTTP_LIFETIME, HttpPublicDecryption, HttpUserDecryption
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.fhevm.public_decryption import PublicDecryption
from kmsconn.protocols.fhevm.user_decryption import HandleEntry
from kmsconn.protocols.port import Posted, expiry_of
from tests import vectors

SETTINGS = vectors.vector_settings()
PROFILE = Fhevm(SETTINGS)
CONTEXT = 0x07 << 248 | 1
HANDLES = (b"\x01" * 32, b"\x02" * 32)
PUBLIC = HttpPublicDecryption.of(HANDLES, b"\x00")
USER = HttpUserDecryption.of(
    [HandleEntry(one, Address(b"\x33" * 20), Address(b"\x44" * 20)) for one in HANDLES],
    user=Address(b"\x55" * 20),
    public_key=b"public key",
    allowed_contracts=(Address(b"\x33" * 20),),
    start=1770000000,
    duration=300,
    extra_data=b"\x01" + CONTEXT.to_bytes(32),
    signature=b"\x66" * 65,
)
contents = pytest.mark.parametrize("content", [PUBLIC, USER], ids=["public", "user"])
HTTP_KINDS = {Kind.HTTP_PUBLIC_DECRYPTION, Kind.HTTP_USER_DECRYPTION}
kinds = pytest.mark.parametrize("kind", sorted(HTTP_KINDS))


def operation_of(content: Any) -> Any:
    operation = PROFILE.operations[content.kind]
    assert isinstance(operation, Posted)
    return operation


def test_exactly_the_kinds_that_come_over_http_are_posted() -> None:
    assert {kind for kind, one in PROFILE.operations.items() if isinstance(one, Posted)} == HTTP_KINDS


@contents
def test_a_content_comes_back_from_its_log(content: Any) -> None:
    log = operation_of(content).log_of(content)
    assert PROFILE.decode(log) == content
    assert PROFILE.id_of(log) == content.id


@contents
def test_the_log_stands_in_no_block(content: Any) -> None:
    log = operation_of(content).log_of(content)
    assert (log.block_number, log.block_hash, log.transaction_hash) == (NO_BLOCK, b"", b"")


@contents
def test_a_log_with_another_id_is_none(content: Any) -> None:
    log = operation_of(content).log_of(content)
    other = attrs.evolve(log, topics=(log.topics[0], (content.id + 1).to_bytes(32)))
    with pytest.raises(Undecodable, match="has the id"):
        PROFILE.decode(other)


@contents
def test_the_digest_tells_contents_apart(content: Any) -> None:
    operation, other = operation_of(content), attrs.evolve(content, extra_data=b"")
    log, another = operation.log_of(content), operation.log_of(other)
    assert operation.digest(log, content) != operation.digest(another, other)


def test_no_contract_is_listened_to_for_them() -> None:
    heard = {topic for one in PROFILE.subscriptions() for topic in one.topics}
    synthetic = {topic for topic, kind in PROFILE.kinds.items() if kind in HTTP_KINDS}
    assert len(synthetic) == 2
    assert not heard & synthetic


def test_no_contract_counts_them() -> None:
    numbered = {one.kind for of in PROFILE.subscriptions() for one in PROFILE.numberings(of)}
    assert not numbered & HTTP_KINDS


@kinds
def test_nothing_is_replied_and_nothing_was_answered_on_chain(kind: Kind) -> None:
    operation = PROFILE.operations[kind]
    content = PUBLIC if kind is Kind.HTTP_PUBLIC_DECRYPTION else USER
    assert operation.reply is None
    assert operation.has_answered(content, Address(bytes(20)), Address(bytes(20))) is None


def test_the_context_of_extra_data_answers() -> None:
    assert PROFILE.operations[USER.kind].replying_context(USER) == CONTEXT


def test_without_it_the_current_context_answers() -> None:
    """No pinned one: one question, to GatewayConfig."""
    questions = PROFILE.operations[PUBLIC.kind].replying_context(PUBLIC)
    assert not isinstance(questions, int)
    [question] = questions
    assert question.to == SETTINGS.protocol.gateway_config_contract.address  # type: ignore[attr-defined]


@kinds
def test_they_are_given_up_after_an_hour_or_sooner(kind: Kind) -> None:
    operation = PROFILE.operations[kind]
    assert (expiry_of(operation, 86_400.0), expiry_of(operation, 60.0)) == (HTTP_LIFETIME, 60.0)
    assert expiry_of(PROFILE.operations[Kind.PUBLIC_DECRYPTION], 86_400.0) == 86_400.0


def test_the_core_gets_the_same_message_as_for_a_request_from_the_chain() -> None:
    """But for the id, which is the hash."""
    from_chain = PublicDecryption(PUBLIC.id, PUBLIC.references, PUBLIC.extra_data)
    ciphertexts = [Ciphertext(one, b"body", 3) for one in HANDLES]
    ours, theirs = (
        PROFILE.operations[one.kind].start_calls(one, ciphertexts, None) for one in (PUBLIC, from_chain)
    )
    assert [(one.method, bytes(one.message), one.shard) for one in ours] == [
        (one.method, bytes(one.message), one.shard) for one in theirs
    ]


def test_an_answer_has_the_fields_of_the_response() -> None:
    calldata = public_decryption.RESPONSE.encode(PUBLIC.id, b"result", b"signed", b"")
    fields = operation_of(PUBLIC).fields_of(Answer(calldata, None))
    assert list(fields.items()) == [
        ("decryptedResult", b"result"),
        ("signature", b"signed"),
        ("extraData", b""),
    ]
    calldata = user_decryption.RESPONSE.encode(USER.id, b"share", b"signed", b"\x01")
    fields = operation_of(USER).fields_of(Answer(calldata, None))
    assert list(fields.items()) == [
        ("userDecryptedShares", b"share"),
        ("signature", b"signed"),
        ("extraData", b"\x01"),
    ]

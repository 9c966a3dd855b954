"""The rows of decryptions over HTTP: a synthetic log keeps the content, and nothing is asked of, heard from or sent to a contract."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import hash_struct, signing_digest_under
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.life import Answer, Ciphertext
from kmsconn.model.requests import NO_BLOCK, Kind
from kmsconn.protocols.fhevm import decryptions, http_decryption, user_decryption
from kmsconn.protocols.fhevm.decryptions import PublicDecryption
from kmsconn.protocols.fhevm.http_decryption import (
    ATTESTATION_TYPE,
    HTTP_LIFETIME,
    LATEST_TIME,
    BodyRefused,
    HttpLimits,
    HttpPublicDecryption,
    HttpUserDecryption,
    read_public,
    read_user,
)
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.fhevm.user_decryption import HandleEntry
from kmsconn.protocols.port import Posted
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
def test_a_content_comes_back_from_its_log_which_stands_in_no_block(content: Any) -> None:
    operation = operation_of(content)
    log = operation.log_of(content)
    assert (PROFILE.decode(log), PROFILE.id_of(log)) == (content, content.id)
    assert (log.block_number, log.block_hash, log.transaction_hash) == (NO_BLOCK, b"", b"")
    with pytest.raises(Undecodable, match="has the id"):
        PROFILE.decode(attrs.evolve(log, topics=(log.topics[0], (content.id + 1).to_bytes(32))))
    other = attrs.evolve(content, extra_data=b"")
    assert operation.digest(log, content) != operation.digest(operation.log_of(other), other)


def test_no_contract_is_listened_to_for_them_or_counts_them() -> None:
    heard = {topic for one in PROFILE.subscriptions() for topic in one.topics}
    synthetic = {topic for topic, kind in PROFILE.kinds.items() if kind in HTTP_KINDS}
    assert len(synthetic) == 2
    assert not heard & synthetic
    numbered = {one.kind for of in PROFILE.subscriptions() for one in PROFILE.numberings(of)}
    assert not numbered & HTTP_KINDS


@kinds
def test_nothing_is_replied_and_nothing_was_answered_on_chain(kind: Kind) -> None:
    operation = PROFILE.operations[kind]
    content = PUBLIC if kind is Kind.HTTP_PUBLIC_DECRYPTION else USER
    assert operation.reply is None
    assert operation.has_answered(content, Address(bytes(20)), Address(bytes(20))) is None


def test_the_context_of_extra_data_answers_or_else_the_current_one() -> None:
    """No pinned one: one question, to GatewayConfig."""
    assert PROFILE.operations[USER.kind].replying_context(USER) == CONTEXT
    questions = PROFILE.operations[PUBLIC.kind].replying_context(PUBLIC)
    assert not isinstance(questions, int)
    [question] = questions
    assert question.to == SETTINGS.protocol.gateway_config_contract.address


@kinds
def test_they_are_given_up_after_an_hour(kind: Kind) -> None:
    assert PROFILE.operations[kind].lifetime == HTTP_LIFETIME
    assert PROFILE.operations[Kind.PUBLIC_DECRYPTION].lifetime == math.inf


def test_the_core_gets_the_same_message_as_for_a_request_from_the_chain() -> None:
    """But for the id, which is the hash."""
    from_chain = PublicDecryption(PUBLIC.id, PUBLIC.references, PUBLIC.extra_data)
    ciphertexts = [Ciphertext(one, b"body", 3) for one in HANDLES]
    ours, theirs = (
        PROFILE.operations[one.kind].start_calls(one, ciphertexts) for one in (PUBLIC, from_chain)
    )
    assert [(one.method, bytes(one.message), one.shard) for one in ours] == [
        (one.method, bytes(one.message), one.shard) for one in theirs
    ]


def test_an_answer_has_the_fields_of_the_response() -> None:
    signed = ("signature", b"signed")
    calldata = decryptions.RESPONSE.encode(PUBLIC.id, b"result", b"signed", b"")
    fields = operation_of(PUBLIC).fields_of(Answer(calldata, None))
    assert list(fields.items()) == [("decryptedResult", b"result"), signed, ("extraData", b"")]
    calldata = user_decryption.RESPONSE.encode(USER.id, b"share", b"signed", b"\x01")
    fields = operation_of(USER).fields_of(Answer(calldata, None))
    assert list(fields.items()) == [("userDecryptedShares", b"share"), signed, ("extraData", b"\x01")]


VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "fhevm-0.15.json").read_text())[
    "http_decryption"
]
HOST, OTHER_HOST = 12345, 777
LIMITS = HttpLimits(frozenset({HOST, OTHER_HOST}))
BOOL, UINT8, UINT64, UINT256, STRING = 0, 2, 5, 8, 22


def handle(fhe_type: int = UINT64, chain_id: int = HOST, seed: int = 1) -> str:
    return to_hex(bytes([seed]) * 22 + chain_id.to_bytes(8) + bytes([fhe_type, 0]))


def public(*handles: str, **changes: Any) -> dict[str, Any]:
    return {"ctHandles": list(handles or [handle()]), "extraData": "0x00", **changes}


def user(**payload: Any) -> dict[str, Any]:
    body: dict[str, Any] = deepcopy(VECTORS["user"][0]["body"])
    body["payload"]["handles"][0]["handle"] = handle()
    body["payload"] |= payload
    return body


def entry(raw: str) -> dict[str, str]:
    return {"handle": raw, "contractAddress": "0x" + "33" * 20, "ownerAddress": "0x" + "44" * 20}


# --- ids


def test_the_id_of_a_solana_body_is_that_of_the_vectors() -> None:
    """Not built (docs/solana.md); ids of such bodies come from the same encoder. The values are those of the vectors' note."""
    typed, key = VECTORS["types"]["SolanaUserDecryptionRequest"], bytes(32)
    entries = [(b"\1" * 32, b"\2" * 32, b"\3" * 32)]
    payload: tuple[Any, ...] = (entries, key, b"", [], (1, 60), key, b"")
    struct = hash_struct(typed["encode_type"], "solana-srfc38-user-decrypt-v1", payload, b"\4" * 64)
    assert keccak256(typed["encode_type"].encode()) == from_hex(typed["type_hash"])
    digest = signing_digest_under(http_decryption.DOMAIN_SEPARATOR, struct)
    assert to_hex(digest) == VECTORS["solana"]["decryption_id"]


def test_the_separator_and_the_type_hashes_of_the_vectors() -> None:
    assert to_hex(http_decryption.DOMAIN_SEPARATOR) == VECTORS["domain_separator"]
    ours = {"Public": http_decryption.PUBLIC_TYPE, "User": http_decryption.USER_TYPE}
    for name, text in ours.items():
        expected = {"encode_type": text, "type_hash": to_hex(keccak256(text.encode()))}
        assert VECTORS["types"][f"{name}DecryptionRequest"] == expected


@pytest.mark.parametrize("vector", VECTORS["public"], ids=lambda vector: vector["decryption_id"][:10])
def test_a_public_body_has_the_id_of_the_vectors(vector: dict[str, Any]) -> None:
    body = vector["body"]
    content = HttpPublicDecryption.of(
        [from_hex(one) for one in body["ctHandles"]], from_hex(body["extraData"])
    )
    assert f"0x{content.id:064x}" == vector["decryption_id"]
    assert to_hex(content.id.to_bytes(32, "little")) == vector["db_little_endian"]


@pytest.mark.parametrize("vector", VECTORS["user"], ids=lambda vector: vector["decryption_id"][:10])
def test_a_user_body_has_the_id_of_the_vectors(
    vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handles of the vectors name no type and no chain, so the checks of these are left out."""
    monkeypatch.setattr(http_decryption, "_check_handles", lambda _handles, _limits: None)
    content = read_user(vector["body"], LIMITS)
    assert f"0x{content.id:064x}" == vector["decryption_id"]


def test_addresses_of_any_case_are_the_same_request() -> None:
    lower, upper = user(userAddress="0x" + "ab" * 20), user(userAddress="0x" + "aB" * 20)
    assert read_user(lower, LIMITS) == read_user(upper, LIMITS)


@pytest.mark.parametrize("prefix", ["", "0x", "0X"])
def test_hex_with_and_without_0x_is_the_same_request(prefix: str) -> None:
    """Some relayers leave it out."""
    assert read_public(public(prefix + handle()[2:], extraData=prefix + "00"), LIMITS) == read_public(
        public(extraData="0x00"), LIMITS
    )
    assert read_user(user(userAddress=prefix + "ab" * 20), LIMITS) == read_user(
        user(userAddress="0x" + "ab" * 20), LIMITS
    )


def test_a_request_that_begins_later_is_another_one() -> None:
    later = {"startTimestamp": 1770000001, "durationSeconds": 300}
    assert read_user(user(), LIMITS).id != read_user(user(requestValidity=later), LIMITS).id


# --- what is read


def test_a_user_body_is_read() -> None:
    content = read_user(user(), LIMITS)
    assert content == HttpUserDecryption.of(
        [HandleEntry(from_hex(handle()), Address(b"\x33" * 20), Address(b"\x44" * 20))],
        user=Address(b"\x55" * 20),
        public_key=b"\x20\x00\x20\x00",
        allowed_contracts=(Address(b"\x33" * 20),),
        start=1770000000,
        duration=300,
        extra_data=b"\x00",
        signature=b"\x66" * 65,
    )
    assert content.valid_until == 1770000300


# --- what is refused


def without(body: dict[str, Any], *path: str) -> dict[str, Any]:
    changed = deepcopy(body)
    *way, last = path
    inside = changed
    for name in way:
        inside = inside[name]
    del inside[last]
    return changed


PUBLIC_FAULTS: dict[str, Any] = {
    "no object": [],
    "a text": "0x",
    "nothing": None,
    "no handles": without(public(), "ctHandles"),
    "no extraData": without(public(), "extraData"),
    "an unknown field": public(more=1),
    "snake case": {"ct_handles": [handle()], "extraData": "0x"},
    "handles that are no list": public() | {"ctHandles": handle()},
    "a number for a handle": public() | {"ctHandles": [1]},
    "no handle": public() | {"ctHandles": []},
    "a short handle": public(handle()[:-2]),
    "an odd digit": public(handle() + "0"),
    "no hex": public("0x" + "zz" * 32),
    "white space": public("0x" + " " + handle()[3:]),
    "a type that cannot be decrypted": public(handle(STRING)),
    "an unknown type": public(handle(255)),
    "a chain that is not served": public(handle(chain_id=99)),
    "two chains": public(handle(), handle(chain_id=OTHER_HOST)),
    "too many bits": public(*[handle(UINT256, seed=n) for n in range(1, 9)], handle(BOOL)),
    "extraData of an unknown version": public(extraData="0x03"),
    "extraData that ends early": public(extraData="0x01" + "00" * 31),
}


USER_FAULTS: dict[str, Any] = {
    "no object": [],
    "no attestationType": without(user(), "attestationType"),
    "an attestationType that is no text": user() | {"attestationType": 1},
    "no payload": without(user(), "payload"),
    "no signature": without(user(), "signature"),
    "an unknown field": user() | {"senderSignature": "0x"},
    "an unknown field of the payload": user(more=1),
    "an unknown field of an entry": user(handles=[entry(handle()) | {"more": 1}]),
    "an entry without owner": user(handles=[without(entry(handle()), "ownerAddress")]),
    "no handle": user(handles=[]),
    "two chains": user(handles=[entry(handle()), entry(handle(chain_id=OTHER_HOST))]),
    "too many bits": user(handles=[entry(handle(UINT256, seed=n)) for n in range(1, 10)]),
    "a short address": user(userAddress="0x" + "55" * 19),
    "eleven contracts": user(allowedContracts=["0x" + "33" * 20] * 11),
    "a time as text": user(requestValidity={"startTimestamp": "1", "durationSeconds": 1}),
    "a time with a fraction": user(requestValidity={"startTimestamp": 1.5, "durationSeconds": 1}),
    "a time that is a float": user(requestValidity={"startTimestamp": 1.0, "durationSeconds": 1}),
    "a time that is a truth value": user(requestValidity={"startTimestamp": True, "durationSeconds": 1}),
    "a negative time": user(requestValidity={"startTimestamp": -1, "durationSeconds": 1}),
    "a time beyond 63 bits": user(requestValidity={"startTimestamp": 2**63, "durationSeconds": 1}),
    "a duration beyond 63 bits": user(requestValidity={"startTimestamp": 1, "durationSeconds": 2**63}),
    "extraData of an unknown version": user(extraData="0xff"),
    "a signature that is no hex": user() | {"signature": "signed"},
}


@pytest.mark.parametrize(
    ("read", "body"),
    [
        *(pytest.param(read_public, body, id=f"public: {name}") for name, body in PUBLIC_FAULTS.items()),
        *(pytest.param(read_user, body, id=f"user: {name}") for name, body in USER_FAULTS.items()),
    ],
)
def test_a_malformed_body_is_refused(read: Any, body: object) -> None:
    with pytest.raises(BodyRefused) as caught:
        read(body, LIMITS)
    assert caught.value.code == "malformed"


@pytest.mark.parametrize("payload", [{"handles": []}, None, "anything"])
def test_an_unknown_attestation_is_named_whatever_the_payload_is(payload: object) -> None:
    body = {"attestationType": "solana-user-decrypt-v1", "payload": payload, "more": 1}
    with pytest.raises(BodyRefused, match=ATTESTATION_TYPE) as caught:
        read_user(body, LIMITS)
    assert caught.value.code == "unsupported_attestation_type"


def test_limits_are_what_still_passes() -> None:
    """Eight words are 2048 bits; ten contracts; times up to 2^63 - 1."""
    read_public(public(*[handle(UINT256, seed=n) for n in range(1, 9)]), LIMITS)
    read_public(public(*[handle(BOOL)] * 1024), LIMITS)
    window = {"startTimestamp": LATEST_TIME, "durationSeconds": LATEST_TIME}
    read_user(user(allowedContracts=["0x" + "33" * 20] * 10, requestValidity=window), LIMITS)


def test_other_limits_count_where_they_are_set() -> None:
    narrow = attrs.evolve(LIMITS, request_bits=2, allowed_contracts=0)
    read_public(public(handle(BOOL)), narrow)
    with pytest.raises(BodyRefused, match="64 bits, at most 2"):
        read_public(public(), narrow)
    with pytest.raises(BodyRefused, match="allowedContracts has 1"):
        read_user(user(handles=[entry(handle(BOOL))]), narrow)


def test_a_refusal_repeats_nothing_that_was_sent() -> None:
    """Bodies come from outside: their texts go into no message."""
    with pytest.raises(BodyRefused) as caught:
        read_public(public("0xsecret"), LIMITS)
    assert "secret" not in str(caught.value)

"""Answers of Cores to a fresh key and a migration: signers and calldata of the vectors; what KMSGeneration 0.3.0 reverts with."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn._generated.fhevm.kms.v1 import KeyDigest, KeyGenResult
from kmsconn.errors import Broken
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.causes import CAUSES
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.crsgen import SIGNED_TYPE
from kmsconn.protocols.fhevm.epochs import CONFIRM
from kmsconn.protocols.fhevm.keygen import KEY_RESPONSE, KEY_TYPE, PREP_TYPE, key_digest, prep_digest
from kmsconn.protocols.port import ExplainsSilence, Revert, Verdict
from kmsconn.protocols.protobuf import decode
from tests.vectors import later_keys as later

both = pytest.mark.parametrize("case", later.CASES)
SIGNED = later.load()["eip712"]
DOMAIN = later.profile().deployment.generation


def read(event: str, reply: bytes) -> Any:
    profile = later.profile()
    content: Any = profile.decode(later.log(event))
    return profile.operations[content.kind].read_answer(content, reply, None)


@both
@pytest.mark.parametrize(
    ("event", "name", "function"),
    [
        ("PrepKeygenRequest", "prep-keygen", "prepKeygenResponse"),
        ("KeygenRequest", "keygen", "keygenResponse"),
    ],
)
def test_an_answer_becomes_the_calldata_of_the_vectors(
    case: str, event: str, name: str, function: str
) -> None:
    answer = read(f"{event} {case}", later.message(f"{name} result {case}"))
    assert answer.signer == later.SIGNER
    assert answer.calldata == from_hex(later.load()["calldata"][f"{function} {case}"])


@pytest.mark.parametrize("entry", SIGNED["cases"], ids=lambda one: f"{one['case']} {one['primary_type']}")
def test_what_is_signed_has_the_digest_of_the_vectors(entry: dict[str, Any]) -> None:
    """The key that is migrated is in no signed struct."""
    message = entry["message"]
    prep, carried = int(message["prepKeygenId"], 16), from_hex(message["extraData"])
    if entry["primary_type"] == "PrepKeygenVerification":
        found = prep_digest(DOMAIN, prep, carried)
    else:
        digests = tuple((one["keyType"], from_hex(one["digest"])) for one in message["keyDigests"])
        found = key_digest(DOMAIN, prep, int(message["keyId"], 16), digests, carried)
    assert to_hex(found) == entry["digest"]


def test_the_domain_is_that_of_the_vectors() -> None:
    assert to_hex(DOMAIN.separator) == SIGNED["domain_separator"]


def test_the_types_hash_to_those_of_the_vectors() -> None:
    found = {one: to_hex(keccak256(one.encode())) for one in (PREP_TYPE, KEY_TYPE, SIGNED_TYPE)}
    assert found == {one: SIGNED["type_hashes"][one] for one in found}


@pytest.mark.parametrize(
    "digests",
    [
        [KeyDigest("PublicKey", b"\xaa" * 32)],
        [KeyDigest("CompressedXofKeySet", b"")],
        [KeyDigest("CompressedXofKeySet", b"\xbb" * 32), KeyDigest("CompressedXofKeySet", b"\xcc" * 32)],
    ],
    ids=["none", "empty", "two"],
)
def test_a_migration_has_exactly_one_compressed_key_set(digests: list[KeyDigest]) -> None:
    message: Any = decode(KeyGenResult, later.message("keygen result migration"))
    message.key_digests = digests
    with pytest.raises(Broken, match="CompressedXofKeySet"):
        read("KeygenRequest migration", bytes(message))


def test_a_fresh_key_may_come_without_a_compressed_key_set() -> None:
    """A network may force its keys to be plain."""
    message: Any = decode(KeyGenResult, later.message("keygen result fresh"))
    message.key_digests = message.key_digests[:1]
    assert read("KeygenRequest fresh", bytes(message)).calldata


REVERTS = later.load()["reverts"]
OPERATIONS = later.profile().operations
PLAIN, COMPRESSED = ((0, b"\x11" * 32), (1, b"\x22" * 32)), ((1, b"\x22" * 32), (3, b"\x33" * 32))


@pytest.mark.parametrize("entry", REVERTS, ids=lambda one: one["signature"])
def test_a_revert_of_the_vectors_has_its_name(entry: dict[str, Any]) -> None:
    found = OPERATIONS[Kind.KEYGEN].revert(from_hex(entry["data"]))
    name, _, types = entry["signature"].partition("(")
    assert (found.name, len(found.arguments)) == (name, types.count("uint"))


def test_a_wrong_digest_of_a_migration_is_final() -> None:
    verdicts = {
        name: OPERATIONS[Kind.KEYGEN].revert(from_hex(entry["data"])).verdict
        for entry in REVERTS
        for name in [entry["signature"].partition("(")[0]]
    }
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.FINAL} == {
        "InvalidCompressedKeySetDigest"
    }


def key_reply(digests: Any) -> bytes:
    return KEY_RESPONSE.encode(4 << 248 | 1, digests, b"\x01" * 65)


def epoch_reply(digests: Any) -> bytes:
    return CONFIRM.encode(8 << 248 | 2, ((3 << 248 | 1, 4 << 248 | 1, digests, b"\x01" * 65),), ())


def explained(kind: Kind, calldata: bytes) -> Revert | None:
    operation = OPERATIONS[kind]
    assert isinstance(operation, ExplainsSilence)
    return operation.explain_silence(calldata)


@pytest.mark.parametrize(
    ("kind", "reply", "contract"),
    [(Kind.KEYGEN, key_reply, "KMSGeneration"), (Kind.NEW_KMS_EPOCH, epoch_reply, "ProtocolConfig")],
)
def test_silence_about_a_compressed_key_set_is_explained(kind: Kind, reply: Any, contract: str) -> None:
    """The contract is one of a release that cannot read key type 3 (inferred): the reply waits, and an alert names it."""
    found = explained(kind, reply(COMPRESSED))
    assert found is not None
    assert found.verdict is Verdict.RETRY
    assert "does not know key type 3" in str(found)
    assert contract in str(found)
    assert found.alert in CAUSES


@pytest.mark.parametrize(("kind", "reply"), [(Kind.KEYGEN, key_reply), (Kind.NEW_KMS_EPOCH, epoch_reply)])
def test_silence_about_plain_keys_is_not_explained(kind: Kind, reply: Any) -> None:
    assert explained(kind, reply(PLAIN)) is None


def test_silence_of_other_contracts_is_not_explained() -> None:
    assert not isinstance(OPERATIONS[Kind.CRSGEN], ExplainsSilence)

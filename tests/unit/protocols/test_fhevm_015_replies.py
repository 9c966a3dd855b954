"""Answers of Cores to a fresh key and to a migration: signers and calldata of the vectors; what no contract takes is broken."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn._generated.fhevm.kms.v1 import KeyDigest, KeyGenResult
from kmsconn.errors import Broken
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.protocols.fhevm.crsgen import SIGNED_TYPE
from kmsconn.protocols.fhevm.keygen import KEY_TYPE, PREP_TYPE, key_digest, prep_digest
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

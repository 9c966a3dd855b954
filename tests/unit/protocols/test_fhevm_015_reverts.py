"""What KMSGeneration 0.3.0 reverts with, and what a revert without data means for a reply with a compressed key set."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.causes import CAUSES
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.epochs import CONFIRM
from kmsconn.protocols.fhevm.keygen import KEY_RESPONSE
from kmsconn.protocols.port import ExplainsSilence, Revert, Verdict
from tests.vectors import later_keys as later

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

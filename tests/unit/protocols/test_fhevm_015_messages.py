"""Requests to the Core for a fresh key and for the migration of a key, byte for byte; with and without the list of schemes."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn._generated.fhevm.kms.v1 import KeyGenPreprocRequest, KeyGenRequest, NewMpcEpochRequest
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.fhevm.epochs import EpochMaterial, KeyMaterial, NewEpoch
from kmsconn.protocols.fhevm.keygen import KeySetForm, config_of
from kmsconn.protocols.port import CoreCall
from kmsconn.protocols.proto_writer import encode
from kmsconn.protocols.protobuf import decode
from tests.vectors import later_keys as later

both = pytest.mark.parametrize("case", later.CASES)
EXISTING = later.ids("migration")[2]
FORMS = {
    "fresh": (0, "config fresh (KeySetConfig alone)"),
    "migration": (EXISTING, "config migration (KeySetConfig alone)"),
}


def started(event: str) -> CoreCall:
    """Return the call that starts what a log of the vectors asks for, in the form that its contract stands for."""
    profile = later.profile()
    content: Any = profile.decode(later.log(event))
    [call] = profile.operations[content.kind].start_calls(content, (), None)
    return call


def plain(kind: Any, message: bytes) -> bytes:
    """Return a message without the list of signing schemes."""
    found = decode(kind, message)
    found.signing_schemes = []
    return bytes(found)


@both
@pytest.mark.parametrize(
    ("event", "name", "kind"),
    [("PrepKeygenRequest", "prep-keygen", KeyGenPreprocRequest), ("KeygenRequest", "keygen", KeyGenRequest)],
)
def test_a_request_is_that_of_the_vectors(case: str, event: str, name: str, kind: Any) -> None:
    call = started(f"{event} {case}")
    assert plain(kind, bytes(call.message)) == later.message(f"{name} {case}")
    assert bytes(call.message) in {later.message(f"{name} {case}{end}") for end in ("", " with scheme list")}


@both
def test_a_key_goes_where_its_preparation_went(case: str) -> None:
    prep, *_ = later.ids(case)
    assert started(f"PrepKeygenRequest {case}").shard == started(f"KeygenRequest {case}").shard == prep


@both
def test_the_configuration_is_present_and_its_default_values_are_not_written(case: str) -> None:
    existing, name = FORMS[case]
    assert bytes(encode(config_of(existing, KeySetForm.COMPRESSED))) == later.message(name)


def test_an_epoch_is_told_all_three_digests_of_a_migrated_key() -> None:
    name = "previous epoch with a migrated key"
    expected = decode(NewMpcEpochRequest, later.message(name))
    prep, key, _ = later.ids("fresh")
    digests = ((0, b"\xcc" * 32), (1, b"\xaa" * 32), (3, b"\xbb" * 32))
    context, epoch = (int(later.load()["ids"][one], 16) for one in ("context", "epoch"))
    content = NewEpoch(context, epoch + 1, context, epoch, 9)
    material = EpochMaterial((KeyMaterial(prep, key, 0, digests),), ())
    [call] = later.profile().operations[content.kind].start_calls(content, (), material)
    assert expected.extra_data == from_hex("0x02") + context.to_bytes(32) + (epoch + 1).to_bytes(32)
    assert plain(NewMpcEpochRequest, bytes(call.message)) == plain(NewMpcEpochRequest, later.message(name))


@pytest.mark.parametrize("digest", [3, 1], ids=["compressed", "plain"])
def test_an_uncertain_epoch_hints_at_the_preprocessing_ids_that_it_named(digest: int) -> None:
    """A plain key too: a Core that was done with a migration before its abort has recorded that one's."""
    prep, key, _ = later.ids("fresh")
    material = EpochMaterial((KeyMaterial(prep, key, 0, ((digest, b"\xbb" * 32),)),), ())
    content = NewEpoch(7 << 248 | 1, 8 << 248 | 2, 7 << 248 | 1, 8 << 248 | 1, 9)
    [call] = later.profile().operations[content.kind].start_calls(content, (), material)
    assert f"0x{prep:064x} for key 0x{key:064x}" in call.hint
    assert "preprocessing_ids" in call.hint

"""Requests of KMSGeneration 0.3.0 and answers to them: contents, messages, key sets, signers, calldata, reverts."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn._generated.fhevm.kms.v1 import (
    CompressedKeyConfig,
    KeyDigest,
    KeyGenPreprocRequest,
    KeyGenRequest,
    KeyGenResult,
)
from kmsconn.config.description import CompressedKeySets
from kmsconn.errors import Broken, Undecodable
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.model.causes import CAUSES
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import LATER_KMS_GENERATION
from kmsconn.protocols.fhevm.epochs import CONFIRM, EpochMaterial, KeyMaterial, NewEpoch
from kmsconn.protocols.fhevm.key_management import AbortKeygen
from kmsconn.protocols.fhevm.keygen import (
    KEY_RESPONSE,
    Keygen,
    KeySetForm,
    PrepKeygen,
    form_of,
    key_digest,
    prep_digest,
)
from kmsconn.protocols.fhevm.profile import EVENTS, Fhevm
from kmsconn.protocols.port import Choosing, CoreCall, Revert, Verdict
from kmsconn.protocols.protobuf import decode
from tests.vectors import keys, later

EXTRA_DATA = from_hex(later.load()["ids"]["extra_data"])
both = pytest.mark.parametrize("case", later.CASES)


@both
def test_a_preparation_names_the_key_that_it_migrates(case: str) -> None:
    prep, _, existing = later.ids(case)
    expected = PrepKeygen(prep, 0, EXTRA_DATA, existing_id=existing, compresses=True)
    assert EVENTS.decode(later.log(f"PrepKeygenRequest {case}")) == expected


@both
def test_a_key_names_its_preparation_and_the_key_that_it_migrates(case: str) -> None:
    prep, key, existing = later.ids(case)
    expected = Keygen(prep, key, EXTRA_DATA, existing_id=existing, compresses=True)
    assert EVENTS.decode(later.log(f"KeygenRequest {case}")) == expected


@both
def test_the_id_of_a_preparation_is_found_where_the_log_cannot_be_read(case: str) -> None:
    """The proof of completeness counts it all the same."""
    assert EVENTS.id_of(later.log(f"PrepKeygenRequest {case}")) == later.ids(case)[0]


def test_an_abort_is_the_same_in_both_contracts() -> None:
    prep, *_ = later.ids("migration")
    assert EVENTS.decode(later.log("AbortKeygen migration")) == AbortKeygen(prep)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("KmsContextDestroyed", Kind.KMS_CONTEXT_DESTROYED), ("KmsEpochDestroyed", Kind.KMS_EPOCH_DESTROYED)],
)
def test_an_end_of_the_vectors_is_read(name: str, kind: Kind) -> None:
    log = later.log(name)
    content = EVENTS.decode(log)
    assert content is not None
    assert (content.kind, content.id) == (kind, int.from_bytes(log.topics[1]))


def test_a_request_of_0_2_0_is_of_a_fresh_key() -> None:
    for name in ("prep_keygen_default", "keygen_default"):
        content = keys.content(name)
        assert (content.existing_id, content.compresses) == (0, False)


def test_parameters_that_have_no_name_are_undecodable() -> None:
    event = LATER_KMS_GENERATION.event("PrepKeygenRequest")
    topics, data = event.encode(1, 1, 0, b"")
    spoilt = data[:63] + b"\x02" + data[64:]
    with pytest.raises(Undecodable):
        EVENTS.decode(attrs.evolve(later.log("PrepKeygenRequest fresh"), topics=topics, data=spoilt))


def started(event: str) -> CoreCall:
    """Return the call that starts what a log of the vectors asks for, in the form that its contract stands for."""
    profile = later.profile()
    content: Any = profile.decode(later.log(event))
    [call] = profile.operations[content.kind].start_calls(content, None)
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


@pytest.mark.parametrize("digest", [3, 1], ids=["compressed", "plain"])
def test_an_uncertain_epoch_hints_at_the_preprocessing_ids_that_it_named(digest: int) -> None:
    """A plain key too: a Core that was done with a migration before its abort has recorded that one's."""
    prep, key, _ = later.ids("fresh")
    material = EpochMaterial((KeyMaterial(prep, key, 0, ((digest, b"\xbb" * 32),)),), ())
    content = NewEpoch(7 << 248 | 1, 8 << 248 | 2, 7 << 248 | 1, 8 << 248 | 1, 9)
    [call] = later.profile().operations[content.kind].start_calls(content, material)
    assert f"0x{prep:064x} for key 0x{key:064x}" in call.hint
    assert "preprocessing_ids" in call.hint


PLAIN, COMPRESSED = KeySetForm.PLAIN, KeySetForm.COMPRESSED
AUTO, ALWAYS, NEVER = CompressedKeySets.AUTO, CompressedKeySets.ALWAYS, CompressedKeySets.NEVER
KEY = 4 << 248 | 1


@pytest.mark.parametrize(
    ("existing", "later_contract", "option", "expected"),
    [
        (0, False, AUTO, PLAIN),
        (0, True, AUTO, COMPRESSED),
        (0, False, ALWAYS, COMPRESSED),
        (0, True, ALWAYS, COMPRESSED),
        (0, False, NEVER, PLAIN),
        (0, True, NEVER, PLAIN),
        (KEY, True, AUTO, COMPRESSED),
        (KEY, True, NEVER, COMPRESSED),
    ],
)
def test_the_form_of_a_new_ceremony(
    existing: int, later_contract: bool, option: CompressedKeySets, expected: KeySetForm
) -> None:
    assert form_of(existing, later_contract, option) is expected


def key_set_of(content: Any, before: str, option: CompressedKeySets) -> CompressedKeyConfig:
    """Return what the Core is asked for where a key's preparation was made as ``before``."""
    operation: Any = Fhevm(keys.SETTINGS.but(compressed_key_sets=option)).operations[content.kind]
    [call] = operation.start_calls(operation.chosen(content, operation.choose(content, before)), None)
    config = decode(KeyGenRequest, bytes(call.message)).keyset_config
    assert config is not None
    assert config.standard_keyset_config is not None
    return config.standard_keyset_config.compressed_key_config


@pytest.mark.parametrize("event", ["KeygenRequest fresh", "KeygenRequest migration"])
@pytest.mark.parametrize("option", CompressedKeySets)
def test_a_key_is_asked_for_as_it_was_prepared(event: str, option: CompressedKeySets) -> None:
    """Whatever the option has become since, and whichever contract asks for the key."""
    content: Any = later.profile().decode(later.log(event))
    assert key_set_of(content, PLAIN, option) is CompressedKeyConfig.CompressedNone
    assert key_set_of(content, COMPRESSED, option) is CompressedKeyConfig.CompressedAll
    assert key_set_of(keys.content("keygen_default"), COMPRESSED, option) is CompressedKeyConfig.CompressedAll


def test_a_key_without_a_known_preparation_goes_by_its_own_event() -> None:
    content: Any = later.profile().decode(later.log("KeygenRequest fresh"))
    assert key_set_of(content, "", AUTO) is CompressedKeyConfig.CompressedAll
    assert key_set_of(keys.content("keygen_default"), "", AUTO) is CompressedKeyConfig.CompressedNone


def test_a_key_continues_its_preparation() -> None:
    operations = later.profile().operations
    prep, *_ = later.ids("migration")
    for event, expected in (("KeygenRequest", (Kind.PREP_KEYGEN, prep)), ("PrepKeygenRequest", None)):
        content: Any = later.profile().decode(later.log(f"{event} migration"))
        operation = operations[content.kind]
        assert isinstance(operation, Choosing)
        assert operation.continues(content) == expected


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
def test_answer_becomes_the_calldata_of_the_vectors(case: str, event: str, name: str, function: str) -> None:
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
PLAIN_DIGESTS, COMPRESSED_DIGESTS = (
    ((0, b"\x11" * 32), (1, b"\x22" * 32)),
    ((1, b"\x22" * 32), (3, b"\x33" * 32)),
)


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
    return OPERATIONS[kind].explain_silence(calldata)


@pytest.mark.parametrize(
    ("kind", "reply", "contract"),
    [(Kind.KEYGEN, key_reply, "KMSGeneration"), (Kind.NEW_KMS_EPOCH, epoch_reply, "ProtocolConfig")],
)
def test_silence_about_a_compressed_key_set_is_explained(kind: Kind, reply: Any, contract: str) -> None:
    """The contract is one of a release that cannot read key type 3 (inferred): the reply waits, and an alert names it."""
    found = explained(kind, reply(COMPRESSED_DIGESTS))
    assert found is not None
    assert found.verdict is Verdict.RETRY
    assert "does not know key type 3" in str(found)
    assert contract in str(found)
    assert found.alert in CAUSES


@pytest.mark.parametrize(("kind", "reply"), [(Kind.KEYGEN, key_reply), (Kind.NEW_KMS_EPOCH, epoch_reply)])
def test_silence_about_plain_keys_is_not_explained(kind: Kind, reply: Any) -> None:
    assert explained(kind, reply(PLAIN_DIGESTS)) is None


def test_silence_of_other_contracts_is_not_explained() -> None:
    assert explained(Kind.CRSGEN, b"") is None

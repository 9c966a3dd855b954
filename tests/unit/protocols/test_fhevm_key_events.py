"""Events of key management as contents; strictly, and by the contracts' own logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kmsconn._generated.fhevm.kms.v1 import (
    NewMpcContextRequest,
    NewMpcEpochRequest,
    SchemeDigest,
    SigningSchemeType,
)
from kmsconn.core.statuses import START
from kmsconn.errors import Refused, Rejected, RejectedByCore, Undecodable
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contexts import NO_PREDECESSOR, ContextDestroyed
from kmsconn.protocols.fhevm.contracts import KMS_GENERATION
from kmsconn.protocols.fhevm.epochs import EpochDestroyed, EpochMaterial, KeyMaterial
from kmsconn.protocols.fhevm.profile import EVENTS
from kmsconn.protocols.port import CoreCall, Meaning, Operation
from kmsconn.protocols.protobuf import decode
from tests import vectors
from tests.vectors import keys

KINDS = {
    "PrepKeygenRequest": Kind.PREP_KEYGEN,
    "KeygenRequest": Kind.KEYGEN,
    "CrsgenRequest": Kind.CRSGEN,
    "AbortKeygen": Kind.ABORT_KEYGEN,
    "AbortCrsgen": Kind.ABORT_CRSGEN,
    "NewKmsContext": Kind.NEW_KMS_CONTEXT,
    "NewKmsEpoch": Kind.NEW_KMS_EPOCH,
    "KmsContextDestroyed": Kind.KMS_CONTEXT_DESTROYED,
}
IDS = {
    "PrepKeygenRequest": "prepKeygenId",
    "KeygenRequest": "keyId",
    "CrsgenRequest": "crsId",
    "AbortKeygen": "prepKeygenId",
    "AbortCrsgen": "crsId",
    "NewKmsContext": "contextId",
    "NewKmsEpoch": "epochId",
    "KmsContextDestroyed": "kmsContextId",
}
SENT = [entry for entry in keys.events() if entry["name"] != "context_1_first"]


@pytest.mark.parametrize("entry", SENT, ids=lambda entry: entry["name"])
def test_every_recorded_event_becomes_a_content_of_its_kind(entry: dict[str, Any]) -> None:
    found = EVENTS.decode(vectors.log_of(entry))
    assert found is not None
    assert found.kind is KINDS[entry["event"]]
    assert found.id == entry["decoded"].get(IDS[entry["event"]], found.id)


def test_a_context_without_predecessor_asks_for_nothing() -> None:
    assert EVENTS.decode(keys.log("context_1_first")) is None
    assert int.from_bytes(keys.log("context_1_first").topics[2]) == NO_PREDECESSOR


@pytest.mark.parametrize(
    ("name", "values"), [("PrepKeygenRequest", (3 << 248, 2, b"")), ("CrsgenRequest", (5 << 248, 8, 2, b""))]
)
def test_parameters_of_another_type_are_not_decoded(name: str, values: tuple[Any, ...]) -> None:
    topics, data = KMS_GENERATION.event(name).encode(*values)
    log = attrs.evolve(keys.log("abort_keygen"), topics=topics, data=data)
    with pytest.raises(Undecodable):
        EVENTS.decode(log)


@pytest.mark.parametrize("entry", keys.events(), ids=lambda entry: entry["name"])
def test_what_is_cut_off_is_undecodable(entry: dict[str, Any]) -> None:
    log = vectors.log_of(entry)
    spoilt = attrs.evolve(log, data=log.data[:-1]) if log.data else attrs.evolve(log, topics=log.topics[:1])
    with pytest.raises(Undecodable):
        EVENTS.decode(spoilt)


def test_the_topics_are_those_that_are_listened_to() -> None:
    _, generation, config = keys.PROFILE.subscriptions()
    heard = {*generation.topics, *config.topics}
    assert {vectors.log_of(entry).topics[0] for entry in keys.events()} < heard
    assert vectors.log_of(vectors.request("public_one_v0")).topics[0] not in heard


@pytest.mark.parametrize(
    ("name", "numbered"),
    [
        ("prep_keygen_default", True),
        ("crsgen_test_2048", True),
        ("context_2_new", True),
        ("epoch_2_context_switch", True),
        ("keygen_default", False),
        ("abort_keygen", False),
        ("context_1_destroyed", False),
    ],
)
def test_an_id_is_told_of_what_the_contracts_number(name: str, numbered: bool) -> None:
    log = keys.log(name)
    assert EVENTS.id_of(log) == (keys.content(name).id if numbered else None)


def test_no_id_is_told_where_there_is_none() -> None:
    log = keys.log("prep_keygen_default")
    assert EVENTS.id_of(attrs.evolve(log, data=log.data[:31])) is None
    context = keys.log("context_2_new")
    assert EVENTS.id_of(attrs.evolve(context, topics=context.topics[:1])) is None


CALLED = [entry["name"] for entry in keys.events() if entry["core"]]
CONTEXT, EPOCH = 7 << 248 | 1, 8 << 248 | 1


def operation(name: str) -> Operation[Any]:
    return keys.PROFILE.operations[keys.content(name).kind]


def end_of_context(*epoch_ids: int) -> CoreCall:
    content = ContextDestroyed(CONTEXT)
    [call] = keys.PROFILE.operations[content.kind].start_calls(content, epoch_ids)
    return call


def end_of_epoch() -> CoreCall:
    content = EpochDestroyed(EPOCH)
    [call] = keys.PROFILE.operations[content.kind].start_calls(content, None)
    return call


@pytest.mark.parametrize("name", [name for name in CALLED if name != "context_2_new"])
def test_the_bytes_are_those_of_the_vectors(name: str) -> None:
    expected = keys.event(name)["core"]
    found = keys.calls(name)
    assert [call.method for call in found] == [core["start_rpc"] for core in expected]
    assert [bytes(call.message) for call in found] == [
        vectors.asking_for_ecdsa(core["start_rpc"], core["request_bytes"]) for core in expected
    ]


@pytest.mark.parametrize("name", CALLED)
def test_the_long_poll_is_that_of_the_vectors(name: str) -> None:
    core = keys.event(name)["core"][0]
    call = operation(name).result_call(keys.content(name))
    if core["result_rpc"] is None:
        assert call is None
    else:
        assert call is not None
        assert (call.method, bytes(call.message)) == (core["result_rpc"], from_hex(core["poll_bytes"]))


def test_both_contexts_are_told_the_previous_one_first() -> None:
    """But for a certificate that is empty: 0.14 sends it as present, which the Core refuses (kms-core-grpc.md, 6.6).

    And 0.15 adds the signer of each node by its scheme.
    """
    found = keys.calls("context_2_new")
    expected = [
        decode(NewMpcContextRequest, from_hex(core["request_bytes"]))
        for core in keys.event("context_2_new")["core"]
    ]
    told = expected[1].new_context
    assert told is not None
    empty = [node for node in told.mpc_nodes if node.ca_cert == b""]
    assert len(empty) == 1
    empty[0].ca_cert = None
    for context in (one.new_context for one in expected):
        assert context is not None
        for node in context.mpc_nodes:
            assert node.signer_address is not None
            node.scheme_digests = [SchemeDigest(SigningSchemeType.ECDSA256K1, node.signer_address)]
    assert [decode(NewMpcContextRequest, bytes(call.message)) for call in found] == expected


@pytest.mark.parametrize("name", CALLED)
def test_the_endpoint_is_that_of_the_vectors_or_every_one(name: str) -> None:
    """Contexts and epochs reach all endpoints, against P4; what has a result is polled where the vectors have it."""
    for call, core in zip(keys.calls(name), keys.event(name)["core"], strict=True):
        everywhere = call.method in {"NewMpcContext", "NewMpcEpoch"}
        assert (call.shard is None) == everywhere
        polled = operation(name).result_call(keys.content(name))
        for count, index in core["endpoint_index"].items():
            for one in (call, polled):
                if one is not None and one.shard is not None:
                    assert one.shard % int(count) == index


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("abort_keygen", {"NOT_FOUND": Meaning.SUCCESS}),  # nothing to abort is as good
        ("abort_crsgen", {"NOT_FOUND": Meaning.SUCCESS}),
        # an epoch may be there, or have to wait for a destruction
        ("epoch_3_same_set", {"INVALID_ARGUMENT": Meaning.UNCERTAIN, "FAILED_PRECONDITION": Meaning.WAIT}),
    ],
)
def test_what_a_status_means_to_an_abort_and_to_an_epoch(name: str, means: dict[str, Meaning]) -> None:
    [call] = keys.calls(name)
    assert call.means == means


@pytest.mark.parametrize("make", [end_of_epoch, end_of_context])
def test_an_end_is_done_when_the_core_has_nothing_of_it_and_refused_only_as_unreadable(
    make: Callable[[], CoreCall],
) -> None:
    terminal = [status.name for status, make in START.items() if make in (RejectedByCore, Refused)]
    expected = {"NOT_FOUND": Meaning.SUCCESS, **dict.fromkeys(terminal, Meaning.WAIT)}
    assert make().means == {**expected, "INVALID_ARGUMENT": Meaning.REFUSED}


@pytest.mark.parametrize("threshold", [1 << 31, -(1 << 31) - 1, 1 << 255])
def test_a_threshold_that_is_no_int32_is_rejected(threshold: int) -> None:
    with pytest.raises(Rejected):
        operation("context_2_new").start_calls(
            attrs.evolve(keys.content("context_2_new"), threshold=threshold), None
        )


@pytest.mark.parametrize(("bits", "sent"), [(0, 0), (2048, 2048), ((1 << 32) + 5, 5)])
def test_the_size_of_a_crs_is_always_there_and_its_low_32_bits(bits: int, sent: int) -> None:
    from kmsconn._generated.fhevm.kms.v1 import CrsGenRequest

    content: Any = attrs.evolve(keys.content("crsgen_test_2048"), max_bits=bits)
    [call] = keys.PROFILE.operations[content.kind].start_calls(content, None)
    assert decode(CrsGenRequest, bytes(call.message)).max_num_bits == sent


def test_an_epoch_reshares_a_compressed_key_set_under_the_name_of_its_type() -> None:
    key = KeyMaterial(1, 2, 0, ((1, b"\x11" * 32), (3, b"\x33" * 32)))
    content: Any = keys.content("epoch_2_context_switch")
    [call] = operation("epoch_2_context_switch").start_calls(content, EpochMaterial((key,), ()))
    previous = decode(NewMpcEpochRequest, bytes(call.message)).previous_epoch
    assert previous is not None
    [told] = previous.keys_info
    assert [(one.key_type, one.digest) for one in told.key_digests] == [
        ("PublicKey", b"\x11" * 32),
        ("CompressedXofKeySet", b"\x33" * 32),
    ]

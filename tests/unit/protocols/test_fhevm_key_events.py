"""Events of key management as contents; strictly, and by the contracts' own logs."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.abi import KMS_GENERATION, PROTOCOL_CONFIG
from kmsconn.protocols.fhevm.contexts import NO_PREDECESSOR
from kmsconn.protocols.fhevm.profile import EVENTS
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


@pytest.mark.parametrize("name", ["prep_keygen_default", "keygen_default", "crsgen_test_2048"])
def test_a_generation_carries_its_extra_data(name: str) -> None:
    assert keys.content(name).extra_data == from_hex(keys.event(name)["decoded"]["extraData"])


def test_a_crs_knows_its_size_and_its_parameters() -> None:
    content = keys.content("crsgen_test_2048")
    assert (content.max_bits, content.params) == (2048, 1)


def test_a_key_knows_its_preparation() -> None:
    content, decoded = keys.content("keygen_default"), keys.event("keygen_default")["decoded"]
    assert (content.prep_id, content.id) == (decoded["prepKeygenId"], decoded["keyId"])


def test_a_context_has_its_nodes_and_the_threshold_of_the_protocol() -> None:
    content, decoded = keys.content("context_2_new"), keys.event("context_2_new")["decoded"]
    assert [node.mpc_identity for node in content.nodes] == [node[5] for node in decoded["kmsNodeParams"]]
    assert content.threshold == decoded["thresholds"][3]
    assert content.previous_id == decoded["previousContextId"]


def test_an_epoch_names_both_contexts_and_the_block_of_its_reference() -> None:
    content, decoded = keys.content("epoch_2_context_switch"), keys.event("epoch_2_context_switch")["decoded"]
    assert (content.context_id, content.previous_context_id, content.previous_epoch_id) == (
        decoded["kmsContextId"],
        decoded["previousContextId"],
        decoded["previousEpochId"],
    )
    assert content.material_block == decoded["materialBlockNumber"]


def test_a_context_without_predecessor_asks_for_nothing() -> None:
    assert EVENTS.decode(keys.log("context_1_first")) is None
    assert int.from_bytes(keys.log("context_1_first").topics[2]) == NO_PREDECESSOR


def test_the_end_of_an_epoch_is_read_too() -> None:
    topics, data = PROTOCOL_CONFIG.event("KmsEpochDestroyed").encode(8 << 248 | 2)
    log = attrs.evolve(keys.log("context_1_destroyed"), topics=topics, data=data)
    found = EVENTS.decode(log)
    assert found is not None
    assert (found.kind, found.id) == (Kind.KMS_EPOCH_DESTROYED, 8 << 248 | 2)


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

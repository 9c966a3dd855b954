"""The names of fhevm 0.15 on the wire: topics, selectors and errors of the vectors, and who listens to which."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.chain.provider import interfaces
from kmsconn.errors import WrongContract
from kmsconn.ethereum.abi import Abi
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.protocols.deployments import has_version
from kmsconn.protocols.fhevm.contracts import (
    GATEWAY_CONFIG,
    KMS_GENERATION,
    KMS_GENERATION_TOPICS,
    LATER_KMS_GENERATION,
    PROTOCOL_CONFIG,
    PROTOCOL_CONFIG_TOPICS,
)
from kmsconn.protocols.fhevm.epochs import KeyMaterial, NewEpochs, recorded_preparations
from kmsconn.protocols.fhevm.key_material import migrated_key_set
from kmsconn.protocols.fhevm.profile import EVENTS
from kmsconn.protocols.fhevm.views import GENERATION_BASE
from kmsconn.protocols.profile import PublicObject
from kmsconn.protocols.queries import mapping_slot
from tests.unit.protocols.test_fhevm_key_plans import Contracts
from tests.vectors import keys
from tests.vectors import later_keys as later

NAMES = later.load()["topics_and_selectors"]
REPLACED = {one["signature"]: one["topic0"] for one in NAMES["replaced"] if one["kind"] == "event"}
REQUESTS = ("PrepKeygenRequest", "KeygenRequest")


TOPICS = [
    (abi, *entry)
    for abi, group in (
        (LATER_KMS_GENERATION, NAMES["new_events"]),
        (KMS_GENERATION, REPLACED),
        (PROTOCOL_CONFIG, NAMES["destroy_events"]),
    )
    for entry in group.items()
]


@pytest.mark.parametrize(("abi", "signature", "topic"), TOPICS)
def test_a_topic_is_that_of_the_vectors(abi: Abi, signature: str, topic: str) -> None:
    [event] = [one for one in abi.events_by_topic.values() if one.signature == signature]
    assert to_hex(event.topic0) == topic
    assert signature not in REPLACED or event.topic0 not in LATER_KMS_GENERATION.events_by_topic


@pytest.mark.parametrize(("signature", "selector"), NAMES["functions"].items())
def test_a_selector_is_that_of_the_vectors(signature: str, selector: str) -> None:
    functions = LATER_KMS_GENERATION.functions_by_selector.values()
    assert [to_hex(one.selector) for one in functions if one.signature == signature] == [selector]


@pytest.mark.parametrize("name", REQUESTS)
def test_both_forms_of_a_request_are_listened_to(name: str) -> None:
    topics = [abi.event(name).topic0 for abi in (KMS_GENERATION, LATER_KMS_GENERATION)]
    profile = later.profile()
    heard = {topic for one in profile.subscriptions() for topic in one.topics}
    assert set(topics) <= heard
    assert len({EVENTS.kinds[topic] for topic in topics}) == 1


def test_what_only_others_need_is_known_and_not_listened_to() -> None:
    """A coprocessor needs it; for a connector it is neither a request nor an unknown event."""
    for signature, topic in NAMES["new_events"].items():
        if signature.startswith("ActivateKey"):
            assert bytes.fromhex(topic[2:]) in KMS_GENERATION_TOPICS - EVENTS.kinds.keys()


def test_every_topic_of_the_published_contracts_is_known() -> None:
    known = interfaces("fhevm").contracts
    generation = {
        topic
        for label, abi in known.items()
        if label.endswith("KMSGeneration")
        for topic in abi.events_by_topic
    }
    assert generation <= KMS_GENERATION_TOPICS
    assert known["ProtocolConfig"].events_by_topic.keys() <= PROTOCOL_CONFIG_TOPICS


RESULTS, STORAGE = later.load()["view_results"], later.load()["storage"]
ASK = later.profile().deployment.keys
ORIGINAL, KEY, _ = later.ids("fresh")
PREP, REQUEST, _ = later.ids("migration")
DIGESTS = ((0, b"\xcc" * 32), (1, b"\xaa" * 32), (3, b"\xbb" * 32))
MIGRATED = KeyMaterial(ORIGINAL, KEY, 0, DIGESTS)


def slot(offset: int, key: int) -> int:
    return mapping_slot(GENERATION_BASE + offset, key)


def asked_for(*, over: bool, agreed: bool) -> dict[int, int]:
    """Return the storage of a contract where a migration was asked for."""
    return {
        slot(18, KEY): REQUEST,
        slot(6, REQUEST): PREP,
        slot(1, REQUEST): int(over),
        slot(3, REQUEST): int(agreed),
    }


@pytest.mark.parametrize("version", ["0.2.0", "0.3.0"])
def test_both_versions_are_the_contract_that_is_meant(version: str) -> None:
    question = has_version("KMSGeneration", "kms_generation_contract.address", 1, Address(b"\x33" * 20))
    said = question.understand(from_hex(RESULTS[f"getVersion of {version}"]))
    assert said == tuple(map(int, version.split(".")))
    other = has_version("Decryption", "decryption_contract.address", 1, Address(b"\x33" * 20))
    with pytest.raises(WrongContract):
        other.understand(from_hex(RESULTS[f"getVersion of {version}"]))


def test_the_request_that_migrates_a_key_is_asked_for_at_its_slot() -> None:
    entry = STORAGE["requestIdByExistingKeyId"]
    question = ASK.generation.migration(int(entry["example_key"], 16))
    assert f"0x{question.slot:064x}" == entry["slot"]
    assert question.understand(from_hex(entry["value"])) == REQUEST


# --- request ids that never become keys (1.3)


# --- the preparation that an epoch is told of a key (1.9)


def preparations(slots: dict[int, int], *materials: KeyMaterial) -> Any:
    return Contracts(slots).run(recorded_preparations(ASK, materials or (MIGRATED,)))


def test_a_migrated_key_has_the_preparation_of_its_migration() -> None:
    assert preparations(asked_for(over=True, agreed=True)) == {KEY: PREP}


@pytest.mark.parametrize("over", [False, True])
def test_a_migration_that_is_open_or_aborted_does_not_count(over: bool) -> None:
    assert preparations(asked_for(over=over, agreed=False)) == {}


def test_a_fresh_key_that_is_compressed_keeps_its_own_preparation() -> None:
    assert preparations({}) == {}


def test_of_plain_keys_nothing_more_is_asked() -> None:
    contracts = Contracts()
    plain = KeyMaterial(ORIGINAL, KEY, 0, DIGESTS[:2])
    assert contracts.run(recorded_preparations(ASK, [plain])) == {}
    assert contracts.rounds == 0


# --- the object of a migrated key (1.7)


STRANGER = Address(b"\x5e" * 20)


def published(
    slots: dict[int, int], *, where: str = "https://kms-1.test/public/", sender: Address = STRANGER
) -> Any:
    """Return what of the migrated key must be in the storage of a node, by a contract with these slots."""
    contracts, context = Contracts(slots, logs=[keys.log("context_1_first")]), 7 << 248 | 1
    node = GATEWAY_CONFIG.function("getKmsNodeForContext").encode_result((sender, sender, "", where))
    for question, answer in (
        (ASK.config.current_context(), context.to_bytes(32) + bytes(32)),
        (ASK.generation.active_key(), KEY.to_bytes(32)),
        (ASK.config.node_storage(context, sender), node),
        (ASK.generation.key(KEY), from_hex(RESULTS["getKeyInfo of the migrated key"])),
    ):
        contracts.views[question.data, question.call()[1][1]] = answer
    return contracts.run(migrated_key_set(ASK, sender))


def test_the_object_of_a_migrated_key_is_under_the_key_with_the_digest_that_was_signed() -> None:
    url = f"https://kms-1.test/public/CompressedXofKeySet/{KEY:064x}"
    expected = PublicObject(KEY, (url,), b"PDAT_KEY", b"\xbb" * 32, made_here=False)
    asked = asked_for(over=True, agreed=True)
    assert published(asked) == expected
    answered = mapping_slot(mapping_slot(GENERATION_BASE, REQUEST), STRANGER)
    assert published({**asked, answered: 1}) == attrs.evolve(expected, made_here=True)


def test_the_object_of_a_migrated_key_may_be_under_the_prefix_of_the_nodes_storage() -> None:
    """Coprocessors look for whatever ends with the path."""
    [node] = keys.previous().nodes
    found = published(asked_for(over=True, agreed=True), where=node.storage_url, sender=node.tx_sender)
    path = f"CompressedXofKeySet/{KEY:064x}"
    assert found.urls == (f"{node.storage_url}/PUB-p1/{path}", f"{node.storage_url}/{path}")


@pytest.mark.parametrize(
    ("slots", "where"),
    [
        ({}, "https://kms-1.test"),
        (asked_for(over=True, agreed=False), "https://kms-1.test"),
        (asked_for(over=True, agreed=True), ""),
    ],
    ids=["fresh", "aborted", "no node"],
)
def test_no_object_is_looked_for_without_a_migration_or_a_storage(slots: dict[int, int], where: str) -> None:
    assert published(slots, where=where) is None


def test_an_operator_knows_better_than_the_contract() -> None:
    name = "epoch_2_context_switch"
    expected = keys.material(name)
    [first, *_] = expected.keys
    contracts = Contracts()
    deployment = attrs.evolve(keys.PROFILE.deployment, preprocessing_ids={first.id: 7})
    found = contracts.run(NewEpochs(deployment).plan(keys.content(name))[1])
    assert {key.id: key.prep_id for key in found.keys} == {
        key.id: 7 if key.id == first.id else key.prep_id for key in expected.keys
    }

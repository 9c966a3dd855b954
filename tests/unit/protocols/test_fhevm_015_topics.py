"""The names of fhevm 0.15 on the wire: topics, selectors and errors of the vectors, and who listens to which."""

from __future__ import annotations

import pytest

from kmsconn.chain.provider import interfaces
from kmsconn.ethereum.hexes import to_hex
from kmsconn.protocols.fhevm.abi import (
    ALL_ERRORS,
    KMS_GENERATION,
    KMS_GENERATION_TOPICS,
    LATER_KMS_GENERATION,
    PROTOCOL_CONFIG,
    PROTOCOL_CONFIG_TOPICS,
)
from kmsconn.protocols.fhevm.profile import EVENTS
from tests.vectors import later_keys as later

NAMES = later.load()["topics_and_selectors"]
REPLACED = {one["signature"]: one["topic0"] for one in NAMES["replaced"] if one["kind"] == "event"}
REQUESTS = ("PrepKeygenRequest", "KeygenRequest")


@pytest.mark.parametrize(("signature", "topic"), NAMES["new_events"].items())
def test_a_topic_of_0_3_0_is_that_of_the_vectors(signature: str, topic: str) -> None:
    [event] = [one for one in LATER_KMS_GENERATION.events_by_topic.values() if one.signature == signature]
    assert to_hex(event.topic0) == topic


@pytest.mark.parametrize(("signature", "topic"), REPLACED.items())
def test_a_topic_that_0_3_0_replaces_is_that_of_0_2_0(signature: str, topic: str) -> None:
    [event] = [one for one in KMS_GENERATION.events_by_topic.values() if one.signature == signature]
    assert to_hex(event.topic0) == topic
    assert event.topic0 not in LATER_KMS_GENERATION.events_by_topic


@pytest.mark.parametrize(("signature", "topic"), NAMES["destroy_events"].items())
def test_the_topic_of_an_end_is_that_of_the_vectors(signature: str, topic: str) -> None:
    [event] = [one for one in PROTOCOL_CONFIG.events_by_topic.values() if one.signature == signature]
    assert to_hex(event.topic0) == topic


@pytest.mark.parametrize(("signature", "selector"), NAMES["functions"].items())
def test_a_selector_is_that_of_the_vectors(signature: str, selector: str) -> None:
    functions = LATER_KMS_GENERATION.functions_by_selector.values()
    assert [to_hex(one.selector) for one in functions if one.signature == signature] == [selector]


@pytest.mark.parametrize(("signature", "selector"), NAMES["errors"].items())
def test_an_error_of_0_3_0_is_known(signature: str, selector: str) -> None:
    assert ALL_ERRORS[bytes.fromhex(selector[2:])].signature == signature


def test_the_function_that_0_3_0_replaces_has_another_selector() -> None:
    [replaced] = [one["selector"] for one in NAMES["replaced"] if one["kind"] == "function"]
    assert bytes.fromhex(replaced[2:]) not in LATER_KMS_GENERATION.functions_by_selector


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

"""Views, selectors and errors of the contracts of fhevm 0.14 and 0.15, and what "invalid context" means for a reply."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import attrs
import pytest

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.connector.contracts import interfaces
from kmsconn.errors import Denied, NotYet, Undecodable, WrongContract, WrongSignature
from kmsconn.ethereum.abi import Abi
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, HANDLE_BYTES, chain_id_of, make_id
from kmsconn.model.requests import Kind
from kmsconn.protocols.deployments import has_version
from kmsconn.protocols.fhevm import contracts
from kmsconn.protocols.fhevm.access import MAGIC_VALUE, AccessControl, wallet_agrees
from kmsconn.protocols.fhevm.contracts import (
    CONFIG_BASE,
    GATEWAY_CONFIG,
    GENERATION_BASE,
    KMS_GENERATION,
    KMS_GENERATION_TOPICS,
    LATER_KMS_GENERATION,
    PROTOCOL_CONFIG,
    PROTOCOL_CONFIG_TOPICS,
    ConfigViews,
    GatewayViews,
)
from kmsconn.protocols.fhevm.epochs import KeyMaterial, NewEpochs, recorded_preparations
from kmsconn.protocols.fhevm.operations import build_extra_data
from kmsconn.protocols.fhevm.profile import (
    EVENTS,
    Fhevm,
    migrated_key_set,
    missed_migrations,
    read_record,
    write_key,
)
from kmsconn.protocols.port import Verdict
from kmsconn.protocols.profile import Coprocessor, KeyMigration, PublicObject
from kmsconn.protocols.protobuf import decode
from kmsconn.protocols.queries import ContractQuery, base_slot, content_slot, mapping_slot
from tests import vectors
from tests.unit.protocols.test_fhevm_key_plans import Contracts
from tests.vectors import keys, later, load, vector_settings

CHAIN = 54321
CONTRACT = Address(b"\x22" * 20)
DECRYPTIONS = contracts.DecryptionViews(CHAIN, CONTRACT)
GATEWAY, CONFIG = GatewayViews(CHAIN, CONTRACT), ConfigViews(CHAIN, CONTRACT)
READS = vectors.load()["storage"]["reads"]
VIEWS = vectors.load()["views"] + vectors.load()["ethereum"]["views"]


def name_of(entry: dict[str, Any]) -> str:
    return f"{entry['stage'][:20]}-{entry['function']}"


TYPED: dict[str, Callable[..., ContractQuery[Any]]] = {
    "getCoprocessorTxSenders": GATEWAY.coprocessor_senders,
    "getCoprocessorMajorityThreshold": GATEWAY.coprocessor_threshold,
    "getCurrentKmsContextId": GATEWAY.current_context,
    "getCurrentKmsContextAndEpoch": CONFIG.current_context_and_epoch,
    "getCoprocessor": GATEWAY.coprocessor,
    "getKmsNodeForContext": GATEWAY.node_signer,
    "isValidKmsContext": CONFIG.is_valid_context,
    "isValidEpochForContext": CONFIG.is_valid_epoch,
}


def plain(value: Any) -> Any:
    """Return a value as the vectors write it, to be compared without regard to its form."""
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    if isinstance(value, bytes):
        return int.from_bytes(value)
    return int(value) if isinstance(value, (int, bool)) else value


def given(value: Any) -> Any:
    if isinstance(value, list):
        return [given(part) for part in value]
    if isinstance(value, str) and value.startswith("0x"):
        return int(value, 16) if value != "0x" else 0
    return int(value) if isinstance(value, bool) else value


@pytest.mark.parametrize("entry", [entry for entry in VIEWS if "decoded" in entry], ids=name_of)
def test_results_of_the_real_contracts(entry: dict[str, Any]) -> None:
    function = contracts.CONTRACTS[entry["contract"]].function(entry["function"])
    values = function.decode_result(from_hex(entry["result"]))
    assert plain(values) == given(entry["decoded"])
    assert function.encode_result(*values) == from_hex(entry["result"])


def typed() -> list[Any]:
    return [entry for entry in VIEWS if "decoded" in entry and entry["function"].split("(")[0] in TYPED]


@pytest.mark.parametrize("entry", typed(), ids=name_of)
def test_typed_questions_have_their_calldata_and_their_answer(entry: dict[str, Any]) -> None:
    function = contracts.CONTRACTS[entry["contract"]].function(entry["function"])
    calldata = from_hex(entry["call"]["data"])
    view = TYPED[function.name](*function.decode(calldata))
    assert vectors.data_of(view) == calldata
    found, expected = view.understand(from_hex(entry["result"])), given(entry["decoded"])
    if isinstance(found, Coprocessor):
        assert plain((found.tx_sender, found.signer, found.bucket)) == expected[0]
    elif function.name == "getKmsNodeForContext":
        assert plain(found) == expected[0][1]
    else:
        assert plain(found) == (expected if function.name == "getCurrentKmsContextAndEpoch" else expected[0])


def test_most_of_the_typed_questions_are_in_the_vectors() -> None:
    assert {entry["function"].split("(")[0] for entry in typed()} == set(TYPED)


@pytest.mark.parametrize("entry", READS, ids=lambda entry: f"{entry['stage'][:30]}-{entry['what']}")
def test_slots_of_annex_e(entry: dict[str, Any]) -> None:
    what, value = entry["what"], from_hex(entry["value"])
    identifier = int(entry.get("id", "0x0"), 16)
    if what.startswith("base+6"):
        slot: Any = DECRYPTIONS.newest_public_id()
    elif what.startswith("base+8"):
        slot = DECRYPTIONS.newest_user_id()
    elif what.startswith("base+9"):
        slot = DECRYPTIONS.pinned_context(identifier)
    elif what.startswith("base+1["):
        slot = DECRYPTIONS.has_answered(identifier, Address(from_hex(entry["signer"])))
    else:
        assert mapping_slot(contracts.DECRYPTION_BASE, identifier) == int(entry["slot"], 16)
        return
    assert vectors.slot_of(slot) == int(entry["slot"], 16)
    assert int(slot.understand(value)) == int.from_bytes(value)


def test_base_slots_of_the_namespaces() -> None:
    storage = vectors.load()["storage"]
    assert base_slot(storage["namespace"]) == int(storage["base_slot"], 16) == contracts.DECRYPTION_BASE
    expected = "80f3585af86806c5774303b06c1ee640aa83b6ef3e45df49bb26c8524500c200"
    assert f"{CONFIG_BASE:064x}" == expected


@pytest.mark.parametrize(
    "entry", vectors.load()["ethereum"]["acl"]["results"], ids=lambda entry: entry["calldata"][:90]
)
def test_results_of_the_real_acl(entry: dict[str, str]) -> None:
    calldata = from_hex(entry["calldata"])
    function = contracts.ACL.functions_by_selector[calldata[:4]]
    values = function.decode(calldata)
    raw = next((one for one in values if len(one) == HANDLE_BYTES), bytes(HANDLE_BYTES))
    lists, handle = AccessControl({chain_id_of(raw): CONTRACT}), raw
    match function.name:
        case "isAllowedForDecryption":
            view = lists.public(handle)
        case "isAllowed":
            view = lists.allowed(handle, values[1])
        case "decryptionSignatureInvalidatedBefore":
            before = int(entry["result"], 16)
            lists.not_invalidated(handle, values[0], before).understand(from_hex(entry["result"]))
            view = lists.not_invalidated(handle, values[0], before - 1)
        case _:
            view = lists.delegated(handle, *values[:3])
    assert vectors.data_of(view) == calldata
    refused = function.name.endswith("Before") or not int(entry["result"], 16)
    with pytest.raises((Denied, WrongSignature)) if refused else nullcontext():
        view.understand(from_hex(entry["result"]))


def test_a_wallet_is_asked_with_bounded_gas() -> None:
    rest: Any = {"age": 0.0, "domain_confirmed": True}
    view = wallet_agrees(CHAIN, CONTRACT, bytes(32), b"\x01\x02", gas=100_000, **rest)
    method, (message, block) = view.method, view.parameters
    assert (method, message["gas"], block) == ("eth_call", "0x186a0", "latest")
    assert from_hex(message["data"])[:4] == MAGIC_VALUE == bytes.fromhex("1626ba7e")


def test_a_view_of_no_contract_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        GATEWAY.coprocessor_threshold().understand(b"")


@pytest.mark.parametrize("entry", [entry for entry in VIEWS if "error" in entry], ids=name_of)
def test_a_context_that_the_contract_does_not_know_is_waited_for(entry: dict[str, Any]) -> None:
    view = GATEWAY.node_signer(7 << 248, CONTRACT)
    with pytest.raises(NotYet, match="unknown"):
        view.refused(entry["error"]["message"], from_hex(entry["error"]["data"]))


@pytest.mark.parametrize("data", [None, b"", bytes(36)])
def test_other_errors_about_a_node_are_no_answer(data: bytes | None) -> None:
    assert GATEWAY.node_signer(7 << 248, CONTRACT).refused("busy", data) is None


PROFILE = Fhevm(vector_settings())
CURRENT = make_id(CONTEXT_TAG, 2)


def verdict(plan: Any, current: int = CURRENT) -> Verdict:
    """Put a plan to a Gateway whose current context is this."""
    [_] = next(plan)
    with pytest.raises(StopIteration) as end:
        plan.send([current])
    found: Verdict = end.value.value
    return found


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (make_id(CONTEXT_TAG, 1), Verdict.FINAL),
        (CURRENT, Verdict.FINAL),
        (make_id(CONTEXT_TAG, 3), Verdict.RETRY),  # a node that lags, or a context that is not there yet
        (make_id(CONTEXT_TAG, 0), Verdict.RETRY),
        (make_id(EPOCH_TAG, 1), Verdict.RETRY),
        (0, Verdict.RETRY),
    ],
)
def test_an_invalid_context_that_was_issued_was_destroyed(context: int, expected: Verdict) -> None:
    assert verdict(GATEWAY.after_invalid(context)) is expected


def recorded(kind: str) -> bytes:
    """Return what the real contract said to a reply under a destroyed context."""

    def entries(found: Any) -> Any:
        if isinstance(found, dict):
            if found.get("name") == f"{kind}: context 1 destroyed":
                yield found
            found = list(found.values())
        if isinstance(found, list):
            for one in found:
                yield from entries(one)

    [entry] = entries(load())
    return b"".join(map(from_hex, [entry["selector"], *entry["arguments"]]))


@pytest.mark.parametrize(
    ("name", "kind"), [("public", Kind.PUBLIC_DECRYPTION), ("user", Kind.USER_DECRYPTION)]
)
def test_a_reply_under_a_destroyed_context_is_final(name: str, kind: Kind) -> None:
    revert = PROFILE.operations[kind].revert(recorded(name))
    assert (revert.name, revert.verdict) == ("InvalidKmsContext", Verdict.RETRY)
    assert revert.plan is not None
    assert verdict(revert.plan()) is Verdict.FINAL


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
    assert f"0x{vectors.slot_of(question):064x}" == entry["slot"]
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
        contracts.views[vectors.data_of(question), question.parameters[1]] = answer
    return contracts.run(migrated_key_set(ASK, sender))


def test_the_object_of_a_migrated_key_is_under_the_key_with_the_digest_that_was_signed() -> None:
    url = f"https://kms-1.test/public/CompressedXofKeySet/{KEY:064x}"
    expected = PublicObject(KEY, (url,), b"PDAT_KEY", b"\xbb" * 32)
    assert published(asked_for(over=True, agreed=True)) == expected


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


# --- migrations that were made without this node


PAIR = make_id(CONTEXT_TAG, 1), make_id(EPOCH_TAG, 1)
LATER_EPOCH = PAIR[0], make_id(EPOCH_TAG, 2)
NOBODY = Address(bytes(20))


def kept(request: int, data: bytes) -> dict[int, int]:
    """Return the slots in which Solidity keeps the extraData of a request."""
    place = slot(14, request)
    words = [data[start : start + 32].ljust(32, b"\0") for start in range(0, len(data), 32)]
    numbered = enumerate(words, content_slot(place))
    return {place: 2 * len(data) + 1, **{number: int.from_bytes(word) for number, word in numbered}}


ANSWERED = {mapping_slot(mapping_slot(GENERATION_BASE, REQUEST), STRANGER): 1}
MADE = asked_for(over=True, agreed=True) | kept(REQUEST, build_extra_data(*PAIR))


def missed(
    slots: dict[int, int], current: tuple[int, int] = PAIR, signer: Address = STRANGER, *others: int
) -> Any:
    """Return what a node with this signer has missed by a contract with these slots, in whose current context and epoch it is."""
    contracts = Contracts(slots)
    node = GATEWAY_CONFIG.function("getKmsNodeForContext").encode_result((STRANGER, signer, "", ""))
    completed = KMS_GENERATION.function("getCompletedKeyIds").encode_result((*others, KEY))
    for question, answer in (
        (ASK.config.current_context_and_epoch(), b"".join(one.to_bytes(32) for one in current)),
        (ASK.generation.completed_keys(), completed),
        (ASK.config.node_signer(current[0], STRANGER), node),
    ):
        contracts.views[vectors.data_of(question), question.parameters[1]] = answer
    return contracts.run(missed_migrations(ASK, STRANGER))


@pytest.mark.parametrize("others", [(), (KEY + 2,)], ids=["only key", "beside a key that is in use now"])
def test_a_migration_without_this_node_is_missed_whether_its_key_is_in_use_or_not(
    others: tuple[int, ...],
) -> None:
    """The active key is not asked for at all, nor is the storage."""
    assert missed(MADE, PAIR, STRANGER, *others) == (KeyMigration(KEY, REQUEST, PREP),)


@pytest.mark.parametrize(
    ("slots", "current", "signer"),
    [
        ({}, PAIR, STRANGER),
        (MADE | asked_for(over=False, agreed=False), PAIR, STRANGER),
        (MADE | asked_for(over=True, agreed=False), PAIR, STRANGER),
        (MADE | ANSWERED, PAIR, STRANGER),
        (MADE, LATER_EPOCH, STRANGER),
        (MADE, PAIR, NOBODY),
        (asked_for(over=True, agreed=True), PAIR, STRANGER),
    ],
    ids=["fresh", "open", "aborted", "answered", "a later epoch", "no node", "names no epoch"],
)
def test_a_migration_is_not_missed(slots: dict[int, int], current: tuple[int, int], signer: Address) -> None:
    assert missed(slots, current, signer) == ()


def test_a_core_is_asked_for_its_record_of_a_key_and_names_the_preparation() -> None:
    assert decode(kms.RequestId, write_key(KEY)).request_id == f"{KEY:064x}"
    recorded = kms.KeyGenResult(kms.RequestId(f"{KEY:064x}"), kms.RequestId(f"{PREP:064x}"))
    assert read_record(bytes(recorded)) == PREP
    assert read_record(bytes(kms.KeyGenResult(kms.RequestId(f"{KEY:064x}")))) == 0
    with pytest.raises(Undecodable):
        read_record(bytes(kms.KeyGenResult(preprocessing_id=kms.RequestId("03"))))


def test_an_operator_knows_better_than_the_contract() -> None:
    name = "epoch_2_context_switch"
    expected = keys.material(name)
    [first, *_] = expected.keys
    contracts = Contracts()
    deployment = attrs.evolve(keys.PROFILE.deployment, preprocessing_ids={first.id: 7})
    found = contracts.run(NewEpochs(deployment).plan(keys.content(name)))
    assert {key.id: key.prep_id for key in found.keys} == {
        key.id: 7 if key.id == first.id else key.prep_id for key in expected.keys
    }

"""The emulated KMSGeneration and ProtocolConfig do in every ceremony what the real ones did; what Ethereum says of one node's part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.contracts import protocol_config as ceremonies
from kmsconn.emulator.contracts.generation_releases import named_pair, prep_keygen_hash
from kmsconn.emulator.contracts.kms_generation import BASE
from kmsconn.emulator.contracts.protocol_config import FIRST_PREDECESSOR, announce
from kmsconn.emulator.dependencies import sender_of, signer_of
from kmsconn.emulator.execution import AbiContract, Frame, Reverted
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies
from kmsconn.emulator.key_ceremonies import (
    CRS,
    KEY,
    LATE_BLOCKS,
    PREP,
    KeyCeremonies,
    announcement_of,
    owner_of,
)
from kmsconn.emulator.key_life import KeyVerdict, read_keys
from kmsconn.ethereum.abi import signing_digest
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.protocols.fhevm.contracts import ALL_ERRORS
from kmsconn.protocols.fhevm.keygen import PREP_RESPONSE
from tests import vectors
from tests.unit.emulator.ceremony_world import (
    ETHEREUM,
    EVENTS,
    REVERTS,
    Ceremony,
    announcement,
    ceremony,
    fresh_ceremony,
)
from tests.unit.emulator.small_world import rpc

HOST = vectors.load()["ethereum"]
ERRORS = {error.name: error for error in ALL_ERRORS.values()}
INEXACT = {"EpochActivationConfirmation"}
"""Its data is a hash whose formula the specification does not tell; ours covers the same, in the same order."""
REPLIES = [(entry, answer) for entry in EVENTS for answer in entry["answers"]]


def logged(mined: Mined) -> list[tuple[str, list[str]]]:
    return [(to_hex(log.data), [to_hex(t) for t in log.topics]) for log in mined.logs]


def test_an_event_is_emitted_byte_for_byte_in_its_block() -> None:
    for entry in EVENTS:
        block = ceremony().chain.block(int(entry["log"]["blockNumber"], 16))
        assert block is not None
        emitted = [facts for mined in block.mined for facts in logged(mined)]
        assert (entry["log"]["data"], entry["log"]["topics"]) in emitted, entry["name"]


def test_a_reply_is_included_with_the_recorded_events() -> None:
    for entry, answer in REPLIES:
        mined, recorded = ceremony().replies[entry["name"], answer["node"]], answer["proof"]["events"]
        assert mined.outcome.status == 1, entry["name"]
        assert [topics for _, topics in logged(mined)] == [event["topics"] for event in recorded]
        for log, event in zip(mined.logs, recorded, strict=True):
            assert event["name"] in INEXACT or to_hex(keccak256(log.data)) == event["data_keccak256"]


def test_a_refused_reply_gets_the_recorded_error_object() -> None:
    for entry in REVERTS:
        assert ceremony().reverts[entry["name"]]["error"] == entry["eth_call_error"], entry["name"]


def test_a_slot_holds_the_recorded_value() -> None:
    for entry in HOST["storage"]["reads"]:
        address = ETHEREUM["contracts"][entry["contract"]]
        found = rpc(ceremony().node, "eth_getStorageAt", address, entry["slot"], "latest")["result"]
        assert entry["value"] == found, entry["what"]


AFTER = {"1": 18, "2": 23, "3": 31, "4": 42}
"""The last block of each stage, by its number."""


def test_a_view_of_an_old_block_gives_the_recorded_bytes() -> None:
    for entry in HOST["views"]:
        of_config = entry["contract"] == "ProtocolConfig"  # asked at the head of its stage
        block = hex(AFTER[entry["stage"][0]]) if of_config else entry["block"]
        answer = rpc(ceremony().node, "eth_call", entry["call"], block)
        what = "error" if "error" in entry else "result"
        assert entry[what] == answer[what], (entry["stage"], entry["function"])


def test_the_base_slot_of_kms_generation_is_the_documented_one() -> None:
    assert BASE == 0x26FDAF8A2CB20D20B55E36218986905E534EE7A970DD2FA827946E4B7496DB00


def refusal(played: Ceremony, contract: AbiContract, action: Any) -> bytes:
    """Return what a knob's refusal says."""
    refused: list[bytes] = []

    def attempt(frame: Frame) -> None:
        try:
            action(frame)
        except Reverted as error:
            refused.append(error.data)

    played.chain.evm.set_up(contract.address, attempt)
    return refused[0][:4]


def with_first_context() -> Ceremony:
    played = fresh_ceremony()
    first = announcement(EVENTS[0])
    played.chain.evm.set_up(
        played.config.address, lambda f: played.config.set_context(f, (7 << 248) + 1, first.committee)
    )
    return played


@pytest.mark.parametrize(
    ("begin", "error"),
    [
        (lambda played: (played.generation, played.generation.request_keygen), "KeygenOngoing"),
        (lambda played: (played.generation, played.generation.request_crsgen), "CrsgenOngoing"),
        (lambda played: (played.config, played.config.begin_epoch), "KmsLifecycleOperationInFlight"),
    ],
    ids=["key", "CRS", "ceremony of contexts"],
)
def test_only_one_of_each_is_made_at_a_time(begin: Callable[[Ceremony], Any], error: str) -> None:
    played = with_first_context()
    played.chain.mine()
    contract, action = begin(played)
    played.chain.evm.set_up(contract.address, action)
    assert refusal(played, contract, action) == ERRORS[error].selector


def test_an_aborted_key_makes_room_for_the_next() -> None:
    played = with_first_context()
    generation, ids = played.generation, []
    played.chain.evm.set_up(generation.address, lambda f: ids.append(generation.request_keygen(f)))
    played.chain.evm.set_up(generation.address, lambda f: generation.abort_keygen(f, ids[0]))
    played.chain.evm.set_up(generation.address, lambda f: ids.append(generation.request_keygen(f)))
    assert ids[1] == ids[0] + 1


def test_what_the_anchor_keeps_is_the_hash_of_the_announcement() -> None:
    """Kept apart from the recorded anchors: any announcement has it, not only those of the vectors."""
    played = fresh_ceremony()
    first, seen = announcement(EVENTS[0]), list[Any]()

    def announce(frame: Frame) -> None:
        ceremonies.announce(frame, 1, 0, first)
        seen.extend((frame.logs[-1].data, frame.read("anchor", 1)))

    played.chain.evm.set_up(played.config.address, announce)
    block, info_hash = seen[1]
    assert block == played.chain.head.number
    assert info_hash != bytes(32)


def owned() -> tuple[FhevmDependencies, KeyCeremonies]:
    dependencies = FhevmDependencies.make(trio.current_time, block_time=1.0, members=4)
    return dependencies, owner_of(dependencies, dependencies.members)


async def test_a_core_that_never_begins_is_waited_for_some_blocks() -> None:
    dependencies, owner = owned()
    async with trio.open_nursery() as nursery:
        await nursery.start(dependencies.run)
        began = trio.current_time()
        await owner.until_at_work("key", KEY)
        waited = trio.current_time() - began
        nursery.cancel_scope.cancel()
    assert waited == pytest.approx(LATE_BLOCKS * dependencies.ethereum.block_time)


async def test_nobody_waits_once_every_core_is_at_work() -> None:
    dependencies, owner = owned()
    for core in (*dependencies.cores, *dependencies.others):
        core.core.memory.generating = 1e6
        core.core.memory.begin("key", KEY.to_bytes(32), bytes)
    with trio.fail_after(1):
        await owner.until_at_work("key", KEY)


ASKED = ("prepKeygenResponse", PREP)


@pytest.fixture
def dependencies() -> FhevmDependencies:
    return FhevmDependencies.make(lambda: 1_767_225_600.0)


def ask_key(dependencies: FhevmDependencies) -> None:
    contract = dependencies.kms_generation
    dependencies.ethereum.actors.act(contract.address, contract.request_keygen)
    dependencies.ethereum.mine()


def reply(dependencies: FhevmDependencies, sender: int = 0) -> None:
    contract = dependencies.kms_generation
    struct_hash = prep_keygen_hash(PREP, named_pair(CONTEXT, EPOCH))
    signature = signer_of(0).sign(signing_digest(contract.domain, struct_hash))
    calldata = PREP_RESPONSE.encode(PREP, signature)
    dependencies.ethereum.actors.transact(sender_of(sender).address, contract.address, calldata)
    dependencies.ethereum.mine()


def verdict(dependencies: FhevmDependencies) -> KeyVerdict:
    return read_keys(dependencies, dependencies.sender.address)


def test_what_was_asked_is_open_until_this_node_replied_and_a_second_reply_is_a_double(
    dependencies: FhevmDependencies,
) -> None:
    assert verdict(dependencies) == KeyVerdict((), (), frozenset(), 0)
    assert verdict(dependencies).well
    ask_key(dependencies)
    assert verdict(dependencies).open == (ASKED,)
    reply(dependencies, sender=1)  # of another wallet: it counts for nothing
    assert (verdict(dependencies).open, verdict(dependencies).doubled) == ((ASKED,), 0)
    reply(dependencies)
    assert (verdict(dependencies).replied, verdict(dependencies).doubled) == ((ASKED,), 0)
    key = ("keygenResponse", PREP + (1 << 248))  # the preparation asks for the key
    assert verdict(dependencies).open == (key,)
    reply(dependencies)
    assert (verdict(dependencies).replied, verdict(dependencies).doubled) == ((ASKED,), 1)
    assert not verdict(dependencies).well


def test_what_was_aborted_waits_for_nobody(dependencies: FhevmDependencies) -> None:
    contract = dependencies.kms_generation
    dependencies.ethereum.actors.act(contract.address, contract.request_crsgen)
    dependencies.ethereum.actors.act(contract.address, lambda frame: contract.abort_crsgen(frame, CRS))
    dependencies.ethereum.mine()
    assert verdict(dependencies).aborted == {("crsgenResponse", CRS)}
    assert verdict(dependencies).well


def test_a_new_context_is_asked_of_every_node_and_an_announcement_of_the_first_is_not(
    dependencies: FhevmDependencies,
) -> None:
    contract, nodes = dependencies.protocol_config, announcement_of(dependencies.committee)
    dependencies.ethereum.actors.act(
        contract.address, lambda frame: announce(frame, CONTEXT, FIRST_PREDECESSOR, nodes)
    )
    dependencies.ethereum.actors.act(contract.address, lambda frame: contract.begin_context(frame, nodes))
    dependencies.ethereum.mine()
    assert verdict(dependencies).open == (("confirmKmsContextCreation", CONTEXT + 1),)

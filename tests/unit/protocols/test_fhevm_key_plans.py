"""What is asked of Ethereum, round by round: answers of the real contracts in, contents of requests to the Core out."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.errors import Aborted, NotYet, Rejected
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import CONFIG_BASE, GENERATION_BASE, KeyViews
from kmsconn.protocols.fhevm.keygen import Keygen
from kmsconn.protocols.fhevm.operations import FhevmOperation
from kmsconn.protocols.port import Verdict
from kmsconn.protocols.queries import QueryPlan, mapping_slot
from tests.vectors import data_of, keys, slot_of

SETTINGS = keys.SETTINGS
ASK = KeyViews.at(
    SETTINGS.chains.ethereum.chain_id,
    SETTINGS.protocol.kms_generation_contract.address,
    SETTINGS.protocol.protocol_config_contract.address,
)
SENDER, SIGNER = Address(b"\x5e" * 20), Address(b"\x51" * 20)
OPERATIONS = keys.PROFILE.operations
CONTEXT, EPOCH, KEY = 7 << 248 | 2, 8 << 248 | 2, 4 << 248 | 1
RECORDED = {
    (from_hex(entry["call"]["data"]), entry["block"]): from_hex(entry["result"])
    for entry in keys.views()
    if entry.get("result")
}


@attrs.define
class Contracts:
    """Both contracts: slots by number, views as recorded, the announcements of contexts; and how many rounds were put."""

    slots: dict[int, int] = attrs.field(factory=dict)
    logs: list[Log] = attrs.field(factory=list)
    views: dict[tuple[bytes, str], bytes] = attrs.field(factory=lambda: dict(RECORDED))
    rounds: int = 0

    def run(self, plan: QueryPlan[Any]) -> Any:
        """Put a plan and return what it comes to."""
        try:
            questions = next(plan)
            while True:
                self.rounds += 1
                questions = plan.send([self._answer(question) for question in questions])
        except StopIteration as end:
            return end.value

    def _answer(self, question: Any) -> Any:
        if question.method == "eth_getStorageAt":
            return question.understand(self.slots.get(slot_of(question), 0).to_bytes(32))
        if question.method == "eth_getLogs":
            [criteria] = question.parameters
            place = (criteria["fromBlock"], criteria["topics"])
            found = [
                log
                for log in self.logs
                if (quantity(log.block_number), [*map(to_hex, log.topics[:2])]) == place
            ]
            return question.understand(found)
        return question.understand(self.views[data_of(question), question.parameters[1]])


def standing(content: Any) -> Any:
    """Return the plan that asks whether a request still stands for a node."""
    planned = OPERATIONS[content.kind].standing(content, SENDER)
    assert planned is not None
    return planned


def gathered(name: str) -> Any:
    """Return the plan of what is gathered for an event of the vectors."""
    content = keys.content(name)
    planned = OPERATIONS[content.kind].plan(content)
    assert planned is not None
    return planned


def verdict_on(kind: Kind, identifier: int) -> Any:
    """Return the plan that asks what the error in doubt means."""
    operation = OPERATIONS[kind]
    assert isinstance(operation, FhevmOperation)
    return operation.verdict_on(identifier)


KEYGEN = Keygen(0, KEY, b"")


def over(identifier: int, *, consensus: bool) -> dict[int, int]:
    return {
        mapping_slot(GENERATION_BASE + 1, identifier): 1,
        mapping_slot(GENERATION_BASE + 3, identifier): 5 if consensus else 0,
    }


def test_a_generation_stands_until_it_is_over_and_was_aborted_without_consensus() -> None:
    assert Contracts().run(standing(KEYGEN)) is True
    assert Contracts(over(KEY, consensus=True)).run(standing(KEYGEN)) is False
    with pytest.raises(Aborted):
        Contracts(over(KEY, consensus=False)).run(standing(KEYGEN))


DESTROYED = {mapping_slot(CONFIG_BASE + 10, CONTEXT): 1}


def test_a_new_context_stands_until_it_is_destroyed() -> None:
    content = keys.content("context_2_new")
    assert Contracts().run(standing(content)) is True
    with pytest.raises(Rejected, match=r"context 0x07.* was destroyed"):
        Contracts(DESTROYED).run(standing(content))


def epoch_stands(slots: dict[int, int], *of_contexts: int) -> Any:
    """Ask about the second epoch as a node of these contexts."""
    content, asked = keys.content("epoch_2_context_switch"), Contracts(slots)
    for context in (content.previous_context_id, content.context_id):
        signer = SIGNER if context in of_contexts else ZERO_ADDRESS
        node = SENDER.rjust(32, b"\0") + signer.rjust(32, b"\0")
        strings = (128).to_bytes(32) + (160).to_bytes(32) + bytes(64)
        question = ASK.config.node_signer(context, SENDER)
        asked.views[data_of(question), question.parameters[1]] = (32).to_bytes(32) + node + strings
    return asked.run(standing(content))


@pytest.mark.parametrize("slots", [{}, {CONFIG_BASE + 12: EPOCH, mapping_slot(CONFIG_BASE + 15, EPOCH): 1}])
@pytest.mark.parametrize("contexts", [(CONTEXT,), (CONTEXT - 1,), (CONTEXT - 1, CONTEXT)])
def test_a_new_epoch_stands_while_it_is_pending_for_the_nodes_of_both_contexts(
    slots: dict[int, int], contexts: tuple[int, ...]
) -> None:
    assert epoch_stands(slots, *contexts) is True


def test_a_new_epoch_is_nothing_to_a_node_of_neither_context_and_to_nobody_once_it_is_active() -> None:
    assert epoch_stands({CONFIG_BASE + 12: EPOCH, mapping_slot(CONFIG_BASE + 15, EPOCH): 1}) is False
    active = {CONFIG_BASE + 12: EPOCH, mapping_slot(CONFIG_BASE + 15, EPOCH): 2}
    assert epoch_stands(active, CONTEXT - 1) is False


@pytest.mark.parametrize("slots", [DESTROYED, {CONFIG_BASE + 12: EPOCH}])
def test_an_epoch_that_is_gone_or_whose_context_is_gone_is_rejected(slots: dict[int, int]) -> None:
    with pytest.raises(Rejected, match="destroyed"):
        epoch_stands(slots, CONTEXT)


# --- the previous context (3.6)


def test_the_previous_context_is_found_by_its_anchor() -> None:
    """Also beside another one in its block: 0.14 asks by event alone and then never gets on (P6)."""
    first = keys.log("context_1_first")
    other = attrs.evolve(first, topics=(first.topics[0], CONTEXT.to_bytes(32), first.topics[2]))
    for logs in ([first], [other, first]):
        asked = Contracts(logs=logs)
        assert asked.run(gathered("context_2_new")) == keys.previous()
        assert asked.rounds == 3


@pytest.mark.parametrize("count", [0, 2])
def test_what_is_not_the_one_announcement_is_waited_for(count: int) -> None:
    asked = Contracts(logs=[keys.log("context_1_first")] * count)
    with pytest.raises(NotYet, match=f"has {count} announcements"):
        asked.run(gathered("context_2_new"))


def test_a_previous_context_that_was_destroyed_is_not_told_again() -> None:
    """Its shares are to leave the Core; a new context that was late would bring it back."""
    slots = {mapping_slot(CONFIG_BASE + 10, CONTEXT - 1): 1}
    asked = Contracts(slots, logs=[keys.log("context_1_first")])
    content = keys.content("context_2_new")
    assert asked.run(gathered("context_2_new")) is None
    [told] = keys.PROFILE.operations[content.kind].start_calls(content, None)
    assert bytes(told.message) == bytes(keys.calls("context_2_new")[1].message)


def anchored(announcement: Log, hashed: bytes) -> Contracts:
    """Return contracts that have announced a context, and say that they hashed this."""
    asked = Contracts(logs=[announcement])
    key = next(k for k in asked.views if k[0] == data_of(ASK.config.anchor(7 << 248 | 1)))
    asked.views[key] = announcement.block_number.to_bytes(32) + hashed
    return asked


def test_an_announcement_with_another_hash_or_that_cannot_be_read_is_waited_for() -> None:
    """It is the hashed one only by its whole hash."""
    first = keys.log("context_1_first")
    hashed = bytearray(keccak256(first.data))
    hashed[-1] ^= 1
    with pytest.raises(NotYet, match="not the one that the contract hashed"):
        anchored(first, bytes(hashed)).run(gathered("context_2_new"))
    nonsense = attrs.evolve(first, data=b"nonsense")
    with pytest.raises(NotYet, match="cannot be read"):
        anchored(nonsense, keccak256(nonsense.data)).run(gathered("context_2_new"))


# --- what an epoch reshares (3.7)


@pytest.mark.parametrize("name", ["epoch_2_context_switch", "epoch_3_same_set"])
def test_the_material_of_an_epoch_is_that_of_its_block_in_the_contracts_order(name: str) -> None:
    asked = Contracts()
    assert asked.run(gathered(name)) == keys.material(name)
    assert asked.rounds == 2


def test_without_keys_and_crs_the_material_is_empty() -> None:
    """It is sent as such; the contract refuses the activation later."""
    content, asked = keys.content("epoch_2_context_switch"), Contracts()
    for question in (
        ASK.generation.completed_keys(block=content.material_block),
        ASK.generation.completed_crs(block=content.material_block),
    ):
        asked.views[data_of(question), question.parameters[1]] = (32).to_bytes(32) + bytes(32)
    found = asked.run(gathered("epoch_2_context_switch"))
    assert (found.keys, found.crs) == ((), ())


# --- the epochs of a context


def test_the_epochs_of_a_context_are_found_by_their_numbers() -> None:
    epochs = {
        mapping_slot(CONFIG_BASE + 16, 8 << 248 | n): 7 << 248 | (1 if n in {1, 3} else 2)
        for n in range(1, 5)
    }
    asked = Contracts({CONFIG_BASE + 12: 8 << 248 | 4, **epochs})
    found = asked.run(gathered("context_1_destroyed"))
    assert found == (8 << 248 | 1, 8 << 248 | 3)


@pytest.mark.parametrize("newest", [0, 8 << 248, 5])
def test_without_epochs_nothing_is_asked_for(newest: int) -> None:
    asked = Contracts({CONFIG_BASE + 12: newest})
    assert asked.run(gathered("context_1_destroyed")) == ()


def test_of_very_many_epochs_the_newest_that_one_call_takes_are_named() -> None:
    asked = Contracts({CONFIG_BASE + 12: 8 << 248 | 5000})
    plan = gathered("context_1_destroyed")
    next(plan)
    assert len(plan.send([8 << 248 | 5000])) == 1024
    assert asked.run(gathered("context_1_destroyed")) == ()


# --- what a revert means that its name does not tell (annex A)


@pytest.mark.parametrize(
    ("slots", "verdict"),
    [
        ({}, Verdict.RETRY),
        ({mapping_slot(CONFIG_BASE + 14, CONTEXT): 1}, Verdict.RETRY),
        ({mapping_slot(CONFIG_BASE + 14, CONTEXT): 2}, Verdict.DONE),
        ({mapping_slot(CONFIG_BASE + 14, CONTEXT): 3}, Verdict.DONE),
        (DESTROYED, Verdict.FINAL),
    ],
)
def test_a_context_that_is_not_pending(slots: dict[int, int], verdict: Verdict) -> None:
    assert Contracts(slots).run(verdict_on(Kind.NEW_KMS_CONTEXT, CONTEXT)) is verdict


@pytest.mark.parametrize(
    ("state", "newest", "verdict"),
    [
        (0, 0, Verdict.RETRY),
        (1, EPOCH, Verdict.RETRY),
        (2, EPOCH, Verdict.DONE),
        (0, EPOCH, Verdict.FINAL),
        (0, EPOCH - 1, Verdict.RETRY),
    ],
)
def test_an_epoch_that_is_not_pending(state: int, newest: int, verdict: Verdict) -> None:
    slots = {mapping_slot(CONFIG_BASE + 15, EPOCH): state, CONFIG_BASE + 12: newest}
    assert Contracts(slots).run(verdict_on(Kind.NEW_KMS_EPOCH, EPOCH)) is verdict


def test_an_invalid_context_is_final_once_it_was_destroyed() -> None:
    assert Contracts().run(verdict_on(Kind.KEYGEN, CONTEXT)) is Verdict.RETRY
    assert Contracts(DESTROYED).run(verdict_on(Kind.KEYGEN, CONTEXT)) is Verdict.FINAL


@pytest.mark.parametrize(
    ("kind", "error", "identifier"),
    [
        (Kind.NEW_KMS_CONTEXT, "KmsContextNotPending(uint256)", CONTEXT),
        (Kind.NEW_KMS_EPOCH, "InvalidKmsEpoch(uint256)", EPOCH),
        (Kind.PREP_KEYGEN, "InvalidKmsContext(uint256)", CONTEXT),
    ],
)
def test_a_revert_that_its_name_does_not_explain_brings_its_question(
    kind: Kind, error: str, identifier: int
) -> None:
    data = keccak256(error.encode())[:4] + identifier.to_bytes(32)
    found = keys.PROFILE.operations[kind].revert(data)
    assert (found.verdict, found.plan is not None) == (Verdict.RETRY, True)
    assert found.plan is not None
    assert Contracts().run(found.plan()) is Verdict.RETRY


def test_other_reverts_speak_for_themselves() -> None:
    for kind in keys.PROFILE.operations:
        if kind not in {
            Kind.ABORT_KEYGEN,
            Kind.ABORT_CRSGEN,
            Kind.KMS_CONTEXT_DESTROYED,
            Kind.KMS_EPOCH_DESTROYED,
        }:
            assert keys.PROFILE.operations[kind].revert(None).plan is None
    assert Address(ASK.config.address) == SETTINGS.protocol.protocol_config_contract.address

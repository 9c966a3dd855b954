"""Key management before the Core is asked: answered already, over, aborted, not ours."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn.chain.follower import HeadTracker
from kmsconn.errors import Aborted, AlreadyDone, Destroyed, DestroyedOnce, NotMember, NotYet, Over
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.model.life import Seen
from kmsconn.model.requests import EventPlace, Kind, Request
from kmsconn.protocols.fhevm.contracts import CONFIG_BASE, GENERATION_BASE
from kmsconn.protocols.queries import mapping_slot
from kmsconn.requests.attesting import AttestedChecker
from kmsconn.requests.checker import Checker, DecryptionExpiry
from kmsconn.requests.contexts import Contexts, Suspicions
from kmsconn.requests.identity import NodeIdentity
from kmsconn.requests.membership import LOOK_AGAIN, Membership
from tests.unit.requests.answers import Answers, confirmed, later
from tests.unit.requests.bench import Bench, wall
from tests.unit.requests.test_dispatcher import rows_of
from tests.vectors import keys

ETHEREUM = keys.SETTINGS.chains.ethereum.chain_id
SENDER, SIGNER = Address(b"\x0a" * 20), Address(b"\x0b" * 20)
NOBODY = (ZERO_ADDRESS, ZERO_ADDRESS, "", "")
REORG_WINDOW = 30.0


def made(slots: dict[int, int] | None = None, **views: Any) -> tuple[Checker, HeadTracker]:
    node = (SENDER, SIGNER, "ip", "url")
    yes = {"isValidKmsContext": True, "isValidEpochForContext": True, "getKmsNodeForContext": node}
    ethereum = Answers({**yes, **views}, slots=dict(slots or {}))
    head = HeadTracker()
    head.note(100, 1000)
    gateway = Answers({"getKmsNodeForContext": NOBODY, "getCurrentKmsContextId": 7 << 248 | 1})
    ethereum.chain_id = ETHEREUM
    chains = {ETHEREUM: ethereum, keys.SETTINGS.chains.gateway.chain_id: gateway}
    identity = NodeIdentity(keys.PROFILE, chains, SENDER)
    look = Suspicions({ETHEREUM: head})
    contexts = Contexts(keys.PROFILE, ethereum, lambda: 0.0, look)
    return Checker(
        keys.PROFILE,
        chains,
        identity,
        contexts,
        look,
        DecryptionExpiry(86_400.0),
        REORG_WINDOW,
    ), head


def seen(name: str) -> Seen:
    log = keys.log(name)
    place = EventPlace(log.block_number, log.block_hash, log.transaction_hash, log.log_index)
    content = keys.content(name)
    return Seen(Request(1, ETHEREUM, log.address, content, bytes(32), place, float("inf")))


ALL = [
    "prep_keygen_default",
    "keygen_default",
    "crsgen_test_2048",
    "abort_keygen",
    "abort_crsgen",
    "context_2_new",
    "epoch_2_context_switch",
    "context_1_destroyed",
]
GENERATIONS = ALL[:3]
KEY = 4 << 248 | 7
SAYS_SO = {
    "abort_keygen": {
        mapping_slot(GENERATION_BASE + 6, keys.content("abort_keygen").id): KEY,
        mapping_slot(GENERATION_BASE + 1, KEY): 1,
    },
    "abort_crsgen": {mapping_slot(GENERATION_BASE + 1, keys.content("abort_crsgen").id): 1},
    "context_1_destroyed": {mapping_slot(CONFIG_BASE + 10, keys.content("context_1_destroyed").id): 1},
}
"""The contract's own state behind what a Core does for good."""


@pytest.mark.parametrize("name", ALL)
async def test_what_stands_goes_on(name: str) -> None:
    checker, _ = made(SAYS_SO.get(name))
    checked = await checker.check(seen(name))
    assert (checked.context_id, checked.epoch_id) == keys.content(name).context


@pytest.mark.parametrize("name", SAYS_SO)
async def test_what_a_core_does_for_good_waits_until_the_contract_says_so_too(name: str) -> None:
    """A log alone is one answer of one node."""
    checker, head = made()
    for _ in range(3):
        with pytest.raises(NotYet, match="the contract does not say"):
            await checker.check(seen(name))
        later(head)
        await trio.sleep(REORG_WINDOW)


@pytest.mark.parametrize("name", SAYS_SO)
async def test_what_a_core_does_for_good_waits_for_other_nodes_to_say_so(name: str) -> None:
    checker, _ = made(SAYS_SO[name])
    honest, _ = made()
    with pytest.raises(NotYet, match="another one says"):
        await AttestedChecker(checker, [honest.chains]).check(seen(name))
    honest, _ = made(SAYS_SO[name])
    await AttestedChecker(checker, [honest.chains]).check(seen(name))


async def test_what_one_node_says_is_over_waits_for_others_to_say_so() -> None:
    name = "crsgen_test_2048"
    finished = over(keys.content(name).id, consensus=True)
    checker, head = made(finished)
    honest, _ = made()
    with pytest.raises(NotYet, match="another one does not"):
        await confirmed(head, lambda: AttestedChecker(checker, [honest.chains]).check(seen(name)))
    honest, _ = made(finished)
    with pytest.raises(Over):
        await confirmed(head, lambda: AttestedChecker(checker, [honest.chains]).check(seen(name)))


def over(identifier: int, *, consensus: bool) -> dict[int, int]:
    return {
        mapping_slot(GENERATION_BASE + 1, identifier): 1,
        mapping_slot(GENERATION_BASE + 3, identifier): int(consensus),
    }


@pytest.mark.parametrize(
    ("views", "consensus", "error"),
    [({}, False, Aborted), ({}, True, Over), ({"getKmsNodeForContext": NOBODY}, True, Over)],
    ids=["aborted", "finished", "finished, and no member"],
)
@pytest.mark.parametrize("name", GENERATIONS)
async def test_what_was_aborted_ends_as_such_and_what_others_finished_is_over_for_whoever_waits(
    name: str, views: dict[str, Any], consensus: bool, error: type[Exception]
) -> None:
    """Starting alone what the others ended together would lead nowhere."""
    checker, head = made(over(keys.content(name).id, consensus=consensus), **views)
    with pytest.raises(error):
        await confirmed(head, lambda: checker.check(seen(name)))


@pytest.mark.parametrize("consensus", [False, True])
@pytest.mark.parametrize("name", GENERATIONS)
async def test_one_node_that_says_so_ends_nothing(name: str, consensus: bool) -> None:
    checker, head = made(over(keys.content(name).id, consensus=consensus))
    ethereum = checker.chains[ETHEREUM]
    assert isinstance(ethereum, Answers)
    said, ethereum.slots = ethereum.slots, {}
    for slots in (said, {}, said, {}):
        ethereum.slots = slots
        with pytest.raises(NotYet, match="asked again") if slots else nullcontext():
            await checker.check(seen(name))
        later(head)
        await trio.sleep(60.0)


async def test_another_end_than_before_is_named_for_the_first_time() -> None:
    """A block that went may have held the one, and its successor the other."""
    name = GENERATIONS[0]
    checker, head = made(over(keys.content(name).id, consensus=False))
    ethereum = checker.chains[ETHEREUM]
    assert isinstance(ethereum, Answers)
    with pytest.raises(NotYet, match="asked again"):
        await checker.check(seen(name))
    ethereum.slots = over(keys.content(name).id, consensus=True)
    later(head)
    await trio.sleep(REORG_WINDOW)
    with pytest.raises(NotYet, match="asked again"):
        await checker.check(seen(name))
    later(head)
    await trio.sleep(REORG_WINDOW)
    with pytest.raises(Over):
        await checker.check(seen(name))


async def test_what_one_node_calls_destroyed_is_made_until_others_say_so() -> None:
    """What makes a context does not stand under it, so that no check of it says so."""
    name = "context_2_new"
    ended = {mapping_slot(CONFIG_BASE + 10, keys.content(name).id): 1}
    (checker, head), (witness, _) = made(ended), made()
    other = witness.chains[ETHEREUM]
    assert isinstance(other, Answers)
    checker.contexts.witnesses = [other]
    with pytest.raises(DestroyedOnce, match="asked again"):
        await checker.check(seen(name))
    for slots, error in (({}, "another one does not"), (ended, "asked again")):
        other.slots = slots
        later(head)
        await trio.sleep(REORG_WINDOW)
        with pytest.raises(DestroyedOnce, match=error):
            await checker.check(seen(name))
    later(head)
    await trio.sleep(REORG_WINDOW)
    with pytest.raises(Destroyed):
        await checker.check(seen(name))


def answered(name: str) -> dict[int, int]:
    content = keys.content(name)
    if name == "context_2_new":
        return {mapping_slot(mapping_slot(CONFIG_BASE + 17, content.id), SENDER): 1}
    base = CONFIG_BASE + 18 if name.startswith("epoch") else GENERATION_BASE
    return {mapping_slot(mapping_slot(base, content.id), SIGNER): 1}


@pytest.mark.parametrize("name", [*GENERATIONS, "context_2_new", "epoch_2_context_switch"])
async def test_what_this_node_has_answered_is_done_once_that_is_old(
    name: str, mock_clock: trio.testing.MockClock
) -> None:
    checker, head = made(answered(name))
    head.number = seen(name).request.place.block  # just now: asked all the same, no Core may begin it twice
    with pytest.raises(NotYet, match="is in the contract"):
        await checker.check(seen(name))
    mock_clock.jump(REORG_WINDOW + 1)
    with pytest.raises(AlreadyDone):
        await checker.check(seen(name))


@pytest.mark.parametrize(
    ("views", "error", "told"),
    [
        ({"getKmsNodeForContext": NOBODY}, NotMember, "is not a node of context"),
        ({"isValidKmsContext": False}, NotYet, "not valid on chain"),
    ],
)
@pytest.mark.parametrize("name", GENERATIONS)
async def test_a_generation_waits_for_its_context_like_a_decryption(
    name: str, views: dict[str, Any], error: type[Exception], told: str
) -> None:
    checker, _ = made(**views)
    with pytest.raises(error, match=told):
        await checker.check(seen(name))


async def test_a_node_of_the_previous_context_works_on_the_epoch_too() -> None:
    """The Core sends its shares; only the activation is not this node's (P13)."""
    previous = keys.content("epoch_2_context_switch").previous_context_id

    def node_of(context: int, _: Address) -> Any:
        return (SENDER, SIGNER, "ip", "url") if context == previous else NOBODY

    checker, _ = made(getKmsNodeForContext=node_of)
    await checker.check(seen("epoch_2_context_switch"))
    assert await checker.identity.signer_for(seen("epoch_2_context_switch").request) is None


async def test_a_component_runs_at_once_and_nothing_meanwhile_or_after_waiting_was_stopped(
    bench: Bench,
) -> None:
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    member = Membership(bench.journal)
    await member.hold("reads", lambda: note("component"), lambda: note("meanwhile"))
    member.stop_waiting()
    await member.hold("sends", lambda: note("too late"))
    assert ran == ["component"]


async def test_it_is_always_valid_and_leaves_its_work_to_nobody(bench: Bench) -> None:
    member = Membership(bench.journal)
    await trio.sleep(10_000)
    await member.give_rows_back()
    assert member.is_valid()
    assert not member.has_successor
    assert member.look_again == LOOK_AGAIN


async def test_what_is_due_is_picked_without_what_is_busy(bench: Bench) -> None:
    first, second = await rows_of(bench, 2)
    member = Membership(bench.journal)
    due = await member.pick([Kind.PUBLIC_DECRYPTION], wall(), 10, frozenset({first.rid}), without=frozenset())
    assert [row.rid for row in due.rows] == [second.rid]

"""May a request be answered? Everything asked at once, in batches, and the first no comes out (outcomes.md, check)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from kmsconn.chain.asking import MAX_BATCH
from kmsconn.chain.follower import HeadTracker
from kmsconn.chain.port import RpcError
from kmsconn.errors import (
    AlreadyDone,
    Destroyed,
    DestroyedOnce,
    Misconfigured,
    NotMember,
    NotYet,
    Rejected,
    Unreachable,
    WrongSignature,
)
from kmsconn.ethereum.addresses import Address
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.life import Checked, Seen
from kmsconn.model.requests import NO_BLOCK, EventPlace, Request
from kmsconn.protocols.fhevm.contracts import CONFIG_BASE, DECRYPTION_BASE
from kmsconn.protocols.fhevm.decryptions import PublicDecryption
from kmsconn.protocols.fhevm.http_decryption import HTTP_LIFETIME, HttpPublicDecryption
from kmsconn.protocols.queries import mapping_slot
from kmsconn.requests.checker import DAY, HOUR, Checker, DecryptionExpiry
from kmsconn.requests.contexts import WITHOUT_BLOCKS, Contexts, Suspicions
from kmsconn.requests.identity import NodeIdentity
from kmsconn.testing.endings import cancel_everywhere
from tests.unit.requests.answers import PROFILE, SETTINGS, Answers, confirmed, later, request_of
from tests.unit.requests.test_contexts import Clock
from tests.vectors import load, request

GATEWAY = SETTINGS.chains.gateway.chain_id
SENDER, SIGNER = Address(b"\x0a" * 20), Address(b"\x0b" * 20)
EXPIRY, REORG_WINDOW = 86_400.0, 30.0
PUBLIC, LEGACY, UNIFIED = "public_one_v2", "user_legacy_direct_v2", "user_unified_own_v0"
NAMES = [PUBLIC, LEGACY, UNIFIED, "user_legacy_delegated_v1", "user_unified_delegated_v1"]
YES = {
    "isAllowedForDecryption": True,
    "isAllowed": True,
    "isHandleDelegatedForUserDecryption": True,
    "decryptionSignatureInvalidatedBefore": 0,
}


@attrs.define
class Place:
    """A checker and the chains that it asks."""

    checker: Checker
    gateway: Answers
    ethereum: Answers
    hosts: dict[int, Answers]
    head: HeadTracker

    async def check(self, name: str) -> Checked:
        return await self.checker.check(Seen(request_of(name, deadline=self.now + EXPIRY)))

    @property
    def now(self) -> float:
        return float(self.head.timestamp or 0)

    def answered(self, name: str, yes: bool = True) -> None:
        """Let the contract have our answer."""
        self.gateway.slots.clear()
        if yes:
            outer = mapping_slot(DECRYPTION_BASE + 1, request_of(name).id)
            self.gateway.slots[mapping_slot(outer, SIGNER)] = 1


def made(name: str = PUBLIC, **views: Any) -> Place:
    """Make everything say yes but what ``views`` say otherwise."""
    gateway = Answers(
        {"getKmsNodeForContext": (SENDER, SIGNER, "", ""), "getCurrentKmsContextId": 7 << 248 | 1}
    )
    ethereum = Answers({"isValidKmsContext": True, "isValidEpochForContext": True, **views})
    hosts = {number: Answers({**YES, **views}) for number in load()["environment"]["host_chains"]}
    entry = request(name)
    if "transaction" in entry:
        gateway.transactions[entry["log"]["transactionHash"]] = entry["transaction"]
    head = HeadTracker()
    head.note(110, entry["block_timestamp"])
    identity, look = NodeIdentity(PROFILE, {GATEWAY: gateway}, SENDER), Suspicions({GATEWAY: head})
    contexts = Contexts(PROFILE, ethereum, lambda: 0.0, look)
    checker = Checker(
        PROFILE,
        {GATEWAY: gateway, **hosts},
        identity,
        contexts,
        look,
        DecryptionExpiry(EXPIRY),
        REORG_WINDOW,
    )
    return Place(checker, gateway, ethereum, hosts, head)


async def test_a_context_that_was_destroyed_since_its_check_ends_the_answer_without_a_question() -> None:
    place = made(LEGACY)
    request = (await place.check(LEGACY)).request
    asked = len(place.ethereum.asked)
    await place.checker.recheck(request)
    place.checker.contexts.note_destroyed([request.content.context[0] or 0])
    with pytest.raises(Destroyed):
        await place.checker.recheck(request)
    assert len(place.ethereum.asked) == asked


async def test_an_answer_waits_while_one_node_says_that_its_context_was_destroyed() -> None:
    place = made(LEGACY)
    request = request_of(LEGACY)
    place.ethereum.slots[mapping_slot(CONFIG_BASE + 10, request.content.context[0] or 0)] = 1
    with pytest.raises(DestroyedOnce):
        await place.checker.recheck(request)
    later(place.head)
    await trio.sleep(WITHOUT_BLOCKS)
    with pytest.raises(Destroyed):
        await place.checker.recheck(request)


@pytest.mark.parametrize("name", NAMES)
async def test_a_good_request_passes_with_its_context_and_epoch(name: str) -> None:
    place = made(name)
    checked = await place.check(name)
    assert (checked.context_id, checked.epoch_id) == checked.request.content.context
    assert checked.request.content == request_of(name).content


@pytest.mark.parametrize("name", NAMES)
async def test_a_check_cancelled_anywhere_can_be_repeated(name: str) -> None:
    place = made(name)
    expected = await place.check(name)

    async def again() -> None:
        assert await place.check(name) == expected

    assert await cancel_everywhere(lambda: place.check(name), again) > 3


async def test_what_goes_to_one_chain_goes_in_one_batch_that_has_its_limit() -> None:
    name = "public_four_v2_two_chains_repeated_handle"
    place = made(name)
    await place.check(name)
    content = request_of(name).content
    assert isinstance(content, PublicDecryption)
    assert [len(host.batches) for host in place.hosts.values()] == [1, 1]
    assert sum(host.batches[0] for host in place.hosts.values()) == len(content.references)
    place, seen = made(), request_of(PUBLIC)
    assert isinstance(seen.content, PublicDecryption)
    many = attrs.evolve(seen.content, references=seen.content.references * (2 * MAX_BATCH + 1))
    await place.checker.check(Seen(attrs.evolve(seen, content=many)))
    assert sorted(size for host in place.hosts.values() for size in host.batches) == [1, MAX_BATCH, MAX_BATCH]


@pytest.mark.parametrize(
    ("name", "view"),
    [
        (PUBLIC, "isAllowedForDecryption"),
        (LEGACY, "isAllowed"),
        (UNIFIED, "isAllowed"),
        ("user_legacy_delegated_v1", "isHandleDelegatedForUserDecryption"),
        ("user_unified_delegated_v1", "isHandleDelegatedForUserDecryption"),
        (PUBLIC, "isValidKmsContext"),
        (PUBLIC, "isValidEpochForContext"),
    ],
)
async def test_every_no_is_waited_for(name: str, view: str) -> None:
    with pytest.raises(NotYet):
        await made(name, **{view: False}).check(name)


@pytest.mark.parametrize("name", NAMES)
async def test_a_host_chain_that_does_not_answer_is_unreachable(name: str) -> None:
    place = made(name)
    for host in place.hosts.values():
        host.views = dict.fromkeys(YES, Unreachable("down"))
    with pytest.raises(Unreachable, match="down"):
        await place.check(name)


async def test_a_chain_that_is_not_configured_is_named() -> None:
    place = made()
    place.checker.chains = {GATEWAY: place.gateway}
    with pytest.raises(Misconfigured, match=r"host chain \d+ is not configured"):
        await place.check(PUBLIC)


async def test_before_any_block_was_seen_there_is_no_time_to_judge_by() -> None:
    place = made()
    place.checker.suspicions.heads = {GATEWAY: HeadTracker()}
    with pytest.raises(Unreachable, match="no block"):
        await place.check(PUBLIC)


# The transaction of a legacy request.


@pytest.mark.parametrize(
    "transaction",
    [
        7,
        "text",
        [],
        {},
        {"to": None},
        {"to": "0x12", "input": "0x"},
        {"to": None, "input": 7},
        {"input": "0x"},
    ],
)
async def test_a_transaction_of_no_sense_is_unreachable(transaction: Any) -> None:
    place = made(LEGACY)
    place.gateway.transactions = dict.fromkeys(place.gateway.transactions, transaction)
    with pytest.raises(Unreachable, match="transaction that cannot be decoded"):
        await place.check(LEGACY)


async def test_a_node_that_refuses_to_give_the_transaction_is_waited_for() -> None:
    """outcomes: RPC error → wait, also where a single call is asked; anything else would be quarantined."""
    place = made(LEGACY)
    refused = RpcError(-32000, "header not found")
    place.gateway.transactions = dict.fromkeys(place.gateway.transactions, refused)
    with pytest.raises(Unreachable, match="header not found"):
        await place.check(LEGACY)


def invalidated(place: Place, before: int) -> None:
    for host in place.hosts.values():
        host.views["decryptionSignatureInvalidatedBefore"] = before


async def test_one_answer_of_a_host_chain_ends_no_request() -> None:
    place = made(UNIFIED)
    invalidated(place, 2**63)
    with pytest.raises(WrongSignature):
        await confirmed(place.head, lambda: place.check(UNIFIED))
    with pytest.raises(NotYet):
        await place.check(UNIFIED)
    invalidated(place, 0)
    later(place.head)
    await trio.sleep(CONFIRMING)
    await place.check(UNIFIED)
    invalidated(place, 2**63)
    later(place.head)
    await trio.sleep(CONFIRMING)
    with pytest.raises(NotYet):  # what was said before counts no more
        await place.check(UNIFIED)


async def test_one_wrong_transaction_ends_no_request_and_one_that_is_not_known_yet_is_waited_for() -> None:
    place = made(LEGACY)
    honest = dict(place.gateway.transactions)
    place.gateway.transactions = {one: {"to": None, "input": "0x"} for one in honest}
    with pytest.raises(NotYet):
        await place.check(LEGACY)
    place.gateway.transactions = {}
    with pytest.raises(NotYet, match="transaction"):
        await place.check(LEGACY)
    place.gateway.transactions = honest
    later(place.head)
    await place.check(LEGACY)
    place.gateway.transactions = {one: {"to": None, "input": "0x"} for one in honest}
    with pytest.raises(Rejected):
        await confirmed(place.head, lambda: place.check(LEGACY))


def not_a_member(place: Place) -> None:
    place.gateway.views["getKmsNodeForContext"] = (Address(bytes(20)), Address(bytes(20)), "", "")


def context_not_valid(place: Place) -> None:
    place.ethereum.views["isValidKmsContext"] = False


def answered(place: Place) -> None:
    place.answered(LEGACY)


WAITED_FOR = [not_a_member, context_not_valid, answered]


@pytest.mark.parametrize("what", ["to", "input"])
@pytest.mark.parametrize("wait_for", WAITED_FOR)
async def test_a_wrong_transaction_is_rejected_whatever_else_would_be_waited_for(
    wait_for: Callable[[Place], None], what: str
) -> None:
    """It would be looked at again and again, for as long as the other thing lasts."""
    place = made(LEGACY)
    wait_for(place)
    place.gateway.late = 1.0
    for found, transaction in place.gateway.transactions.items():
        place.gateway.transactions[found] = {**transaction, what: "0x" + "77" * 20}
    with pytest.raises(Rejected):
        await confirmed(place.head, lambda: place.check(LEGACY))
    assert trio.current_time() == pytest.approx(2 + CONFIRMING)


@pytest.mark.parametrize("wait_for", WAITED_FOR)
async def test_behind_a_good_transaction_the_other_failure_comes_out_and_no_host_chain_is_asked(
    wait_for: Callable[[Place], None],
) -> None:
    place = made(LEGACY)
    wait_for(place)
    place.gateway.late = 1.0
    with pytest.raises((NotYet, NotMember), match=r"is not a node|not valid on chain|asked again"):
        await place.check(LEGACY)
    assert [host.asked for host in place.hosts.values()] == [[]] * len(place.hosts)


@pytest.mark.parametrize(("name", "rounds"), [(PUBLIC, 1), (LEGACY, 2)])
async def test_what_needs_no_other_answer_is_asked_in_the_same_breath(name: str, rounds: int) -> None:
    """The host chain is asked while the Gateway is; but behind a transaction, and that is asked for while the Gateway is."""
    place = made(name)
    await place.check(name)  # now the node knows who it is
    for chain in (place.gateway, *place.hosts.values()):
        chain.delay = 1.0
    started = trio.current_time()
    await place.check(name)
    assert trio.current_time() - started == pytest.approx(rounds)


# Answered already.


@pytest.mark.parametrize("goes_away", [False, True])
async def test_an_answer_in_the_contract_counts_only_once_its_block_is_older_than_the_reorg_window(
    goes_away: bool, mock_clock: trio.testing.MockClock
) -> None:
    """A reorganisation may still take it back: then it begins to count anew. The time of one head says nothing about its age."""
    place = made()
    place.answered(PUBLIC)
    with pytest.raises(NotYet, match="asked again"):
        await place.check(PUBLIC)
    mock_clock.jump(REORG_WINDOW)
    place.head.note(130, int(place.now + 10 * REORG_WINDOW))
    with pytest.raises(NotYet):
        await place.check(PUBLIC)
    mock_clock.jump(1)
    if goes_away:
        place.answered(PUBLIC, yes=False)
        await place.check(PUBLIC)
        place.answered(PUBLIC)
    with pytest.raises(NotYet if goes_away else AlreadyDone):
        await place.check(PUBLIC)


@pytest.mark.parametrize(
    ("watched", "blocks", "looked_for"), [(10, 0, False), (10, 19, False), (10, 20, True), (9, 0, True)]
)
async def test_a_decryption_that_came_within_five_seconds_is_not_looked_for_among_the_answers(
    watched: int, blocks: int, looked_for: bool
) -> None:
    """Who answers it twice finds that out when the reply is estimated. Before the pace of the chain is known nothing is new."""
    place = made()
    await place.check(PUBLIC)  # now the node knows who it is
    place.answered(PUBLIC)
    place.head.note(110 + 4 * watched, int(place.now) + watched)
    asked, place.head.number = len(place.gateway.asked), request_of(PUBLIC).place.block + blocks
    with pytest.raises(NotYet) if looked_for else nullcontext():
        await place.check(PUBLIC)
    assert len(place.gateway.asked) - asked == looked_for


async def test_an_answer_of_another_signer_is_not_ours() -> None:
    place = made()
    outer = mapping_slot(DECRYPTION_BASE + 1, request_of(PUBLIC).id)
    place.gateway.slots[mapping_slot(outer, SENDER)] = 1
    await place.check(PUBLIC)


async def test_a_window_is_over_only_when_a_second_look_says_so() -> None:
    """A node once told a head far in the future."""
    place = made(UNIFIED)
    deadline = place.now + EXPIRY
    late = int(place.now) + 400 * 86_400

    async def look() -> None:
        place.head.note(111, late)
        await place.checker.check(Seen(request_of(UNIFIED, deadline=deadline)))

    with pytest.raises(NotYet, match="one node"):
        await look()
    await trio.sleep(CONFIRMING)
    with pytest.raises(NotYet, match="one node"):
        await look()  # the earlier look had the right time
    await trio.sleep(CONFIRMING)
    with pytest.raises(NotYet, match="later head"):
        await look()  # over by the settled time, for the first time
    place.head.note(112, late)
    await trio.sleep(CONFIRMING)
    with pytest.raises(Rejected):
        await place.checker.check(Seen(request_of(UNIFIED, deadline=deadline)))


async def test_a_window_is_over_only_by_two_clocks() -> None:
    """All nodes of a chain may tell a wrong time, and a machine's clock may be wrong for hours."""
    place = made(UNIFIED)
    deadline = place.now + EXPIRY
    late, clock = place.now + 400 * 86_400, Clock(deadline - 1.0)
    place.checker.wall = clock
    for number in range(111, 121):
        place.head.note(number, int(late))
        await trio.sleep(CONFIRMING)
        with pytest.raises(NotYet, match="by the time of one node"):
            await place.checker.check(Seen(request_of(UNIFIED, deadline=deadline)))
    clock.seconds = late
    with pytest.raises(Rejected):
        await confirmed(place.head, lambda: place.checker.check(Seen(request_of(UNIFIED, deadline=deadline))))


async def test_no_request_grows_old_by_one_head() -> None:
    """A contract wallet says no for good to a request of some age."""
    place = made()
    request = request_of(PUBLIC, deadline=place.now + EXPIRY)
    place.head.note(111, int(place.now) + 400 * 86_400)
    assert place.checker._facts(request).age == 0.0
    place.head.note(112, int(request.deadline - EXPIRY) + 1)
    await trio.sleep(CONFIRMING)
    place.head.note(113, int(request.deadline - EXPIRY) + 7)
    assert place.checker._facts(request).age <= 7.0


async def test_the_age_of_a_request_over_http_is_that_since_it_was_recorded() -> None:
    """It is given up sooner than ``decryption_expiry``, and its deadline tells when it was recorded."""
    place = made()
    content = HttpPublicDecryption.of([b"\x01" * 32], b"")
    recorded = float(place.head.timestamp or 0)
    somewhere = EventPlace(NO_BLOCK, b"", b"", 0)
    posted = Request(1, GATEWAY, Address(bytes(20)), content, b"", somewhere, recorded + HTTP_LIFETIME)
    for _ in range(3):
        place.head.note(111, int(recorded) + 50)
        await trio.sleep(CONFIRMING)
    assert place.checker._facts(posted).age == 50.0


@pytest.mark.parametrize(
    ("option", "later", "seconds"),
    [
        pytest.param(None, None, DAY, id="nobody knows the network yet"),
        pytest.param(None, False, DAY, id="0.14"),
        pytest.param(None, True, HOUR, id="0.15"),
        pytest.param(7200.0, None, 7200.0, id="the option wins"),
        pytest.param(7200.0, False, 7200.0, id="the option wins over 0.14"),
        pytest.param(7200.0, True, 7200.0, id="the option wins over 0.15"),
    ],
)
def test_a_request_expires_at_the_age_of_the_option_or_the_network(
    option: float | None, later: bool | None, seconds: float
) -> None:
    expiry = DecryptionExpiry(option, later)
    assert expiry.seconds() == seconds
    assert expiry.shortest() <= seconds <= expiry.longest()


def test_when_the_network_changes_or_is_not_asked_yet_no_row_is_taken_for_older_than_it_is() -> None:
    """Before an upgrade rows have the deadline of a day; after a restart those of an hour may be of either."""
    expiry = DecryptionExpiry(None, False)
    deadline = 1000.0 + expiry.seconds()
    expiry.later = True
    assert deadline - expiry.longest() <= 1000.0
    deadline = 1000.0 + expiry.seconds()
    expiry.later = None
    assert deadline - expiry.shortest() >= 1000.0

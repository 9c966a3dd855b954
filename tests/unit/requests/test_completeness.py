"""What the contract has numbered is compared with the journal: what is missing, since when, and where it is looked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.follower import HeadTracker
from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Unreachable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG, make_id
from kmsconn.journal.inspecting import UndecodableLog
from kmsconn.journal.queries import JournalPlace
from kmsconn.journal.rows import pack_log, place_of
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity, UnknownRequestsHeard
from kmsconn.model.requests import Kind
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from kmsconn.requests import completeness
from kmsconn.requests.completeness import NAME, PROOF_INTERVAL, Completeness
from kmsconn.requests.cursor import Cursor
from tests.unit.requests.bench import PROFILE, SETTINGS
from tests.vectors import httpz

SUBSCRIPTION, *_ = PROFILE.subscriptions()
UNHEARD_OF = "0x" + "be" * 32


def public(counter: int) -> int:
    return make_id(PUBLIC_DECRYPTION_TAG, counter)


def user(counter: int) -> int:
    return make_id(USER_DECRYPTION_TAG, counter)


def unheard_logs(unheard: dict[int, int], criteria: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the logs that carry ids which are asked for, each under a topic that no release has."""
    first, last = int(criteria["fromBlock"], 16), int(criteria["toBlock"], 16)
    asked = criteria["topics"][1]
    return [
        {
            "address": criteria["address"],
            "topics": [UNHEARD_OF, to_hex(id_.to_bytes(32))],
            "data": "0x",
            "blockNumber": hex(block),
            "blockHash": to_hex(bytes(32)),
            "transactionHash": to_hex(bytes(32)),
            "logIndex": "0x0",
        }
        for id_, block in unheard.items()
        if first <= block <= last and to_hex(id_.to_bytes(32)) in asked
    ]


@attrs.define
class World:
    """A gateway with two counters, a journal that knows some ids, a reader with a cursor: all that a proof looks at."""

    counters: list[int] = attrs.field(factory=lambda: [0, 0])
    known: dict[int, int] = attrs.field(factory=dict)
    hidden: dict[int, int] = attrs.field(factory=dict)
    """What reading again would find: id → block."""
    unknown: frozenset[Kind] = frozenset()
    """Kinds of which the journal knows none."""
    profile: Any = PROFILE
    logs: tuple[Log, ...] = ()
    next_block: int | None = 101
    from_block: int | None = 0
    down: bool = False
    error: RpcError | None = None
    read: list[tuple[int, int]] = attrs.field(factory=list)
    events: list[Event] = attrs.field(factory=list)
    subscription: Any = SUBSCRIPTION
    head: HeadTracker = attrs.field(factory=HeadTracker)
    chain_id: int = SUBSCRIPTION.chain_id
    damaged: dict[int, str] = attrs.field(factory=dict)
    marks: dict[Kind, JournalPlace] = attrs.field(factory=dict)
    asked: list[tuple[int, int]] = attrs.field(factory=list)
    """The ids that the journal was asked for."""
    generation: int = 0
    gone: int = 0
    components: Any = None
    cursor: Cursor = attrs.field(factory=lambda: Cursor(0, size=1000))
    witnesses: Sequence[Any] = ()
    unheard: dict[int, int] = attrs.field(factory=dict)
    """What came in a form that nobody knows: id → block."""
    refusal: RpcError | None = None
    """What the node says instead of any logs."""
    searched: int = 0
    """How often it was asked for logs."""
    reorg_window: float = SETTINGS.reading.reorg_window

    @property
    def follower(self) -> World:
        return self

    @property
    def settled(self) -> int:
        return (self.next_block or 0) - 50

    @property
    def chain_context(self) -> World:
        return self

    @property
    def contract(self) -> World:
        return self

    @property
    def journal(self) -> World:
        return self

    @property
    def name(self) -> str:
        return checksum(self.subscription.contract)

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        if self.down:
            raise Unreachable("down")
        counters = iter(self.counters)
        return [self._answer(call, counters) for call in calls]

    def _answer(self, call: Call, counters: Iterator[int]) -> Any:
        """Answer for a counter, or for a block and what stands in the blocks under topics that nobody knows."""
        if call.method == "eth_getLogs":
            self.searched += 1
            return self.refusal or unheard_logs(self.unheard, call.params[0])
        if call.method == "eth_getBlockByNumber":
            return {"number": call.params[0], "timestamp": "0x0", "hash": None}
        return self.error or to_hex(next(counters).to_bytes(32))

    async def headers(self, blocks: Collection[int]) -> dict[int, bytes]:
        await trio.lowlevel.checkpoint()
        return dict.fromkeys(blocks, bytes(32))

    async def run(self, operation: Any, *arguments: Any, **options: Any) -> Any:
        """Do what the journal's operation of this name does."""
        return await getattr(self, operation.__name__)(*arguments, **options)

    async def places(self, kind: Kind, ids: tuple[int, int], limit: int) -> tuple[JournalPlace, ...]:
        await trio.lowlevel.checkpoint()
        self.asked.append(ids)
        found = sorted(one for one in self.known if ids[0] <= one <= ids[1] and kind not in self.unknown)
        return tuple(JournalPlace(one, self.known[one]) for one in found[:limit])

    async def low_water(self, kind: Kind) -> JournalPlace | None:
        await trio.lowlevel.checkpoint()
        return self.marks.get(kind)

    async def raise_low_water(self, kind: Kind, place: JournalPlace) -> None:
        await trio.lowlevel.checkpoint()
        self.marks[kind] = place

    def fork(self) -> None:
        """Let the reader go back to a fork below everything: nothing above it stands any more."""
        self.generation += 1
        self.known.clear()
        self.marks.clear()

    async def undecodable_logs(self) -> tuple[UndecodableLog, ...]:
        await trio.lowlevel.checkpoint()
        return tuple(
            UndecodableLog(1, log.address, pack_log(log), place_of(log), "odd", 0.0) for log in self.logs
        )

    async def read_again(self, first: int, last: int) -> bool:
        await trio.lowlevel.checkpoint()
        self.read.append((first, last))
        self.known |= {one: block for one, block in self.hidden.items() if first <= block <= last}
        return True

    def blocks(self, counters: Sequence[int], *, issued: int | None = None) -> None:
        """Let public requests of these counters be known, the n-th in block 10 n; ``issued`` is the contract's counter."""
        self.known |= {public(counter): 10 * counter for counter in counters}
        self.counters[0] = public(issued if issued is not None else max(counters, default=0))

    @property
    def told(self) -> list[str]:
        """What was said, in a word each."""
        return [event.text if isinstance(event, AlertRaised) else "recovered" for event in self.events]


def numbered(counters: Sequence[int], /, *, issued: int | None = None, **others: Any) -> World:
    """Return a world with the public requests of these counters."""
    world = World(**others)
    world.blocks(counters, issued=issued)
    return world


@asynccontextmanager
async def proving(world: World) -> AsyncIterator[Completeness]:
    world.head.note(100, 1000)
    world.components = SimpleNamespace(
        profile=world.profile, settings=SETTINGS, journal=world,
        on_event=world.events.append,
        board=Board(world.events.append, trio.current_time),
        checker=SimpleNamespace(expiry=SimpleNamespace(seconds=lambda: 86_400.0)),
    )  # fmt: skip
    proof = Completeness(world)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proof.run)
        await trio.sleep(1)
        yield proof
        nursery.cancel_scope.cancel()


async def rounds(number: int = 1) -> None:
    await trio.sleep(number * max(PROOF_INTERVAL, SETTINGS.reading.reorg_window))


_LOG = Log(SUBSCRIPTION.contract, (bytes(32), public(2).to_bytes(32)), b"", 20, bytes(32), bytes(32), 0)
_SENSELESS = (0, 1, 5 << 248, (1 << 248) | (1 << 200), (1 << 256) - 1, public(0))
_BEGAN_LATER: dict[str, Any] = {"known": {public(7): 70, public(8): 80}, "counters": [public(8), user(5)]}

# The public requests that are known, or what else there is; how many rounds; how many are missing then, and where they are looked for.
CASES: dict[str, tuple[World, int, int, list[tuple[int, int]]]] = {
    "all is known": (numbered(range(1, 8)), 3, 0, []),
    "a gap is looked for each round": (numbered([1, 3]), 4, 1, [(10, 30)] * 4),
    "the newest up to where the reader is": (numbered([1], issued=4), 1, 3, [(10, 100)]),
    "piece by piece": (numbered([n for n in range(1, 21) if n not in {4, 11}]), 1, 2, [(30, 50), (100, 120)]),
    "what could not be read was heard": (
        numbered([1, 3], logs=(_LOG, attrs.evolve(_LOG, topics=()))), 2, 0, [],
    ),
    "what is found again is over": (numbered([1, 2, 4], hidden={public(3): 30}), 4, 0, [(20, 40)]),
    "above its first id it answers for everything": (
        World(from_block=None, known={public(7): 70, public(9): 90}, counters=[public(9), 0]), 1, 1, [(70, 90)],
    ),
    "it began later": (World(from_block=None, **_BEGAN_LATER), 3, 0, []),
    "it began at a block": (World(from_block=500, **_BEGAN_LATER), 3, 0, []),
    "an error is no answer": (numbered([1], issued=2, error=RpcError(-32601, "no such method")), 2, 0, []),
    **{
        f"counters of no sense {number:x}": (World(counters=[number, number & ~(0xFF << 248)]), 3, 0, [])
        for number in _SENSELESS
    },
}  # fmt: skip


@pytest.mark.parametrize(("world", "number", "missing", "read"), CASES.values(), ids=CASES)
async def test_what_is_missing_is_counted_looked_for_and_told_once(
    world: World, number: int, missing: int, read: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completeness, "CHUNK", 3)
    async with proving(world) as proof:
        await rounds(number)
        assert (proof.missing, world.read) == (missing, read)
    over = [AlertCleared] if read and not missing else []
    assert [type(event) for event in world.events] == ([AlertRaised] if read else []) + over


@pytest.mark.parametrize(
    ("before", "after"),
    [({"next_block": 50}, {"next_block": 101}), ({"next_block": None}, {"next_block": 101}), ({"down": True}, {"down": False})],
    ids=["the reader has not passed the head of then", "the reader has not begun", "the gateway is down"],
)  # fmt: skip
async def test_nothing_is_said_while_nothing_is_sure(before: dict[str, Any], after: dict[str, Any]) -> None:
    world = numbered([1], issued=9, **before)
    async with proving(world):
        await rounds(3)
        assert world.events == []
        for name, value in after.items():
            setattr(world, name, value)
        await rounds(2)
        assert len(world.events) == 1


async def test_what_is_missing_is_named_in_red_and_read_again_between_its_adjacent_ids() -> None:
    world = numbered([1, 2, 5, 7])
    async with proving(world) as proof:
        await rounds()
        assert proof.missing == 3
        assert world.read == [(20, 70)]
    [told] = world.events
    assert told == AlertRaised(
        f"{NAME} {checksum(SUBSCRIPTION.contract)}",
        "missing-requests",
        f"3 requests are not in the journal: 0x{public(3):064x}, 0x{public(6):064x} …",
        Severity.CRITICAL,
    )


@pytest.mark.parametrize("kind", [Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION])
async def test_counters_of_one_contract_are_proved_each_though_their_ids_have_no_tags(kind: Kind) -> None:
    profile = HttpzRc7(httpz.settings())
    world = World(
        [2, 2],
        {1: 10, 2: 20},
        unknown=frozenset({kind}),
        profile=profile,
        subscription=profile.subscriptions()[0],
    )
    async with proving(world) as proof:
        await rounds()
        assert proof.missing == 2


async def test_each_contract_has_a_trouble_of_its_own() -> None:
    told = []
    for subscription in PROFILE.subscriptions()[:2]:
        world = World([0] * 3, subscription=subscription, known={}, from_block=0)
        world.counters = [make_id(one.tag, one.before_first + 1) for one in PROFILE.numberings(subscription)]
        async with proving(world):
            await rounds()
        told += [event.dependency for event in world.events if isinstance(event, AlertRaised)]
    assert told == [f"{NAME} {checksum(one.contract)}" for one in PROFILE.subscriptions()[:2]]


async def test_what_a_read_takes_off_chain_is_missing_though_it_was_complete() -> None:
    world = numbered(range(1, 8))
    async with proving(world) as proof:
        await rounds(2)
        del world.known[public(3)]
        world.gone += 1
        await rounds()
        assert (proof.missing, world.read) == (1, [(20, 40)])


async def test_both_counters_are_compared() -> None:
    world = World(counters=[0, user(2)], known={user(1): 10})
    async with proving(world) as proof:
        await rounds()
        assert proof.missing == 1
    assert f"0x{user(2):064x}" in world.told[0]


async def test_what_was_just_issued_has_a_round_to_arrive() -> None:
    world = numbered([1])
    async with proving(world):
        for counter in range(2, 9):
            world.blocks([counter - 1], issued=counter)
            await rounds()
    assert world.events == []


async def test_a_lower_counter_of_a_lagging_node_accuses_nobody() -> None:
    world = numbered([1, 2, 3], issued=9)
    async with proving(world):
        world.counters[0] = public(3)
        await rounds(2)
    assert world.events == []


# Where the journal begins.


async def test_what_was_issued_since_the_start_is_missed_even_when_nothing_was_ever_heard() -> None:
    world = World(from_block=None, counters=[public(5), 0])
    async with proving(world) as proof:
        world.counters = [public(6), user(1)]
        await rounds(2)
        assert proof.missing == 2
        assert all(last == 100 and 0 <= first < 100 for first, last in world.read)


# What proves nothing.


async def test_nothing_below_the_low_water_mark_is_asked_for() -> None:
    """Most of its rows are deleted."""
    world = World(marks={Kind.PUBLIC_DECRYPTION: JournalPlace(public(1000), 50)})
    world.known[public(1001)] = 60
    world.counters[0] = public(1001)
    async with proving(world) as proof:
        await rounds(2)
        assert proof.missing == 0
    assert min(first for first, _ in world.asked) == public(1001)


@pytest.mark.parametrize(("known", "complete"), [(range(1, 8), 7), ((1, 2, 5, 7), 2)])
async def test_what_is_complete_becomes_the_low_water_mark_once_it_is_final(
    known: Sequence[int], complete: int
) -> None:
    world = numbered(known)
    async with proving(world):
        await rounds(3)
        assert world.marks == {}
        world.head.note(100_000, 1000 + 36_000)
        world.next_block = 100_001
        await rounds(2)
    assert world.marks[Kind.PUBLIC_DECRYPTION] == JournalPlace(public(complete), 10 * complete)


async def test_the_id_of_a_row_that_was_set_aside_is_looked_for_again() -> None:
    world = numbered(range(1, 8))
    async with proving(world) as proof:
        await rounds(2)
        assert proof.missing == 0
        del world.known[public(4)]
        world.damaged[4] = "its log cannot be read"
        await rounds()
        assert world.read == [(30, 50)]


async def test_after_a_fork_the_proof_begins_at_the_mark_again() -> None:
    """What was complete above the fork may be missing now."""
    world = numbered(range(1, 8))
    async with proving(world) as proof:
        await rounds(2)
        assert proof.missing == 0
        world.fork()
        world.blocks([1, 2, 5, 6, 7])
        await rounds(2)
        assert proof.missing == 2


@pytest.mark.parametrize("call", ["batch", "undecodable_logs", "places", "raise_low_water"])
async def test_a_fork_in_the_middle_of_a_round_leaves_no_mark_and_accuses_nobody(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal has lowered its marks to the fork, and its rows above it are off chain until they are read again."""
    world = numbered(range(1, 8), counters=[0, user(2)])
    world.known |= {user(1): 10, user(2): 20}
    honest = getattr(World, call)
    async with proving(world) as proof:
        await rounds(2)
        world.head.note(100_000, 1000 + 36_000)
        world.next_block = 100_001
        world.blocks([8])
        await rounds(1)
        world.marks.clear()
        proof._marks = {kind: attrs.evolve(place, id=place.id - 1) for kind, place in proof._complete.items()}

        async def strike(self: World, *given: Any, **options: Any) -> Any:
            monkeypatch.setattr(World, call, honest)
            found = await honest(self, *given, **options)
            self.fork()
            return found

        monkeypatch.setattr(World, call, strike)
        await rounds(1)
        assert world.generation == 1
        assert (world.marks, world.events) == ({}, [])


# Requests in forms that nobody knows.


@attrs.frozen
class OtherNode:
    """A witness that shows these, or does not answer."""

    unheard: dict[int, int]
    down: bool = False

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        if self.down:
            raise Unreachable("no second connection")
        block, logs = calls
        return [
            {"number": block.params[0], "timestamp": "0x0", "hash": None},
            unheard_logs(self.unheard, logs.params[0]),
        ]


UNHEARD = {public(2): 20, public(3): 30}


def with_unheard(*witnesses: OtherNode, **others: Any) -> World:
    return numbered([1, 4], unheard=dict(UNHEARD), witnesses=witnesses, **others)


def reported(world: World) -> list[int]:
    return [event.count for event in world.events if isinstance(event, UnknownRequestsHeard)]


async def test_what_came_in_an_unknown_form_is_told_once_not_missing_and_asked_for_until_it_is_sure() -> None:
    world = with_unheard(OtherNode(UNHEARD))
    async with proving(world) as proof:
        await rounds(8)
        assert (proof.missing, world.read, world.searched) == (0, [], 2)
    told, raised = world.events
    assert isinstance(raised, AlertRaised)
    assert (raised.cause, raised.severity, raised.count) == ("unknown-event", Severity.WARNING, 2)
    of = (SUBSCRIPTION.chain_id, SUBSCRIPTION.contract, Kind.PUBLIC_DECRYPTION)
    assert told == UnknownRequestsHeard(*of, bytes.fromhex(UNHEARD_OF[2:]), 2, 30)


@pytest.mark.parametrize(
    ("witness", "missing", "heard"),
    [(OtherNode({public(2): 20}), 1, [1]), (OtherNode({}), 2, []), (OtherNode({public(2): 20, public(3): 31}), 1, [1])],
    ids=["one of them", "none", "elsewhere"],
)  # fmt: skip
async def test_what_another_node_does_not_show_is_missing(
    witness: OtherNode, missing: int, heard: list[int]
) -> None:
    world = with_unheard(OtherNode(UNHEARD), witness)
    async with proving(world) as proof:
        await rounds(4)
        assert proof.missing == missing
    assert reported(world) == heard


async def test_while_no_other_node_answers_it_is_not_missing_and_the_proof_stays_below() -> None:
    world = with_unheard(OtherNode({}, down=True))
    async with proving(world) as proof:
        await rounds(4)
        assert proof.missing == 0
        assert proof._complete[Kind.PUBLIC_DECRYPTION].id == public(1)
        world.unheard.clear()
        await rounds(1)
        assert proof.missing == 2


async def test_a_node_that_refuses_such_a_question_leaves_the_ids_missing_from_the_second_look() -> None:
    world = with_unheard(refusal=RpcError(-32602, "a topic must not be null"))
    async with proving(world) as proof:
        await rounds(1)
        assert proof.missing == 0
        await rounds(1)
        assert proof.missing == 2


async def test_a_wide_question_is_halved_for_a_node_that_takes_fewer_blocks() -> None:
    honest = World._answer

    class Narrow(World):
        def _answer(self, call: Call, counters: Iterator[int]) -> Any:
            criteria = call.params[0] if call.method == "eth_getLogs" else {}
            if criteria and int(criteria["toBlock"], 16) - int(criteria["fromBlock"], 16) > 8:
                return RpcError(-32602, "block range too large")
            return honest(self, call, counters)

    world = Narrow(unheard=dict(UNHEARD))
    world.blocks([1, 4])
    async with proving(world) as proof:
        await rounds(4)
        assert proof.missing == 0


async def test_after_a_fork_they_are_asked_for_again_and_those_of_the_same_block_are_not_reported_twice() -> (
    None
):
    world = with_unheard()
    async with proving(world) as proof:
        await rounds(4)
        world.fork()
        world.blocks([1, 4])
        del world.unheard[public(3)]
        await rounds(4)
        assert proof.missing == 1
    assert reported(world) == [2]


async def test_the_low_water_mark_stays_below_them_until_nobody_would_work_on_them_and_then_they_are_over() -> (
    None
):
    """A version that knows their form begins at the mark, and finds them."""
    world = with_unheard()
    async with proving(world) as proof:
        await rounds(4)
        world.head.note(100_000, 1000 + 36_000)
        world.next_block = 100_001
        await rounds(3)
        assert world.marks == {}
        world.head.note(1_000_000, 1000 + 360_000)
        world.next_block = 1_000_001
        await rounds(3)
        assert world.marks == {Kind.PUBLIC_DECRYPTION: JournalPlace(public(4), 40)}
        assert proof.missing == 0
    assert world.told[-1] == "recovered"

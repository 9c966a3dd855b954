"""The reader of one contract against a scripted endpoint: pushes only wake it, the journal has all before the cursor passes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Never

import attrs
import pytest
import trio

from kmsconn.chain.fork import LAGGING
from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import JournalFailed, Unreachable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.journal import queries, recording
from kmsconn.journal.queries import ReadUpTo
from kmsconn.journal.recording import Recorded
from kmsconn.model.alerts import Board
from kmsconn.model.causes import CAUSES
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.events import (
    AlertCleared,
    AlertRaised,
    BackfillProgressed,
    ChainReorganised,
    CursorMoved,
    LogQuarantined,
    RequestRecorded,
    RequestsMoved,
)
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.decryptions import Decryption
from kmsconn.protocols.fhevm.profile import EVENTS
from kmsconn.protocols.profile import Subscription
from kmsconn.requests.checker import DecryptionExpiry
from kmsconn.requests.components import ChainContext, follow
from kmsconn.requests.cursor import Range, rewound
from kmsconn.requests.dispatcher import WorkerPool
from kmsconn.requests.range_reader import WatchedContract
from kmsconn.requests.reader import LogReader
from kmsconn.transport.waiting import Heartbeats, WakeUp
from tests.unit.requests.bench import CHAIN_TIME, EXPIRY, PROFILE, SETTINGS, Bench, open_bench, wall
from tests.vectors import keys, log_of, request

SUBSCRIPTION, GENERATION, CONFIG = PROFILE.subscriptions()
POLLING = 0.5
REORG_WINDOW = 30.0
NAMES = ("public_one_v0", "user_legacy_direct_v0", "user_unified_own_v0", "public_three_v0")


def log(name: str, block: int, *, fork: int = 0, index: int = 0, **changes: Any) -> Log:
    """Return a request's log in another block."""
    changes = {"block_hash": bytes([fork]) * 28 + block.to_bytes(4), **changes}
    return attrs.evolve(log_of(request(name)), block_number=block, log_index=index, **changes)


def as_json(one: Log) -> dict[str, Any]:
    return {
        "address": to_hex(one.address),
        "topics": [to_hex(topic) for topic in one.topics],
        "data": to_hex(one.data),
        "blockNumber": quantity(one.block_number),
        "blockHash": to_hex(one.block_hash),
        "transactionHash": to_hex(one.transaction_hash),
        "logIndex": quantity(one.log_index),
    }


@attrs.define
class Chain:
    """A scripted endpoint: a head, some logs, a limit to ranges, and ``next_`` answers that are given instead, once each."""

    head: int = 100
    logs: list[Log] = attrs.field(factory=list)
    next_: deque[Exception | Callable[[list[Any]], list[Any]]] = attrs.field(factory=deque)
    spoil: Callable[[list[Any]], list[Any]] | None = None
    """What becomes of every answer while it is set."""
    widest: int | None = None
    latency: float = 0.001
    forks: list[tuple[int, int]] = attrs.field(factory=list)
    """Reorganisations: the block above which all hashes differ, and a number that rises."""
    ranges: list[tuple[int, int]] = attrs.field(factory=list)
    tags: list[str] = attrs.field(factory=list)
    """The names of the blocks that were asked for as the head."""
    name: str = "gateway"
    is_down: bool = False
    chain_id: int = SETTINGS.chains.gateway.chain_id
    notify: Callable[[Any], None] | None = None

    async def call(self, method: str, *params: Any) -> Any:
        await trio.sleep(self.latency)
        if self.next_ and isinstance(error := self.next_.popleft(), Exception):
            raise error
        return self._named(params[0])

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.sleep(self.latency)
        spoil = self.next_.popleft() if self.next_ else None
        if isinstance(spoil, Exception):
            raise spoil
        answer = [
            self._logs(call.params[0]) if call.method == "eth_getLogs" else self._named(call.params[0])
            for call in calls
        ]
        spoil = spoil or self.spoil
        return spoil(answer) if spoil is not None else answer

    def _named(self, block: str) -> dict[str, str] | None:
        if block.startswith("0x"):
            return self._block(int(block, 16)) if int(block, 16) <= self.head else None
        self.tags.append(block)
        return self._block(self.head)

    def _block(self, number: int) -> dict[str, str]:
        fork = max((fork for root, fork in self.forks if number > root), default=0)
        hash_ = to_hex(bytes([fork]) * 28 + number.to_bytes(4))
        return {"number": quantity(number), "timestamp": quantity(CHAIN_TIME + number), "hash": hash_}

    def _logs(self, criteria: dict[str, Any]) -> Any:
        first = int(criteria["fromBlock"], 16)
        last = self.head if criteria["toBlock"] in self.tags else int(criteria["toBlock"], 16)
        self.ranges.append((first, last))
        if self.widest is not None and last - first >= self.widest:
            return RpcError(-32005, f"block range is too wide: at most {self.widest} blocks")
        return [as_json(one) for one in self.logs if first <= one.block_number <= min(last, self.head)]

    async def listen(self, subscription: Sequence[Any], notify: Callable[[Any], None]) -> Never:
        self.notify = notify
        notify(None)
        await trio.sleep_forever()
        raise AssertionError

    def push(self, said: str = "{}") -> None:
        """Notify as the node does."""
        assert self.notify is not None
        self.notify(said.encode())


@attrs.define
class Reading:
    """A reader, its endpoint and its journal."""

    bench: Bench
    chain: Chain
    reader: LogReader
    pools: dict[Kind, WorkerPool]

    @property
    def recorded(self) -> list[int]:
        """The ids that became rows, in order."""
        return [event.id for event in self.bench.told(RequestRecorded)]

    async def stored(self) -> ReadUpTo:
        """Return what the journal says of the reading."""
        of = SUBSCRIPTION
        found = await self.bench.journal.run(queries.progress, of.chain_id, of.contract)
        assert found is not None
        return found

    async def stored_cursor(self) -> int:
        return (await self.stored()).next_block


def id_of(name: str) -> int:
    return int.from_bytes(log_of(request(name)).topics[1])


@asynccontextmanager
async def reading(
    folder: Path,
    chain: Chain,
    *,
    from_block: int | None = 0,
    journal: Any = None,
    size: int = 100,
    subscription: Subscription = SUBSCRIPTION,
) -> AsyncIterator[Reading]:
    async with open_bench(folder) as bench:
        pools = {
            kind: WorkerPool(PROFILE.operations[kind].pool, (kind,), 4, WakeUp())
            for kind in PROFILE.operations
        }
        follower = follow(chain, bench.journal, REORG_WINDOW, wall, bench.events.append)  # type: ignore[arg-type]
        chain_context = ChainContext("gateway", chain, POLLING, from_block, follower)  # type: ignore[arg-type]
        components = SimpleNamespace(
            journal=journal(bench) if journal else bench.journal,
            settings=SETTINGS.but(reorg_window=REORG_WINDOW, get_logs_batch_size=size),
            profile=PROFILE,
            ports=SimpleNamespace(wall=wall),
            heartbeats=Heartbeats(trio.current_time),
            checker=SimpleNamespace(expiry=DecryptionExpiry(EXPIRY)),
            on_event=bench.events.append,
            board=Board(bench.events.append, trio.current_time),
            pool_for=pools,
            chain_contexts={subscription.chain_id: chain_context},
        )
        reader = LogReader.of(WatchedContract.of(components, subscription))  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.run)
            await trio.sleep(0.1)
            yield Reading(bench, chain, reader, pools)
            nursery.cancel_scope.cancel()


# Where it begins.


@pytest.mark.parametrize("troubles", [[], [Unreachable("down"), RpcError(-32000, "starting")]])
async def test_a_first_start_begins_at_the_head_and_waits_for_one(
    troubles: list[Exception], tmp_path: Path
) -> None:
    chain = Chain(logs=[log(NAMES[0], 50)], next_=deque(troubles))
    async with reading(tmp_path, chain, from_block=None) as it:
        assert it.reader.ranges.next_block is None
        await trio.sleep(3 * POLLING * len(troubles) + CONFIRMING)
        assert it.recorded == []
        assert it.reader.ranges.next_block == 101


async def test_a_first_head_that_the_second_look_does_not_reach_hides_nothing(tmp_path: Path) -> None:
    chain = Chain(head=1 << 31)
    async with reading(tmp_path, chain, from_block=None) as it:
        chain.head = 100
        await trio.sleep(CONFIRMING)
        chain.head, chain.logs = 102, [log(NAMES[0], 101)]
        await trio.sleep(CONFIRMING + 3 * POLLING)
        assert it.recorded == [id_of(NAMES[0])]


async def test_a_restart_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    async with reading(tmp_path, Chain(head=1000), from_block=990):
        pass
    chain = Chain(head=5000, logs=[log(NAMES[0], 2000)])
    async with reading(tmp_path, chain, from_block=4999) as it:
        assert it.recorded == [id_of(NAMES[0])]


async def test_an_earlier_block_beside_a_cursor_is_read_from_once_more(tmp_path: Path) -> None:
    chain = Chain(head=1000, logs=[log(NAMES[0], 400), log(NAMES[1], 995)])
    async with reading(tmp_path, chain, from_block=990) as it:
        assert it.recorded == [id_of(NAMES[1])]
    async with reading(tmp_path, chain, from_block=300) as it:
        await trio.sleep(5)
        assert it.recorded == [id_of(NAMES[0])]
        assert it.reader.ranges.next_block == 1001
    chain.ranges.clear()
    async with reading(tmp_path, chain, from_block=300):
        await trio.sleep(5)
    assert min(first for first, _ in chain.ranges) > 500  # once


async def test_reading_once_more_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with reading(tmp_path, Chain(head=1000), from_block=990):
        pass
    slow = Chain(head=1000, latency=1.0)
    async with reading(tmp_path, slow, from_block=300, size=10):
        await trio.sleep(4)
    done = max(last for _, last in slow.ranges if last < 900)
    chain = Chain(head=1000)
    async with reading(tmp_path, chain, from_block=300, size=10):
        await trio.sleep(20)
    again = [first for first, last in chain.ranges if last < 900]
    assert 300 < min(again) <= done + 1
    assert max(last for _, last in chain.ranges) >= 989


# What it reads.


async def test_what_is_on_chain_is_recorded_and_its_pools_are_rung(tmp_path: Path) -> None:
    chain = Chain(logs=[log(name, 50 + n) for n, name in enumerate(NAMES)])
    async with reading(tmp_path, chain) as it:
        assert it.recorded == [id_of(name) for name in NAMES]
        for kind in (Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION):
            with trio.fail_after(1):
                await it.pools[kind].wake_up.wait()
        assert await it.stored_cursor() == 101


@pytest.mark.parametrize(("lost", "seconds"), [(False, POLLING / 10), (True, POLLING + 0.1)])
async def test_a_push_is_read_at_once_and_a_lost_one_costs_a_poll(
    lost: bool, seconds: float, tmp_path: Path
) -> None:
    async with reading(tmp_path, chain := Chain()) as it:
        await trio.sleep(5)
        chain.head += 1
        chain.logs.append(log(NAMES[0], chain.head))
        if not lost:
            chain.push()
        await trio.sleep(seconds)
        assert it.recorded == [id_of(NAMES[0])]


async def test_many_pushes_are_one_read(tmp_path: Path) -> None:
    async with reading(tmp_path, chain := Chain()):
        await trio.sleep(0.05)
        before = len(chain.ranges)
        for _ in range(1000):
            chain.push()
        await trio.sleep(POLLING / 5)
        assert len(chain.ranges) - before <= 2


@pytest.mark.parametrize(
    ("said", "reads"),
    [
        ('{{"blockNumber":"0x{0:x}"}}', 1),
        ('{{"blockNumber":"0x{1:x}"}}', 2),
        ('{{"blockNumber":"0x{1:x}"}} {{"blockNumber":"0x{0:x}"}}', 2),
        ('{{"blockNumber":"0x63"}}', 2),
        ("{{}}", 2),
        ("{{\xff", 2),
    ],
)
async def test_what_is_pushed_of_the_block_that_is_being_read_wakes_nobody_again(
    said: str, reads: int, tmp_path: Path
) -> None:
    async with reading(tmp_path, chain := Chain()):
        await trio.sleep(0.05)
        chain.head += 1
        before = len(chain.ranges)
        chain.push()
        await trio.sleep(chain.latency / 2)
        for one in said.format(chain.head, chain.head + 1).split():
            chain.push(one)
        await trio.sleep(POLLING / 5)
        assert len(chain.ranges) - before == reads


async def test_a_request_seen_again_is_not_another(tmp_path: Path) -> None:
    async with reading(tmp_path, chain := Chain(logs=[log(NAMES[0], 95)])) as it:
        await trio.sleep(3 * REORG_WINDOW)
        assert it.recorded == [id_of(NAMES[0])]
    assert set(chain.tags) == {"latest"}, "decryptions are read up to the head"


async def test_what_a_lagging_node_left_out_is_found_in_the_reorg_window(tmp_path: Path) -> None:
    """Its answer was empty and looked like a good one."""
    async with reading(tmp_path, chain := Chain()) as it:
        chain.head += 2
        chain.next_.append(lambda answer: [*answer[:-1], []])
        chain.logs.append(log(NAMES[0], chain.head - 1))
        chain.push()
        await trio.sleep(POLLING)
        assert it.reader.ranges.next_block == chain.head + 1
        assert it.recorded == []
        await trio.sleep(REORG_WINDOW / 2)
        assert it.recorded == [id_of(NAMES[0])]


async def test_after_a_new_subscription_the_reorg_window_is_read_at_once(tmp_path: Path) -> None:
    async with reading(tmp_path, chain := Chain()) as it:
        chain.logs.append(log(NAMES[0], chain.head - 1))
        assert chain.notify is not None
        chain.notify(None)
        await trio.sleep(POLLING / 10)
        assert it.recorded == [id_of(NAMES[0])]


async def test_one_head_far_in_the_future_costs_a_minute_and_not_the_process(tmp_path: Path) -> None:
    async with reading(tmp_path, chain := Chain()) as it:
        chain.head += 20
        await trio.sleep(POLLING)
        chain.next_.append(lambda answer: [{**answer[0], "number": quantity(2**53 - 1)}, *answer[1:]])
        await trio.sleep(POLLING)
        chain.logs.append(log(NAMES[0], chain.head - 1))
        await trio.sleep(LAGGING + REORG_WINDOW)
        assert it.recorded == [id_of(NAMES[0])]


async def test_a_long_history_is_read_beside_the_live_end(tmp_path: Path) -> None:
    chain = Chain(head=100_000, logs=[log(NAMES[0], 50_000), log(NAMES[1], 99_999)], latency=0.2)
    async with reading(tmp_path, chain, from_block=0) as it:
        await trio.sleep(1)
        assert it.recorded == [id_of(NAMES[1])]
        assert await it.stored_cursor() in range(50_000)  # what is read above a gap is an island
        await trio.sleep(120)
        assert set(it.recorded) == {id_of(NAMES[0]), id_of(NAMES[1])}
        assert await it.stored_cursor() == 100_001
        assert it.bench.told(BackfillProgressed) == []  # a short one is not told


async def test_the_progress_of_a_long_backfill_is_told(tmp_path: Path) -> None:
    async with reading(tmp_path, Chain(head=100_000, latency=3.0), from_block=0) as it:
        await trio.sleep(600)
        first, *_, last = told = it.bench.told(BackfillProgressed)
        assert 0 < first.done < first.blocks
        assert last.done == last.blocks
        assert len(told) < len(it.chain.ranges) / 3
        assert [one.done for one in told] == sorted(one.done for one in told)


# What goes wrong.


@pytest.mark.parametrize(
    "trouble",
    [
        Unreachable("down"),
        lambda answer: [RpcError(-32005, "limit"), RpcError(-32005, "limit")],
        lambda answer: [answer[0], RpcError(-32000, "internal")],
        lambda answer: [{"number": "0x1", "timestamp": "0x1"}, answer[1]],
        lambda answer: [None, answer[1]],
        lambda answer: [answer[0], None],
    ],
    ids=["unreachable", "limit", "no logs", "old head", "no head", "nothing"],
)
async def test_a_bad_answer_moves_nothing_and_is_asked_again(trouble: Any, tmp_path: Path) -> None:
    async with reading(tmp_path, chain := Chain()) as it:
        chain.head += 1
        chain.logs.append(log(NAMES[0], chain.head))
        chain.next_.extend([trouble] * 3)
        chain.push()
        await trio.sleep(POLLING / 2)
        assert it.reader.ranges.next_block == chain.head
        await trio.sleep(8 * POLLING)
        assert it.recorded == [id_of(NAMES[0])]
        assert it.reader.ranges.next_block == chain.head + 1


@pytest.mark.slow
@pytest.mark.parametrize("widest", [1, 3, 10])
async def test_a_node_that_takes_only_narrow_ranges_is_asked_for_narrow_ones(
    widest: int, tmp_path: Path
) -> None:
    chain = Chain(head=60, logs=[log(NAMES[0], 5), log(NAMES[1], 55)], widest=widest)
    async with reading(tmp_path, chain, size=100) as it:
        await trio.sleep(300)
        assert set(it.recorded) == {id_of(NAMES[0]), id_of(NAMES[1])}
        assert await it.stored_cursor() == 61


async def test_a_log_that_cannot_be_decoded_is_kept_apart_and_the_cursor_goes_on(tmp_path: Path) -> None:
    chain = Chain(logs=[log(NAMES[0], 50, data=b"\x01"), log(NAMES[1], 51)])
    async with reading(tmp_path, chain) as it:
        [told] = it.bench.told(LogQuarantined)
        assert (told.block, it.recorded) == (50, [id_of(NAMES[1])])
        await trio.sleep(2 * REORG_WINDOW)
        assert len(it.bench.told(LogQuarantined)) == 1
        assert (await it.bench.journal.run(queries.counts, wall())).quarantined_logs == 1


async def test_each_log_that_cannot_be_decoded_is_told_once_with_the_kind_that_it_announces(
    tmp_path: Path,
) -> None:
    """Though its blocks are read again, and another such log is new to that read."""
    chain = Chain(head=60, logs=[log(NAMES[0], 50, data=b"\x01")])
    async with reading(tmp_path, chain) as it:
        chain.logs.append(log(NAMES[1], 61, data=b"\x01"))
        chain.head = 62
        await trio.sleep(2 * REORG_WINDOW)
        told = it.bench.told(LogQuarantined)
        assert [(one.block, one.kind) for one in told] == [
            (50, Kind.PUBLIC_DECRYPTION), (61, Kind.USER_DECRYPTION),
        ]  # fmt: skip


UNREADABLE: list[Callable[[dict[str, Any]], Any]] = [
    lambda _: {"address": 7},
    lambda one: {**one, "logIndex": None},
    lambda one: {**one, "address": to_hex(keys.SETTINGS.protocol.kms_generation_contract.address)},
    lambda one: {**one, "topics": ["0x" + "03" * 32]},
    lambda one: {**one, "blockNumber": "0x1"},
]


@pytest.mark.parametrize("spoil", UNREADABLE)
async def test_an_object_that_is_no_log_of_the_question_holds_the_cursor_and_the_rest_is_taken(
    spoil: Callable[[dict[str, Any]], Any], tmp_path: Path
) -> None:
    """One node's nonsense in the place of a log must not hide that log for good, nor hold up its dependencies."""

    def spoilt(answer: list[Any]) -> list[Any]:
        return [*answer[:-1], [spoil(one) if one["blockNumber"] == "0x65" else one for one in answer[-1]]]

    async with reading(tmp_path, chain := Chain(logs=[]), from_block=50) as it:
        chain.head = 102
        chain.logs += [log(NAMES[0], 101), log(NAMES[1], 102)]
        chain.spoil = spoilt
        chain.push()
        await trio.sleep(POLLING)
        assert (it.recorded, it.reader.ranges.next_block, await it.stored_cursor()) == (
            [id_of(NAMES[1])],
            101,
            101,
        )
        chain.head = 200
        await trio.sleep(2 * REORG_WINDOW)
        assert await it.stored_cursor() == 101
        [told] = it.bench.told(AlertRaised)
        assert "that is not a requested log" in told.text
        chain.spoil = None
        await trio.sleep(2 * POLLING)
        assert (it.recorded, it.reader.ranges.next_block) == ([id_of(NAMES[1]), id_of(NAMES[0])], 201)
        assert len(it.bench.told(AlertCleared)) == 1


class Full:
    """A journal whose disk is full a few times, or at the first write of what headers take off the chain."""

    def __init__(self, bench: Bench, left: int = 3, *, headers: bool = False) -> None:
        self._bench, self.left, self._headers = bench, left, headers

    async def run(self, operation: Any, *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if operation is recording.record and self.left and (arguments[0].headers or not self._headers):
            self.left -= 1
            raise JournalFailed("disk full")
        return await self._bench.journal.run(operation, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bench.journal, name)


async def test_what_a_header_takes_off_the_chain_waits_for_the_disk(tmp_path: Path) -> None:
    chain = Chain(logs=[log(NAMES[0], 99, fork=7)])
    async with reading(tmp_path, chain, journal=partial(Full, left=1, headers=True)) as it:
        for _ in range(3 * int(REORG_WINDOW)):
            chain.head += 1
            await trio.sleep(1)
        assert [event.gone for event in it.bench.told(RequestsMoved)] == [1]


async def test_a_back_fill_towards_a_wild_head_ends_with_its_alert(tmp_path: Path) -> None:
    async with reading(tmp_path, chain := Chain(logs=[log(NAMES[0], 50)])) as it:
        await trio.sleep(5)
        it.reader.contract.head.note(1_000_000, CHAIN_TIME + 101)
        for _ in range(3 * int(LAGGING)):
            chain.head += 1
            await trio.sleep(1)
        raised = {event.cause for event in it.bench.told(AlertRaised)}
        assert ("back-fill" in raised, [*it.reader.contract.components.board]) == (True, [])


async def test_the_cursor_passes_only_what_is_durable(tmp_path: Path) -> None:
    chain = Chain(logs=[log(NAMES[0], 50)])
    async with reading(tmp_path, chain, journal=Full) as it:
        assert it.reader.ranges.next_block == 0
        assert it.bench.told(CursorMoved) == []
        await trio.sleep(10 * POLLING)
        assert it.recorded == [id_of(NAMES[0])]
        assert it.reader.ranges.next_block == 101


# Reorganisations.


async def test_a_request_that_left_the_chain_is_marked_and_comes_back_when_it_is_seen_again(
    tmp_path: Path,
) -> None:
    async with reading(tmp_path, chain := Chain(logs=[log(NAMES[0], 99)])) as it:
        gone, chain.logs = chain.logs, []
        chain.forks.append((98, 1))
        await trio.sleep(2 * POLLING)
        assert not (await it.bench.row(1)).on_chain
        chain.logs = gone
        chain.forks.clear()
        await trio.sleep(2 * POLLING)
        assert (await it.bench.row(1)).on_chain
        assert it.recorded == [id_of(NAMES[0])]


# What is settled.


async def test_a_request_that_nodes_leave_out_stays_and_nothing_is_settled_above_it(
    tmp_path: Path, autojump_clock: Any
) -> None:
    """Logs judge presence only: its block's header is what it was."""
    async with reading(tmp_path, chain := Chain(logs=[log(NAMES[0], 99)])) as it:
        hidden, chain.logs = chain.logs, []
        for _ in range(3 * int(REORG_WINDOW)):
            chain.head += 1
            await trio.sleep(1)
        assert (await it.bench.row(1)).on_chain
        assert (await it.stored()).settled < 99
        chain.logs = hidden
        for _ in range(3 * int(REORG_WINDOW)):
            chain.head += 1
            await trio.sleep(1)
        assert (await it.stored()).settled > 99
        assert it.bench.told(RequestsMoved) == []


async def test_what_only_a_cache_shows_leaves_with_the_window_and_is_not_believed_again(
    tmp_path: Path, autojump_clock: Any
) -> None:
    """It was first heard from there, so that nothing known contradicted it; the header of its block is another one."""
    async with reading(tmp_path, chain := Chain(logs=[log(NAMES[0], 99, fork=7)])) as it:
        for _ in range(3 * int(REORG_WINDOW)):
            chain.head += 1
            await trio.sleep(1)
        assert not (await it.bench.row(1)).on_chain
        assert [(event.gone, event.back) for event in it.bench.told(RequestsMoved)] == [(1, 0)]
        chain.logs = [log(NAMES[1], 99)]
        await trio.sleep(REORG_WINDOW / 2)
        assert it.recorded == [id_of(NAMES[0]), id_of(NAMES[1])]


async def test_lives_of_four_seconds_settle_what_they_read(tmp_path: Path, autojump_clock: Any) -> None:
    chain = Chain(logs=[log(NAMES[0], 99)])
    for _ in range(20):
        async with reading(tmp_path, chain) as it:
            await trio.sleep(4)
            settled = (await it.stored()).settled
        chain.head += 4
    assert settled > 99


# The forms of 0.15.


def later(one: Log, index: int) -> Log:
    """Return the later form of a request's log, beside it."""
    content = EVENTS.decode(one)
    assert isinstance(content, Decryption)
    topics, data = content.later_form()
    return attrs.evolve(one, topics=topics, data=data, log_index=index)


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("indices", [(0, 1), (1, 0)], ids=["first form first", "later form first"])
async def test_both_forms_of_a_request_are_one_row_with_its_materials(
    name: str, indices: tuple[int, int], tmp_path: Path
) -> None:
    first = log(name, 99, index=indices[0])
    async with reading(tmp_path, Chain(logs=[first, later(first, indices[1])])) as it:
        await trio.sleep(REORG_WINDOW)
        assert it.recorded == [id_of(name)]
        assert (await it.bench.row(1)).event.log == first
        assert it.bench.told(RequestsMoved) == []


@pytest.mark.parametrize("into_later", [False, True])
async def test_a_request_at_another_place_or_of_the_later_form_is_moved_and_not_recorded_again(
    into_later: bool, tmp_path: Path
) -> None:
    first, moved = log(NAMES[0], 99), log(NAMES[0], 100, fork=1)
    logs, moved = ([first, later(first, 1)], later(moved, 0)) if into_later else ([first], moved)
    async with reading(tmp_path, chain := Chain(logs=logs)) as it:
        chain.head, chain.logs = 101, [moved]
        chain.forks.append((98, 1))
        await trio.sleep(REORG_WINDOW)
        assert it.recorded == [id_of(NAMES[0])]
        assert sum(event.moved for event in it.bench.told(RequestsMoved)) == 1
        row = await it.bench.row(1)
        assert (row.event.log, row.on_chain) == (moved, True)


# Key management, which counts once it is final.


def key_log(name: str, block: int) -> Log:
    return attrs.evolve(keys.log(name), block_number=block)


async def test_what_must_be_final_is_read_up_to_the_finalized_block_only(tmp_path: Path) -> None:
    chain = Chain(head=100, logs=[key_log("prep_keygen_default", 100), key_log("keygen_default", 101)])
    async with reading(tmp_path, chain, subscription=GENERATION) as it:
        assert [event.kind for event in it.bench.told(RequestRecorded)] == [Kind.PREP_KEYGEN]
        chain.head = 101
        await trio.sleep(2 * POLLING)
        told = it.bench.told(RequestRecorded)
        assert [event.kind for event in told] == [Kind.PREP_KEYGEN, Kind.KEYGEN]
        assert [(await it.bench.row(event.rid)).progress.deadline for event in told] == [math.inf] * 2
    assert set(chain.tags) == {"finalized"}


async def test_a_node_without_a_finalized_block_is_told_by_contract(tmp_path: Path) -> None:
    """It answers everything else, so that nothing else shows that no key request is ever read."""
    chain = Chain(next_=deque([RpcError(-39001, "Unknown block")] * 100))
    async with reading(tmp_path, chain, subscription=GENERATION) as it:
        await trio.sleep(CAUSES["logs"].after + 2 * POLLING)
        [told] = it.bench.told(AlertRaised)
        assert told.critical
        assert told.dependency == f"gateway {checksum(GENERATION.contract)}"
        assert "the finalized block is unknown: -39001: Unknown block" in told.text
        await trio.sleep(100 * POLLING)
        assert [one.dependency for one in it.bench.told(AlertCleared)] == [told.dependency]


async def test_a_context_without_predecessor_is_no_request_and_no_trouble(tmp_path: Path) -> None:
    chain = Chain(logs=[key_log("context_1_first", 50)])
    async with reading(tmp_path, chain, subscription=CONFIG) as it:
        assert (it.recorded, it.bench.told(LogQuarantined)) == ([], [])
        assert it.reader.ranges.next_block == 101
        assert chain.notify is None, "pushes of the head are not asked for where it does not count"


# A chain that leaves what was read of it.


async def test_node_that_contradicts_itself_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its number each block has another hash than as the head: a fork is found again and again, and no log is ever taken."""
    honest = Chain._named

    def named(chain: Chain, block: str) -> dict[str, str] | None:
        found = honest(chain, block)
        return {**found, "hash": to_hex(bytes(32))} if found and block.startswith("0x") else found

    async with reading(tmp_path, Chain()) as it:
        monkeypatch.setattr(Chain, "_named", named)
        await trio.sleep(CAUSES["logs"].after + 2 * POLLING)
        [told] = it.bench.told(AlertRaised)
        assert (told.cause, told.critical, "another hash" in told.text) == ("logs", True, True)
        monkeypatch.undo()
        await trio.sleep(100 * POLLING)
        assert [one.cause for one in it.bench.told(AlertCleared)] == ["logs"]


async def test_what_stands_above_a_deep_fork_is_read_again_and_judged(tmp_path: Path) -> None:
    chain = Chain(logs=[log(NAMES[0], 40), log(NAMES[1], 60)])
    async with reading(tmp_path, chain) as it:
        for _ in range(100):
            chain.head += 10
            chain.push()
            await trio.sleep(1)
        chain.forks.append((50, 1))
        chain.logs = [log(NAMES[0], 40), log(NAMES[2], 60, fork=1), log(NAMES[3], 70, fork=1)]
        await trio.sleep(CONFIRMING + 5)
        assert it.recorded == [id_of(NAMES[n]) for n in (0, 1, 2, 3)]
        assert [(event.gone, event.back) for event in it.bench.told(RequestsMoved)] == [(2, 0), (0, 1)]
        (told,) = it.bench.told(ChainReorganised)
        assert told.fork <= 50
        assert it.reader.ranges.next_block == chain.head + 1


async def test_head_and_cursor_follow_a_chain_that_became_shorter(tmp_path: Path) -> None:
    async with reading(tmp_path, chain := Chain(logs=[log(NAMES[0], 99)])) as it:
        await trio.sleep(5)
        chain.head, chain.logs = 50, []
        await trio.sleep(LAGGING + 5)
        assert (it.reader.ranges.next_block, it.reader.contract.head.number) == (51, 50)
        assert (await it.stored_cursor()) == 51
        assert [event.gone for event in it.bench.told(RequestsMoved)] == [1]


async def test_a_read_that_was_asked_before_a_fork_was_found_counts_no_more(tmp_path: Path) -> None:
    """A back-fill's answer is on its way while the tail's read shows the fork."""
    async with reading(tmp_path, chain := Chain()) as it:
        await trio.sleep(5)
        chain.logs, chain.latency = [log(NAMES[0], 1)], 1.0
        answers: list[bool] = []

        async def read() -> None:
            answers.append(await it.reader.ranges.read(Range(1, 2)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.1)
            it.reader.contract.chain_context.follower.generation += 1
        assert (answers, it.recorded) == ([False], [])


async def test_a_read_that_is_recorded_while_a_fork_is_found_moves_nothing(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with reading(tmp_path, Chain()) as it:
        await trio.sleep(1)
        ranges: Any = it.reader.ranges

        async def record(*_: Any, **__: Any) -> Recorded:
            await trio.lowlevel.checkpoint()
            ranges.generation, ranges.cursor = ranges.generation + 1, rewound(ranges.cursor, 50)
            return Recorded()

        components = SimpleNamespace(
            **{**vars(ranges.contract.components), "journal": SimpleNamespace(run=record)}
        )
        ranges.contract = attrs.evolve(ranges.contract, components=components)
        assert not await ranges.read(Range(51, 100))
        assert ranges.next_block == 51

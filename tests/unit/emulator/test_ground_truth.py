"""The ground_truth tells from the chain alone which requests were answered, when, and what was sent too often."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn.connector.connector import serve
from kmsconn.emulator.config_file import member_config
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies, Traffic
from kmsconn.emulator.ground_truth import ChainVerdict, CommitteeGroundTruth, GroundTruth, Trace, percentile
from kmsconn.emulator.load import STRAGGLERS_TIMEOUT, Load, run_load
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.testing.killable import KillablePorts, Life

from .small_world import DECRYPTION_ADDRESS, SENDER, STRANGER, World, own_order, public_id, signed, world


class Watched:
    """A small world, and an ground_truth whose clock is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.world: World = world()
        self.ground_truth = GroundTruth(
            self.world.chain, DECRYPTION_ADDRESS, SENDER.address, clock=lambda: self.now
        )
        self._nonce = 0

    def block(self, at: float) -> None:
        """Make a block and look at it at this moment."""
        self.now = at
        self.world.chain.mine()
        self.ground_truth.read()

    def reply(self, counter: int, *, index: int = 0, calldata: bytes | None = None) -> None:
        """Submit the node's next transaction: a reply to this request."""
        data = self.world.reply(counter, index) if calldata is None else calldata
        self.world.chain.intake.submit(signed(self._nonce, data))
        self._nonce += 1

    def trace(self, counter: int) -> Trace:
        return self.ground_truth.traces[public_id(counter)]

    @property
    def verdict(self) -> ChainVerdict:
        return self.ground_truth.verdict()


@pytest.fixture
def watched() -> Watched:
    return Watched()


def asked(watched: Watched) -> Trace:
    """Let a request be on the chain at 1.0."""
    watched.world.ask()
    watched.block(1.0)
    return watched.trace(1)


def test_a_request_is_visible_with_its_block_and_found_by_its_transaction(watched: Watched) -> None:
    assert watched.verdict == ChainVerdict(emitted=0, answered=0, doubled=0, strays=0, p50=None, p99=None)
    transaction = watched.world.ask()
    assert watched.ground_truth.trace_of(transaction) is None
    watched.block(3.0)
    trace = watched.trace(1)
    assert (trace.block, trace.at, trace.transaction_hash) == (1, 3.0, transaction)
    assert watched.ground_truth.trace_of(transaction) is trace


# What the node sends in one block → how its transactions end, and how many are answered, doubled, open and strays.
SENT: dict[str, tuple[list[dict[str, Any]], list[int], tuple[int, int, int, int]]] = {
    "nothing": ([], [], (0, 0, 1, 0)),
    "a reply": ([{}], [1], (1, 0, 0, 0)),
    "a second one, which reverts": ([{}, {}], [1, 0], (1, 1, 0, 0)),
    "one that reverts": ([{"index": 5}], [0], (0, 0, 1, 0)),  # signed for another handle
    "a good one after that": ([{"index": 5}, {}], [0, 1], (1, 1, 0, 0)),
    "one to an id that nobody was given": ([{"counter": 7}], [], (0, 0, 1, 1)),
    "another transaction": ([{"calldata": b"\x01\x02\x03\x04"}], [], (0, 0, 1, 0)),
}


@pytest.mark.parametrize("case", SENT.values(), ids=SENT)
def test_replies_answer_once(watched: Watched, case: Any) -> None:
    sent, statuses, expected = case
    trace = asked(watched)
    for one in sent:
        watched.reply(**{"counter": 1, **one})
    watched.block(2.0)
    found = watched.verdict
    assert [reply.status for reply in trace.replies] == statuses
    assert (found.answered, found.doubled, found.open, found.strays) == expected
    assert found.well == (expected == (1, 0, 0, 0))


def test_replies_of_other_senders_do_not_count(watched: Watched) -> None:
    trace = asked(watched)
    watched.world.chain.intake.submit(signed(0, watched.world.reply(1), key=STRANGER))
    watched.block(2.0)
    assert trace.replies == []


def test_a_reply_to_a_contract_without_code_answers_nothing(watched: Watched) -> None:
    """A chain includes it with status 1."""
    trace = asked(watched)
    contract = watched.world.chain.evm.contracts.pop(DECRYPTION_ADDRESS)
    watched.reply(1)
    watched.block(2.0)
    assert ([reply.status for reply in trace.replies], watched.verdict.answered) == ([1], 0)
    watched.world.chain.evm.contracts[DECRYPTION_ADDRESS] = contract
    watched.reply(1)
    watched.block(3.0)
    assert watched.verdict.answered == 1


def test_latency_is_from_the_events_block_to_the_replys(watched: Watched) -> None:
    asked(watched)
    watched.block(2.0)
    watched.reply(1)
    watched.block(3.5)
    before = watched.verdict
    assert (watched.trace(1).latency, before.p50, before.p99) == (2.5, 2.5, 2.5)
    watched.now = 9.0
    watched.ground_truth.read()
    assert watched.verdict == before, "reading again changes nothing"


def test_several_blocks_are_read_at_once(watched: Watched) -> None:
    watched.world.ask()
    watched.world.chain.mine()
    watched.reply(1)
    watched.world.chain.mine()
    watched.block(4.0)
    assert (watched.verdict.answered, watched.trace(1).latency) == (1, 0.0)


def test_a_reply_in_a_block_that_was_replaced_does_not_count_any_more(watched: Watched) -> None:
    asked(watched)
    watched.reply(1)
    watched.block(2.0)
    watched.world.chain.reorg(1, drop=lambda transaction: transaction.envelope is not None)
    watched.ground_truth.read()
    assert (watched.verdict.answered, watched.verdict.open) == (0, 1)
    watched.world.chain.reorg(2, drop=lambda _: True)
    watched.ground_truth.read()
    assert watched.verdict.emitted == 0, "the request is gone, too"


def test_a_request_that_moved_is_visible_from_its_new_block_on(watched: Watched) -> None:
    asked(watched)
    watched.block(2.0)
    watched.now = 5.0
    watched.world.chain.reorg(2)
    watched.ground_truth.read()
    assert (watched.trace(1).block, watched.trace(1).at) == (2, 5.0)


def test_a_block_that_comes_back_keeps_its_time(watched: Watched) -> None:
    asked(watched)
    branch = watched.world.chain.reorg(1)
    watched.now = 5.0
    watched.ground_truth.read()
    watched.world.chain.restore(branch)
    watched.now = 9.0
    watched.ground_truth.read()
    assert watched.trace(1).at == 1.0


def test_ids_that_are_handed_out_again_name_other_transactions(watched: Watched) -> None:
    first, second = watched.world.ask(0), watched.world.ask(1)
    watched.block(1.0)
    watched.world.chain.reorg(1, arrange=own_order(second, first))
    watched.ground_truth.read()
    assert (watched.trace(1).transaction_hash, watched.trace(2).transaction_hash) == (second, first)


def test_a_shorter_chain_is_noticed(watched: Watched) -> None:
    """The block that was read last may have no successor at its height at the moment of looking."""
    asked(watched)
    watched.block(2.0)
    popped = watched.world.chain.history.pop(2)
    watched.ground_truth.read()
    assert (len(popped.blocks), watched.verdict.emitted) == (2, 0)


async def test_watching_notes_the_time_of_each_block() -> None:
    small = world()
    ground_truth = GroundTruth(small.chain, DECRYPTION_ADDRESS, SENDER.address)
    async with trio.open_nursery() as nursery:
        await nursery.start(ground_truth.watch)
        began = trio.current_time()
        small.ask()
        await trio.sleep(3)
        small.chain.mine()
        await trio.sleep(4)
        small.chain.intake.submit(signed(0, small.reply(1)))
        small.chain.mine()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    trace = ground_truth.traces[public_id(1)]
    assert (trace.at - began, trace.latency) == (3.0, 4.0)


async def test_watching_begins_with_what_is_there() -> None:
    small = world()
    small.ask()
    small.chain.mine()
    ground_truth = GroundTruth(small.chain, DECRYPTION_ADDRESS, SENDER.address)
    async with trio.open_nursery() as nursery:
        await nursery.start(ground_truth.watch)
        nursery.cancel_scope.cancel()
    assert ground_truth.verdict().emitted == 1


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.01, 1), (0.0001, 1)])
def test_percentiles_are_by_nearest_rank(share: float, expected: int) -> None:
    assert percentile(list(range(1, 101)), share) == expected
    assert percentile([], share) is None


def test_only_the_first_start_call_answer_and_reply_count(watched: Watched) -> None:
    trace, truth = asked(watched), watched.ground_truth
    watched.world.chain.intake.on_submit = truth.note_sent
    watched.world.chain.intake.submit(signed(0, watched.world.reply(1), key=STRANGER))
    assert not watched.trace(1).sent, "of somebody else"
    for watched.now in (1.5, 2.5):
        truth.note_started(public_id(1).to_bytes(32))
        truth.note_given(public_id(1).to_bytes(32))
        watched.reply(1)
    assert (trace.started, trace.given, trace.sent) == (1.5, 1.5, 1.5)
    truth.note_started(public_id(9).to_bytes(32))
    truth.note_given(public_id(9).to_bytes(32))
    assert truth.traces.keys() == {public_id(1)}, "of an id that nobody was given no moment is kept"


BASE = 1_767_225_600.0
MEMBERS, REQUESTS = 4, 6


async def played(folder: Path, running: Sequence[int]) -> CommitteeGroundTruth:
    """Put six requests on four nodes of whom only these run, and return what the chain shows."""
    wall = lambda: BASE + trio.current_time()  # noqa: E731
    dependencies = FhevmDependencies.make(wall, members=MEMBERS)
    network = MemoryNetwork()
    dependencies.settle_in_memory(network)
    committee = CommitteeGroundTruth.of(dependencies, MEMBERS)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        await nursery.start(dependencies.run)
        for member in running:
            settings = dependencies.settings(folder / f"{member}.db", member)
            ports = KillablePorts(Life(), network, wall, Random(member)).ports()
            await nursery.start(partial(serve, settings, ports=ports, on_event=lambda _: None))
        await run_load(
            Load(2.0, REQUESTS / 2), Traffic(dependencies, Random(0)), committee, reply_timeout=20.0
        )
        nursery.cancel_scope.cancel()
    return committee


async def test_with_one_of_four_missing_every_request_finds_consensus(tmp_path: Path) -> None:
    """Three have answered everything, the fourth nothing; the load ends some seconds after the last consensus."""
    verdict = (await played(tmp_path, (0, 1, 2))).verdict()
    assert [node.answered for node in verdict.nodes] == [REQUESTS, REQUESTS, REQUESTS, 0]
    assert (verdict.emitted, verdict.consensus, verdict.well) == (REQUESTS, REQUESTS, True)
    assert trio.current_time() < REQUESTS / 2 + STRAGGLERS_TIMEOUT + 4


async def test_with_two_of_four_missing_no_request_finds_consensus(tmp_path: Path) -> None:
    verdict = (await played(tmp_path, (0, 3))).verdict()
    assert [node.answered for node in verdict.nodes] == [REQUESTS, 0, 0, REQUESTS]
    assert (verdict.consensus, verdict.well) == (0, False)


async def test_the_ciphertexts_of_a_request_stay_as_long_as_a_node_may_ask_for_them(tmp_path: Path) -> None:
    """The request counts as answered once the last node has answered it."""
    committee = await played(tmp_path, (0, 1, 2))
    sent = [trace.transaction_hash for trace in committee.nodes[0].traces.values()]
    traces = [committee.trace_of(one) for one in sent]
    assert [trace and trace.answer for trace in traces] == [None] * REQUESTS


@pytest.mark.parametrize(
    ("members", "names"), [(1, ["k.toml"]), (4, ["k-1.toml", "k-2.toml", "k-3.toml", "k-4.toml"])]
)
def test_each_member_has_a_file_of_its_own(members: int, names: list[str]) -> None:
    paths = [member_config(Path("k.toml"), member, members) for member in range(members)]
    assert paths == [Path(name) for name in names]


def test_a_committee_of_many_does_not_mix_up_its_cores() -> None:
    """The name of the eleventh begins with that of the second."""
    dependencies = FhevmDependencies.make(lambda: BASE, members=13)
    dependencies.settle_in_memory(MemoryNetwork())
    assert dependencies.core_endpoints(1) == ("http://member1:80",)

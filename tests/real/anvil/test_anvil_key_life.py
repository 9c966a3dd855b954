"""A life of keys on anvil with our Solidity, and what nodes do to their users: reorganisations, ids used again, restarts."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from time import time
from typing import Any

import attrs
import pytest
import trio

from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.contracts.request_calls import FORMS
from kmsconn.emulator.core import become
from kmsconn.emulator.core_keys import COMPRESSED_OBJECT, object_digest
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.fhevm_dependencies import CONTEXT, naming
from kmsconn.emulator.key_ceremonies import (
    ABORTED_PREP,
    CRS,
    KEY,
    LAST_EPOCH,
    MIGRATION_PREP,
    MIGRATION_REQUEST,
    NEXT_CONTEXT,
    NEXT_EPOCH,
    PREP,
)
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.model.events import (
    AnswerKept,
    ChainReorganised,
    Event,
    ReplyFinalized,
    ReplyIncluded,
    ReplySent,
    ReplySigned,
    RequestRecorded,
    StageFinished,
)
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import LATER_KMS_GENERATION
from kmsconn.testing.killable import KillablePorts, Killed, Life
from kmsconn.transport.dialling import dial_sockets
from tests.real.anvil import contracts
from tests.real.anvil.ground_truth import read_key_replies, wait_answered, wait_until
from tests.real.anvil.owner import lead
from tests.real.anvil.test_anvil_refusals import assert_all_once, assert_right
from tests.real.anvil.users import Asked, Users
from tests.real.anvil.world import World, committee, open_world, sender_key

pytestmark = pytest.mark.sampled
ALL = {
    ("prepKeygenResponse", PREP): ["0x1"],
    ("keygenResponse", KEY): ["0x1"],
    ("crsgenResponse", CRS): ["0x1"],
    ("confirmKmsContextCreation", NEXT_CONTEXT): ["0x1"],
    ("confirmEpochActivation", NEXT_EPOCH): ["0x1"],
    ("confirmEpochActivation", LAST_EPOCH): ["0x1"],
    ("prepKeygenResponse", PREP + 1): ["0x1"],
}
"""What each node sends, and with which status: every reply once, and none of what is aborted."""
MIGRATED = {
    ("prepKeygenResponse", PREP): ["0x1"],
    ("keygenResponse", KEY): ["0x1"],
    ("crsgenResponse", CRS): ["0x1"],
    ("prepKeygenResponse", ABORTED_PREP): ["0x1"],
    ("prepKeygenResponse", MIGRATION_PREP): ["0x1"],
    ("keygenResponse", MIGRATION_REQUEST): ["0x1"],
    ("confirmKmsContextCreation", NEXT_CONTEXT): ["0x1"],
    ("confirmEpochActivation", NEXT_EPOCH): ["0x1"],
    ("confirmEpochActivation", LAST_EPOCH): ["0x1"],
}
"""What each node sends in a life with a migration, likewise."""
KINDS = (Kind.PREP_KEYGEN, Kind.KEYGEN, Kind.CRSGEN, Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH)
KEY_INFO = LATER_KMS_GENERATION.function("getKeyInfo")
FATAL = (RequestRecorded, StageFinished, AnswerKept, ReplySigned, ReplySent)


@asynccontextmanager
async def connected(world: World, folder: Path, nodes: Iterable[int] | None = None) -> AsyncIterator[None]:
    """Run the connectors of some nodes, or of all, while the block lasts."""
    async with AsyncExitStack() as stack:
        for node in range(len(world.cores)) if nodes is None else nodes:
            await stack.enter_async_context(open_connector(world.settings(folder / f"{node}.db", node)))
        yield


@pytest.mark.parametrize("nodes", [1, 4])
async def test_a_whole_life_of_keys_is_included_once_and_decryptions_follow(
    nodes: int, anvil: Path, tmp_path: Path
) -> None:
    async with open_world(anvil, tmp_path, nodes=nodes) as world, connected(world, tmp_path):
        await lead(world, 1.0)  # time for each node to begin before three have ended
        users = Users(world, extra_data=naming(NEXT_CONTEXT, LAST_EPOCH)[1:])
        asked = await users.ask("public", "direct", "unified")
        for node in range(nodes):
            assert await read_key_replies(world, sender_key(node).address) == ALL
            ground_truth = await wait_answered(
                world.gateway.rpc, world.at.decryption, sender_key(node).address, len(asked)
            )
            assert (ground_truth.open, ground_truth.doubled) == ((), ())
            assert world.cores[node].known.contexts == {NEXT_CONTEXT.to_bytes(32)}
            assert world.cores[node].known.epochs == {LAST_EPOCH.to_bytes(32)}


class Mortal:
    """A connector that dies of the first event of each sort of each kind, and is followed by another with its journal."""

    def __init__(self, world: World, journal: Path) -> None:
        self.deaths: Counter[tuple[str, Kind]] = Counter()
        self._settings = world.settings(journal)
        self._life = Life()

    async def run(self) -> None:
        while True:
            self._life = Life()
            ports = KillablePorts(self._life, dial_sockets, time, Random(0)).ports()
            try:
                with self._life.scope:
                    async with open_connector(self._settings, ports=ports, on_event=self._note):
                        await trio.sleep_forever()
            except* Killed:
                assert self._life.dead

    def _note(self, event: Event) -> None:
        sort = (type(event).__name__, getattr(event, "kind", Kind.PUBLIC_DECRYPTION))
        if isinstance(event, FATAL) and sort[1] in KINDS and sort not in self.deaths and not self._life.dead:
            self.deaths[sort] += 1
            self._life.kill()


async def test_a_node_that_is_killed_at_each_step_gives_each_reply_once(anvil: Path, tmp_path: Path) -> None:
    async with open_world(anvil, tmp_path) as world, trio.open_nursery() as nursery:
        mortal = Mortal(world, tmp_path / "journal.db")
        nursery.start_soon(mortal.run)
        await lead(world, 0.3)
        assert await read_key_replies(world, sender_key().address) == ALL
        assert len(mortal.deaths) == len(KINDS) * len(FATAL)
        nursery.cancel_scope.cancel()


async def need_every_node(world: World) -> None:
    """Let keys be complete with the replies of all nodes only, so that a node that is killed replies too."""
    members = committee(len(world.cores))
    limits = attrs.evolve(members.thresholds, kms_gen=len(world.cores))
    call = contracts.ethereum_thresholds(CONTEXT, attrs.evolve(members, thresholds=limits))
    await world.ethereum.owner.do((world.at.protocol_config, call))


async def check_migrated(world: World) -> None:
    """See that the first key has kept its ids and digests and has a compressed set besides, which each Core has copied to it."""
    asked = {"to": to_hex(world.at.kms_generation), "data": to_hex(KEY_INFO.encode(KEY))}
    told = from_hex(await world.ethereum.rpc.call("eth_call", asked, "latest"))
    [(prep_id, key_id, _, digests)] = KEY_INFO.decode_result(told)
    assert (prep_id, key_id) == (PREP, KEY)
    assert [kind for kind, _ in digests] == [0, 1, 3]
    for core in world.cores:
        copied = core.management.store.objects[f"{COMPRESSED_OBJECT}/{KEY.to_bytes(32).hex()}"]
        assert object_digest(copied) == digests[-1][1]
        assert core.known.contexts == {NEXT_CONTEXT.to_bytes(32)}
        assert core.known.epochs == {LAST_EPOCH.to_bytes(32)}


async def test_a_key_is_migrated_across_an_upgrade_by_four_nodes_of_which_one_is_killed_at_each_step(
    anvil: Path, tmp_path: Path
) -> None:
    """The Cores are of all releases; those from 0.15 on refuse an epoch whose keys come with other preprocessing ids than recorded."""
    async with open_world(anvil, tmp_path, nodes=4) as world, trio.open_nursery() as nursery:
        for core, release in zip(world.cores, (CoreRelease.V0_15, *CoreRelease), strict=True):
            become(core, release)
        await need_every_node(world)
        mortal = Mortal(world, tmp_path / "0.db")
        nursery.start_soon(mortal.run)
        async with connected(world, tmp_path, range(1, 4)):
            await lead(world, 1.0, migrates=True)
            await check_migrated(world)
            for node in range(4):
                assert await read_key_replies(world, sender_key(node).address) == MIGRATED
        assert len(mortal.deaths) == len(KINDS) * len(FATAL)
        nursery.cancel_scope.cancel()


REORG_WINDOW = 3.0  # seconds; replies are asked for again when they are older
DOWN = 1.5  # seconds that a node is away


@attrs.define(eq=False)
class Play:
    """A world with its users, and how often the connectors said what, by kind of event."""

    world: World
    folder: Path
    users: Users
    counts: Counter[type[Event]] = attrs.field(factory=Counter)

    def connector(self, name: str = "journal") -> AbstractAsyncContextManager[Connector]:
        """Return a connector with a journal of this name."""
        settings = self.world.settings(self.folder / f"{name}.db", reorg_window=REORG_WINDOW)
        return open_connector(settings, on_event=lambda event: self.counts.update([type(event)]))

    async def wait(self, kind: type[Event], *asked: Sequence[Asked]) -> None:
        """Wait until an event of a kind was told for each of these requests."""
        await wait_until(lambda: self.counts[kind] >= sum(map(len, asked)))

    async def snapshot(self) -> Any:
        return await self.world.gateway.rpc.call("evm_snapshot")

    async def revert(self, snapshot: Any) -> None:
        assert await self.world.gateway.rpc.call("evm_revert", snapshot)

    async def wait_answered(self, *asked: Sequence[Asked]) -> None:
        """Wait until all of these, and nothing else, are answered, and see that each is, once and rightly."""
        every = [one for some in asked for one in some]
        world = self.world
        truth = await wait_answered(world.gateway.rpc, world.at.decryption, sender_key().address, len(every))
        assert_all_once(every, truth)
        await assert_right(world, self.users, every)


@pytest.fixture
async def play(anvil: Path, tmp_path: Path) -> AsyncIterator[Play]:
    async with open_world(anvil, tmp_path) as world:
        yield Play(world, tmp_path, Users(world))


async def test_requests_and_replies_that_leave_the_chain_and_come_back_are_answered_again(play: Play) -> None:
    """The same transactions are mined again after the reorganisation: same ids, same content, new blocks."""
    async with play.connector():
        before = await play.users.ask(*FORMS)
        await play.wait_answered(before)
        plans = await play.users.prepare(*FORMS)
        snapshot = await play.snapshot()
        lost = await play.users.request(plans)
        await play.wait(ReplyIncluded, before, lost)
        await play.revert(snapshot)
        again = await play.users.request(plans)
        await play.wait_answered(before, again)
    assert [one.id for one in again] == [one.id for one in lost]


async def test_ids_that_are_reused_for_other_requests_get_the_other_answers(play: Play) -> None:
    """The same transactions in another order. The Core, which knows the ids with the old content, restarts as it must."""
    async with play.connector():
        plans = await play.users.prepare(*FORMS[1:])
        snapshot = await play.snapshot()
        lost = await play.users.request(plans)
        await play.wait(ReplyIncluded, lost)
        await play.revert(snapshot)
        play.world.cores[0].restart()
        again = await play.users.request(plans[::-1])
        await play.wait_answered(again)
    assert [one.id for one in again] == [one.id for one in lost]


@pytest.mark.parametrize("final", [False, True], ids=["before it was final", "after it was final"])
async def test_a_reply_and_its_request_that_go_with_more_blocks_than_the_window_leave_their_ids_to_others(
    final: bool, play: Play
) -> None:
    """A snapshot is restored after more than twice the reorg window; then users ask for other things and get the same ids."""
    async with play.connector() as connector:
        before = await play.users.ask("public")
        await play.wait_answered(before)
        snapshot = await play.snapshot()
        lost = await play.users.ask(*FORMS)
        await play.wait(ReplyIncluded, before, lost)
        await trio.sleep(2.5 * REORG_WINDOW)
        if final:
            await play.wait(ReplyFinalized, before, lost)
        await play.revert(snapshot)
        play.world.cores[0].restart()
        others = await play.users.ask(*FORMS)
        await play.wait_answered(before, others)
        await wait_until(lambda: play.counts[ChainReorganised] > 0)
        assert connector.statistics().queue.gaps == 0
    assert [one.id for one in others] == [one.id for one in lost]


async def test_a_final_reply_that_goes_while_its_request_stays_is_sent_again(play: Play) -> None:
    """The chain goes back to where the request was there and the reply was not, and makes other blocks."""
    asked = await play.users.ask(*FORMS)
    snapshot = await play.snapshot()
    async with play.connector():
        await play.wait(ReplyFinalized, asked)
        await play.revert(snapshot)
        await play.wait_answered(asked)


async def test_a_node_that_restarts_in_mid_run_costs_nothing(play: Play) -> None:
    """Its state and blocks are kept over the restart; what waited in its pool is gone."""
    async with trio.open_nursery() as nursery:
        async with play.connector():
            before = await play.users.ask(*FORMS * 2)
            await wait_until(lambda: play.counts[RequestRecorded] > 0)
            await play.world.gateway.node.stop()
            await trio.sleep(DOWN)
            await play.world.gateway.node.start(nursery)
            after = await play.users.ask(*FORMS)
            await play.wait_answered(before, after)
        nursery.cancel_scope.cancel()


async def test_a_node_that_is_killed_in_mid_run_loses_blocks_and_costs_nothing(play: Play) -> None:
    """After SIGKILL the chain goes on from where its state was last written: blocks with replies have never been."""
    rpc, node = play.world.gateway.rpc, play.world.gateway.node
    async with trio.open_nursery() as nursery:
        before = await play.users.ask(*FORMS)
        await node.wait_kept()
        async with play.connector():
            await play.wait(ReplyIncluded, before)
            last = await rpc.call("eth_getBlockByNumber", "latest", False)
            await node.crash()
            await trio.sleep(DOWN)
            await node.start(nursery)
            after = await play.users.ask(*FORMS)
            await play.wait_answered(before, after)
        there_now = await rpc.call("eth_getBlockByNumber", last["number"], False)
        assert there_now["hash"] != last["hash"]
        assert play.counts[ReplyIncluded] > len(before) + len(after)
        nursery.cancel_scope.cancel()


async def test_a_connector_without_its_journal_doubles_nothing(play: Play) -> None:
    """The chain says what is answered: a new journal finds it there."""
    async with play.connector("first"):
        before = await play.users.ask(*FORMS)
        await play.wait_answered(before)
    play.counts.clear()
    async with play.connector("second"):
        after = await play.users.ask(*FORMS)
        await play.wait_answered(before, after)
        await play.wait(RequestRecorded, before, after)

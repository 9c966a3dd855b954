"""What nodes do to their users: a reorganisation, the same ids for other requests, a restart in mid-run. Nothing is lost or doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.contracts.request_calls import FORMS
from kmsconn.model.events import ChainReorganised, Event, ReplyFinalized, ReplyIncluded, RequestRecorded
from tests.real.anvil.ground_truth import wait_answered, wait_until
from tests.real.anvil.test_anvil_forms import assert_all_once, assert_right
from tests.real.anvil.users import Asked, Users
from tests.real.anvil.world import World, open_world, sender_key

pytestmark = pytest.mark.sampled

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

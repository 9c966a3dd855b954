"""What nodes do to their users: a reorganisation, the same ids for other requests, a restart in mid-run. Nothing is lost or doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from kmsconn.connector.connector import open_connector
from kmsconn.emulator.contracts.request_calls import FORMS
from kmsconn.model.events import ChainReorganised, Event, ReplyFinalized, ReplyIncluded, RequestRecorded
from kmsconn.testing.ground_truth import GroundTruthReport
from tests.real.anvil.ground_truth import wait_answered, wait_until
from tests.real.anvil.test_anvil_forms import assert_all_once, assert_right
from tests.real.anvil.users import Users
from tests.real.anvil.world import World, open_world, sender_key

pytestmark = pytest.mark.sampled

REORG_WINDOW = 3.0  # seconds; replies are asked for again when they are older
DOWN = 1.5  # seconds that a node is away


class Heard:
    """What the connector said, by kind of event."""

    def __init__(self) -> None:
        self.counts: Counter[type[Event]] = Counter()

    def on_event(self, event: Event) -> None:
        self.counts[type(event)] += 1

    def has(self, kind: type[Event], count: int) -> Callable[[], bool]:
        return lambda: self.counts[kind] >= count


async def ground_truth_about(world: World, count: int) -> GroundTruthReport:
    return await wait_answered(world.gateway.rpc, world.at.decryption, sender_key().address, count)


async def test_requests_and_replies_that_leave_the_chain_and_come_back_are_answered_again(
    anvil: Path, tmp_path: Path
) -> None:
    """The same transactions are mined again after the reorganisation: same ids, same content, new blocks."""
    heard = Heard()
    async with open_world(anvil, tmp_path) as world:
        users = Users(world)
        settings = world.settings(tmp_path / "journal.db", reorg_window=REORG_WINDOW)
        async with open_connector(settings, on_event=heard.on_event):
            before = await users.ask(*FORMS)
            await ground_truth_about(world, len(before))
            plans = await users.prepare(*FORMS)
            snapshot = await world.gateway.rpc.call("evm_snapshot")
            lost = await users.request(plans)
            await wait_until(heard.has(ReplyIncluded, len(before) + len(lost)))
            assert await world.gateway.rpc.call("evm_revert", snapshot)
            again = await users.request(plans)
            ground_truth = await ground_truth_about(world, len(before) + len(again))
        assert [one.id for one in again] == [one.id for one in lost]
        assert_all_once([*before, *again], ground_truth)
        await assert_right(world, users, [*before, *again])


async def test_ids_that_are_reused_for_other_requests_get_the_other_answers(
    anvil: Path, tmp_path: Path
) -> None:
    """The same transactions in another order. The Core, which knows the ids with the old content, restarts as it must."""
    heard = Heard()
    async with open_world(anvil, tmp_path) as world:
        users = Users(world)
        settings = world.settings(tmp_path / "journal.db", reorg_window=REORG_WINDOW)
        async with open_connector(settings, on_event=heard.on_event):
            plans = await users.prepare(*FORMS[1:])
            snapshot = await world.gateway.rpc.call("evm_snapshot")
            lost = await users.request(plans)
            await wait_until(heard.has(ReplyIncluded, len(lost)))
            assert await world.gateway.rpc.call("evm_revert", snapshot)
            world.cores[0].restart()
            again = await users.request(plans[::-1])
            ground_truth = await ground_truth_about(world, len(again))
        assert [one.id for one in again] == [one.id for one in lost]
        assert_all_once(again, ground_truth)
        await assert_right(world, users, again)


@pytest.mark.parametrize("final", [False, True], ids=["before it was final", "after it was final"])
async def test_a_reply_and_its_request_that_go_with_more_blocks_than_the_window_leave_their_ids_to_others(
    final: bool, anvil: Path, tmp_path: Path
) -> None:
    """A snapshot is restored after more than twice the reorg window; then users ask for other things and get the same ids."""
    heard = Heard()
    async with open_world(anvil, tmp_path) as world:
        users = Users(world)
        settings = world.settings(tmp_path / "journal.db", reorg_window=REORG_WINDOW)
        async with open_connector(settings, on_event=heard.on_event) as connector:
            before = await users.ask("public")
            await ground_truth_about(world, len(before))
            snapshot = await world.gateway.rpc.call("evm_snapshot")
            lost = await users.ask(*FORMS)
            await wait_until(heard.has(ReplyIncluded, len(before) + len(lost)))
            await trio.sleep(2.5 * REORG_WINDOW)
            if final:
                await wait_until(heard.has(ReplyFinalized, len(before) + len(lost)))
            assert await world.gateway.rpc.call("evm_revert", snapshot)
            world.cores[0].restart()
            others = await users.ask(*FORMS)
            ground_truth = await ground_truth_about(world, len(before) + len(others))
            await wait_until(heard.has(ChainReorganised, 1))
            assert connector.statistics().queue.gaps == 0
        assert [one.id for one in others] == [one.id for one in lost]
        assert_all_once([*before, *others], ground_truth)
        await assert_right(world, users, [*before, *others])


async def test_a_final_reply_that_goes_while_its_request_stays_is_sent_again(
    anvil: Path, tmp_path: Path
) -> None:
    """The chain goes back to where the request was there and the reply was not, and makes other blocks."""
    heard = Heard()
    async with open_world(anvil, tmp_path) as world:
        users = Users(world)
        settings = world.settings(tmp_path / "journal.db", reorg_window=REORG_WINDOW)
        asked = await users.ask(*FORMS)
        snapshot = await world.gateway.rpc.call("evm_snapshot")
        async with open_connector(settings, on_event=heard.on_event):
            await wait_until(heard.has(ReplyFinalized, len(asked)))
            assert await world.gateway.rpc.call("evm_revert", snapshot)
            ground_truth = await ground_truth_about(world, len(asked))
        assert_all_once(asked, ground_truth)
        await assert_right(world, users, asked)


async def test_a_node_that_restarts_in_mid_run_costs_nothing(anvil: Path, tmp_path: Path) -> None:
    """Its state and blocks are kept over the restart; what waited in its pool is gone."""
    heard = Heard()
    async with open_world(anvil, tmp_path) as world, trio.open_nursery() as nursery:
        users = Users(world)
        settings = world.settings(tmp_path / "journal.db", reorg_window=REORG_WINDOW)
        async with open_connector(settings, on_event=heard.on_event):
            before = await users.ask(*FORMS * 2)
            await wait_until(heard.has(RequestRecorded, 1))
            await world.gateway.node.stop()
            await trio.sleep(DOWN)
            await world.gateway.node.start(nursery)
            after = await users.ask(*FORMS)
            ground_truth = await ground_truth_about(world, len(before) + len(after))
        assert_all_once([*before, *after], ground_truth)
        await assert_right(world, users, [*before, *after])
        nursery.cancel_scope.cancel()


async def test_a_node_that_is_killed_in_mid_run_loses_blocks_and_costs_nothing(
    anvil: Path, tmp_path: Path
) -> None:
    """After SIGKILL the chain goes on from where its state was last written: blocks with replies have never been."""
    heard = Heard()
    async with open_world(anvil, tmp_path) as world, trio.open_nursery() as nursery:
        users = Users(world)
        settings = world.settings(tmp_path / "journal.db", reorg_window=REORG_WINDOW)
        before = await users.ask(*FORMS)
        await world.gateway.node.wait_kept()
        async with open_connector(settings, on_event=heard.on_event):
            await wait_until(heard.has(ReplyIncluded, len(before)))
            last = await world.gateway.rpc.call("eth_getBlockByNumber", "latest", False)
            await world.gateway.node.crash()
            await trio.sleep(DOWN)
            await world.gateway.node.start(nursery)
            after = await users.ask(*FORMS)
            ground_truth = await ground_truth_about(world, len(before) + len(after))
        there_now = await world.gateway.rpc.call("eth_getBlockByNumber", last["number"], False)
        assert there_now["hash"] != last["hash"]
        assert heard.counts[ReplyIncluded] > len(before) + len(after)
        assert_all_once([*before, *after], ground_truth)
        await assert_right(world, users, [*before, *after])
        nursery.cancel_scope.cancel()


async def test_a_connector_without_its_journal_doubles_nothing(anvil: Path, tmp_path: Path) -> None:
    """The chain says what is answered: a new journal finds it there."""
    async with open_world(anvil, tmp_path) as world:
        users = Users(world)
        async with open_connector(world.settings(tmp_path / "first.db", reorg_window=REORG_WINDOW)):
            before = await users.ask(*FORMS)
            await ground_truth_about(world, len(before))
        heard = Heard()
        async with open_connector(
            world.settings(tmp_path / "second.db", reorg_window=REORG_WINDOW), on_event=heard.on_event
        ):
            after = await users.ask(*FORMS)
            ground_truth = await ground_truth_about(world, len(before) + len(after))
            await wait_until(heard.has(RequestRecorded, len(before) + len(after)))
        assert_all_once([*before, *after], ground_truth)

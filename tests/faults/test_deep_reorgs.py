"""Reorganisations deeper than the window, and requests that every node hides for longer: read again, counted, and answered."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from kmsconn.connector.connector import Connector
from kmsconn.emulator.node_faults import NodeFault
from kmsconn.model.events import AlertCleared, AlertRaised, ChainReorganised
from kmsconn.requests.completeness import NAME, PROOF_INTERVAL
from kmsconn.testing.faults import Ask, CoreRestart, Kill, Outage, Reorg, Wait, arrange
from kmsconn.testing.ground_truth import read_ground_truth
from kmsconn.testing.world import PlanStep, run_world
from tests.faults.scene import Scene

LOST = 306  # blocks of 0.25 s: 76 s, the window is 30
KILLED_UNTIL = 180.0
COMPUTING = {
    "final replies go, their requests stay": 4.0,
    "a reply goes that was found after the journal was lost": 4.0,
}
DEEP: dict[str, list[PlanStep]] = {
    "new requests under old ids": [
        Ask(20.0, "direct", 6),
        Reorg(90.0, LOST, "vanished", place="there", shorter=LOST),
        CoreRestart(90.1),
        Ask(90.2, "direct", 6),
        Wait(200.0),
    ],
    "the same requests under other ids": [
        Ask(20.0, "direct", 6),
        Reorg(90.0, LOST, "swapped", place="there"),
        CoreRestart(90.1),
        Wait(200.0),
    ],
    "final replies go, their requests stay": [
        Ask(12.0, "public", 6),
        Reorg(90.0, LOST, "vanished"),
        Wait(200.0),
    ],
    "everything goes but what is asked again": [
        Ask(20.0, "public", 3),
        Reorg(90.0, LOST, "vanished"),
        Ask(91.0, "public", 3),
        Wait(200.0),
    ],
    "a reply goes that was found after the journal was lost": [
        Ask(12.0, "public", 3),
        Kill(40.0, 1.0, lose_journal=True),
        Reorg(100.0, 346, "vanished"),
        Wait(200.0),
    ],
    "while the process is down": [
        Ask(20.0, "direct", 6),
        Kill(89.0, 20.0),
        Reorg(95.0, LOST + 20, "swapped", place="there"),
        CoreRestart(95.1),
        Wait(200.0),
    ],
    "while the node cannot be had": [
        Ask(20.0, "direct", 6),
        Outage(85.0, "gateway", "refuse", 40.0),
        Reorg(95.0, LOST + 20, "swapped", place="there"),
        CoreRestart(95.1),
        Wait(250.0),
    ],
    "there and back again": [
        Ask(20.0, "direct", 6),
        Reorg(90.0, LOST, "swapped", 40.0, place="there"),
        CoreRestart(90.1),
        CoreRestart(130.1),
        Wait(250.0),
    ],
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", DEEP)
def test_a_reorganisation_beyond_the_window_loses_and_doubles_nothing(name: str) -> None:
    run_world(
        DEEP[name], nodes=1, block_time=0.25, settle_time=300.0, computing=COMPUTING.get(name, 0.1)
    ).check()


@pytest.mark.sampled
def test_a_process_that_is_killed_each_four_seconds_gets_past_it() -> None:
    """No life of it is long enough for a second look: what was suspected before a start counts."""
    plan: list[PlanStep] = [
        Ask(20.0, "direct", 6),
        Reorg(90.0, LOST, "vanished", place="there", shorter=LOST),
        CoreRestart(90.1),
        Ask(90.2, "direct", 6),
        *(Kill(90.5 + 4.0 * life, 0.1) for life in range(1, 25)),
        Wait(190.0),
    ]
    report = run_world(plan, nodes=1, block_time=0.25, settle_time=300.0)
    report.check()
    assert min(at for at, event in report.log if isinstance(event, ChainReorganised)) < KILLED_UNTIL


FORMS = ("public", "direct", "unified")


def hide(scene: Scene, fault: NodeFault) -> None:
    """Let every node of the gateway hide logs until it is healed."""
    for node in scene.dependencies.clusters["gateway"].nodes:
        node.faults.misbehave(fault)


def heal(scene: Scene) -> None:
    for node in scene.dependencies.clusters["gateway"].nodes:
        node.faults.heal()


def of_the_proof(scene: Scene) -> list[AlertRaised | AlertCleared]:
    return [event for event in (*scene.events,) if getattr(event, "dependency", "").startswith(NAME)]  # type: ignore[misc]


@pytest.mark.parametrize("fault", [NodeFault.EMPTY_LOGS, NodeFault.PARTIAL_LOGS])
@pytest.mark.parametrize("before", [0, 3], ids=["from the first one", "after others"])
async def test_what_all_nodes_hid_is_found_by_its_number_and_answered(
    fault: NodeFault, before: int, scene: Scene
) -> None:
    early = await scene.ask(*FORMS[:before])
    async with scene.connected() as connector:
        await scene.wait(lambda: scene.answered == set(early))
        # settled first, so that no read leaves them out
        await trio.sleep(3 * scene.settings().reading.reorg_window)
        hide(scene, fault)
        hidden = await scene.ask(*FORMS * 2)
        await trio.sleep(3 * scene.settings().reading.reorg_window)
        heal(scene)
        await trio.sleep(2)
        assert not set(hidden) <= scene.answered  # that is settled: nobody reads there any more
        await scene.wait(lambda: scene.answered == {*early, *hidden}, 4 * PROOF_INTERVAL)
        await scene.wait(lambda: connector.statistics().queue.gaps == 0, 2 * PROOF_INTERVAL)
    assert [type(event) for event in of_the_proof(scene)] == [AlertRaised, AlertCleared]
    assert of_the_proof(scene)[0].critical  # type: ignore[union-attr]


async def test_while_they_are_hidden_health_and_statistics_say_so(scene: Scene, connector: Connector) -> None:
    hide(scene, NodeFault.EMPTY_LOGS)
    hidden = await scene.ask(*FORMS)
    await scene.wait(lambda: connector.statistics().queue.gaps == len(hidden), 4 * PROOF_INTERVAL)
    [told] = of_the_proof(scene)
    assert "3 requests are not in the journal: 0x" in told.text  # type: ignore[union-attr]
    heal(scene)
    await scene.wait(lambda: scene.answered == set(hidden), 2 * PROOF_INTERVAL)


async def test_nothing_is_suspected_in_an_honest_world(scene: Scene) -> None:
    async with scene.connected() as connector:
        for _ in range(8):
            await scene.ask(*FORMS)
            await trio.sleep(PROOF_INTERVAL / 2)
        assert connector.statistics().queue.gaps == 0
    assert of_the_proof(scene) == []


async def test_the_proof_goes_on_after_a_restart_without_a_start_block(scene: Scene) -> None:
    async with scene.connected(decryption_from_block_number=None):
        await trio.sleep(2)
        early = await scene.ask("public")
        await scene.wait(lambda: set(early) <= scene.answered)
    async with scene.connected(decryption_from_block_number=None):
        hide(scene, NodeFault.EMPTY_LOGS)
        hidden = await scene.ask(*FORMS)
        await trio.sleep(3 * scene.settings().reading.reorg_window)
        heal(scene)
        await scene.wait(lambda: set(hidden) <= scene.answered, 4 * PROOF_INTERVAL)


async def test_other_content_under_ids_that_are_known_is_found_though_nobody_told_of_it(scene: Scene) -> None:
    """After a reorganisation the nodes' headers are the new ones, and their logs for a while the old ones, out of a cache."""
    async with scene.connected() as connector:
        await scene.ask("public")
        await trio.sleep(2)
        early = await scene.ask("direct", "direct")
        await scene.wait(lambda: set(early) <= scene.answered)
        gateway = scene.dependencies.gateway
        swap = partial(arrange, swapped=scene.dependencies.decryption.address, sizes=[0] * 5)
        branch = gateway.reorg(5, arrange=swap)
        for node in scene.dependencies.clusters["gateway"].nodes:
            node.log_fork = branch
        for core in scene.dependencies.cores:
            core.core.restart()
        await trio.sleep(4 * scene.settings().reading.reorg_window)
        for node in scene.dependencies.clusters["gateway"].nodes:
            node.log_fork = None
        assert read_ground_truth(scene.dependencies).open
        await scene.wait(lambda: not read_ground_truth(scene.dependencies).open, 6 * PROOF_INTERVAL)
        assert read_ground_truth(scene.dependencies).doubled == ()
        await scene.wait(lambda: connector.statistics().queue.gaps == 0, 2 * PROOF_INTERVAL)


async def test_a_start_block_that_is_set_later_is_read_from_once_more(scene: Scene) -> None:
    early = await scene.ask(*FORMS)
    await trio.sleep(20)
    async with scene.connected(decryption_from_block_number=None):
        await trio.sleep(10)
        later = await scene.ask("public")
        await scene.wait(lambda: scene.answered == set(later))
    async with scene.connected(decryption_from_block_number=0):
        await scene.wait(lambda: scene.answered == {*early, *later})

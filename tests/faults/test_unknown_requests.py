"""Requests that the contract numbers in a form that this version does not know: heard, told as a warning, and not missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.emulator.contracts.decryption import UNHEARD_OF, unheard_of_request
from kmsconn.emulator.node_faults import Honest
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import USER_DECRYPTION_TAG, make_id
from kmsconn.model.events import AlertCleared, AlertRaised, UnknownRequestsHeard
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import DECRYPTION, LATER_EVENTS
from kmsconn.requests.completeness import NAME, PROOF_INTERVAL
from kmsconn.testing.faults import Ask, AskUnheardOf, Kill, Reorg, Wait
from kmsconn.testing.faults.lies import BentAnswers
from kmsconn.testing.world import run_world
from tests.faults.scene import Scene, all_mined, open_scene

USER = "direct"


def ask_unheard_of(scene: Scene) -> None:
    decryption = scene.dependencies.decryption
    scene.dependencies.gateway.actors.act(decryption.address, unheard_of_request)


def unheard_of(scene: Scene) -> list[Log]:
    mined = (log for one in all_mined(scene.dependencies.gateway) for log in one.logs)
    return [log for log in mined if log.topics[0] == UNHEARD_OF.topic0]


def ask_mixed(scene: Scene) -> list[bytes]:
    """Ask for six decryptions in one block, the second, the fourth and the last in the unknown form; return the others' hashes."""
    asked = []
    for _ in range(3):
        asked.append(scene.traffic.forms[USER]())
        ask_unheard_of(scene)
    return asked


def of_the_proof(scene: Scene) -> Iterator[AlertRaised | AlertCleared]:
    for event in scene.events:
        if isinstance(event, AlertRaised | AlertCleared) and event.dependency.startswith(NAME):
            yield event


async def test_three_unknown_requests_in_a_burst_are_a_warning_and_the_rest_goes_on(scene: Scene) -> None:
    async with scene.connected() as connector:
        await connector.wait_ready()
        ids = await scene.on_chain(ask_mixed(scene))
        await scene.wait_answered(ids)
        await trio.sleep(4 * PROOF_INTERVAL)
        assert connector.statistics().queue.gaps == 0
        assert scene.http("/healthz").status == 200
        later = await scene.ask(USER)
        await scene.wait_answered(later)
        await trio.sleep(2 * PROOF_INTERVAL)
    logs = unheard_of(scene)
    assert [log.topics[1] for log in logs] == [
        make_id(USER_DECRYPTION_TAG, number).to_bytes(32) for number in (2, 4, 6)
    ]
    [raised] = of_the_proof(scene)
    assert isinstance(raised, AlertRaised)
    assert (raised.cause, raised.critical, raised.count) == ("unknown-event", False, 3)
    assert to_hex(UNHEARD_OF.topic0) in raised.text
    assert f"block {logs[-1].block_number}" in raised.text

    heard = [(one.kind, one.topic, one.count) for one in scene.told(UnknownRequestsHeard)]
    assert heard == [(Kind.USER_DECRYPTION, UNHEARD_OF.topic0, 3)]


async def test_one_that_a_reorganisation_took_away_is_told_no_more(scene: Scene) -> None:
    async with scene.connected() as connector:
        await connector.wait_ready()
        early = await scene.ask(USER)
        ask_unheard_of(scene)
        await scene.wait(lambda: any(of_the_proof(scene)), 4 * PROOF_INTERVAL)
        [log] = unheard_of(scene)
        chain = scene.dependencies.gateway
        chain.reorg(
            chain.head.number - log.block_number + 1, drop=lambda one: one.hash == log.transaction_hash
        )
        later = await scene.ask(USER)
        assert later == [int.from_bytes(log.topics[1])]
        await scene.wait_answered([*early, *later])
        await trio.sleep(3 * PROOF_INTERVAL)
        assert connector.statistics().queue.gaps == 0
    raised, cleared = of_the_proof(scene)
    assert isinstance(raised, AlertRaised)
    assert cleared == AlertCleared(raised.dependency, "unknown-event")


async def test_a_start_asks_for_them_again(scene: Scene) -> None:
    async with scene.connected() as connector:
        await connector.wait_ready()
        await scene.on_chain(ask_mixed(scene))
        await trio.sleep(3 * PROOF_INTERVAL)
    scene.events.clear()
    async with scene.connected() as connector:
        await connector.wait_ready()
        await trio.sleep(3 * PROOF_INTERVAL)
        [raised] = of_the_proof(scene)
        assert (raised.cause, getattr(raised, "count", 0)) == ("unknown-event", 3)


def lie_about_requests(scene: Scene, liars: Sequence[int]) -> Callable[[], None]:
    """Let nodes hide each request of users, and show it under a topic that nobody knows to whoever asks for its id; return what ends it."""
    known = {**DECRYPTION.events_by_topic, **LATER_EVENTS}
    requests = {topic for topic, event in known.items() if event.name == "UserDecryptionRequest"}

    def is_request(log: Any) -> bool:
        return bytes.fromhex(log["topics"][0][2:]) in requests

    def hide(honest: Honest) -> Any:
        return [log for log in honest() if not is_request(log)]

    def forge(honest: Honest) -> Any:
        topic = to_hex(UNHEARD_OF.topic0)
        return [
            {**log, "topics": [topic, *log["topics"][1:]]} if is_request(log) else log for log in honest()
        ]

    lies = [
        BentAnswers(bend=hide, method="eth_getLogs", containing='"topics": [["0x'),
        BentAnswers(bend=forge, method="eth_getLogs", containing='"topics": [null, ['),
    ]
    nodes = scene.dependencies.clusters["gateway"].nodes
    ends = [nodes[liar].faults.strike(lie) for liar in liars for lie in lies]

    def end() -> None:
        for one in ends:
            one()

    return end


@pytest.mark.parametrize("liars", [(0,), (1,), (0, 1)], ids=["the first", "the second", "both"])
async def test_nodes_that_make_up_such_a_log_hide_no_request_for_good(
    liars: tuple[int, ...], tmp_path: Path
) -> None:
    async with open_scene(tmp_path, nodes=2) as scene, scene.connected() as connector:
        await connector.wait_ready()
        end = lie_about_requests(scene, liars)
        hidden = await scene.ask(USER, USER)
        # One of two nodes is found out, if not at once; two that agree are believed for as long as they lie, and no longer.
        wanted = "unknown-event" if len(liars) == 2 else "missing-requests"
        await scene.wait(
            lambda: set(hidden) <= scene.answered or wanted in [one.cause for one in of_the_proof(scene)],
            6 * PROOF_INTERVAL,
        )
        end()
        await scene.wait(lambda: set(hidden) <= scene.answered, 4 * PROOF_INTERVAL)
        await scene.wait(lambda: connector.statistics().queue.gaps == 0, 4 * PROOF_INTERVAL)
    raised = [one.cause for one in of_the_proof(scene) if isinstance(one, AlertRaised)]
    cleared = [one.cause for one in of_the_proof(scene) if isinstance(one, AlertCleared)]
    assert sorted(set(raised)) == sorted(set(cleared))


def test_worlds_with_unknown_requests_lose_nothing() -> None:
    report = run_world(
        [
            Ask(1.0, "any", 5),
            AskUnheardOf(1.0),
            Ask(1.0, "any", 5),
            AskUnheardOf(5.0, 2),
            Kill(6.6, 2.0),
            Reorg(12.0, 8, "moved"),
            Ask(13.0, "any", 5),
            AskUnheardOf(18.0),
            Reorg(18.5, 10, "swapped"),
            Ask(20.0, "any", 5),
            AskUnheardOf(70.0, 3),
            Reorg(72.0, 20, "vanished"),
            Ask(80.0, "any", 5),
            Wait(200.0),
        ]
    )
    report.check()
    missing = [one for _, one in report.log if getattr(one, "cause", "") == "missing-requests"]
    assert missing == []

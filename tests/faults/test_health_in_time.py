"""Health is red within 15 seconds of the moment at which nothing passes any more, and stays green in days that are odd but honest.

Requests of three forms come every two seconds, and what stops them, or seems to, begins after forty. ``docs/alerts.md`` has the table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.config.description import AttestationMode
from kmsconn.emulator.buckets import RefusingBucket
from kmsconn.emulator.core_faults import CoreFault, FailingCore, HangingCore, SpoiledCore
from kmsconn.emulator.node_faults import (
    CallFault,
    FalseResults,
    HangingCalls,
    Honest,
    NodeFault,
    RefusedCalls,
)
from kmsconn.model.events import RequestRecorded
from kmsconn.testing.faults.lies import BentAnswers
from tests.faults.scene import Scene, open_scene
from tests.faults.test_health_table import FORMS, RESULTS, STARTS, alert, core_gone

pytestmark = [pytest.mark.once, pytest.mark.sampled]

EVERY = 2.0  # seconds between the requests of all forms
BEFORE = 40.0  # seconds of good days before
TOLD = 15.0
"""Seconds until health says that nothing passes."""

Begin = Callable[[Scene], object]
"""What begins at a moment."""


async def keep_asking(scene: Scene) -> None:
    """Have requests of all forms made until cancelled."""
    while True:
        for form in FORMS:
            scene.traffic.forms[form]()
        await trio.sleep(EVERY)


def criticals(scene: Scene) -> set[tuple[str, str]]:
    """Return the dependencies and causes of the critical alerts."""
    return {(one.dependency, one.cause) for one in scene.monitor.health().alerts if one.critical}


def core_does(fault: CoreFault, *methods: str) -> Begin:
    """Let the Core do something wrong with every call of these methods."""
    return lambda scene: [scene.dependencies.cores[0].strike(fault, method) for method in methods]


def buckets_do(how: str) -> Begin:
    """Let the lines to all buckets fail."""

    def begin(scene: Scene) -> None:
        for index in range(len(scene.dependencies.buckets)):
            break_line(scene, f"bucket{index}", how)

    return begin


def break_line(scene: Scene, name: str, how: str) -> None:
    """Let a line refuse, say nothing, or lose what is sent over it."""
    line = scene.network.line(*scene.dependencies.places[name])
    if how == "lost":
        line.there.lost = line.back.lost = True
    else:
        setattr(line, how, True)
        line.cut()


def mend_line(scene: Scene, name: str, how: str) -> None:
    """Let a line work again that was broken by ``break_line``."""
    setattr(scene.network.line(*scene.dependencies.places[name]), how, False)


def line(name: str, how: str) -> Begin:
    """Break a line for good."""
    return lambda scene: break_line(scene, name, how)


def nodes(chain: str, fault: CallFault) -> Begin:
    """Let all nodes of a chain do something wrong with a call."""
    return lambda scene: [one.faults.strike(fault) for one in scene.dependencies.clusters[chain].nodes]


def swallow(scene: Scene) -> None:
    """Let the nodes take transactions and forget them."""
    for one in scene.dependencies.clusters["gateway"].nodes:
        one.faults.misbehave(NodeFault.SWALLOWED)


def all_refuse(scene: Scene) -> None:
    """Let every bucket answer that it is forbidden."""
    for bucket in scene.dependencies.buckets:
        bucket.strike(RefusingBucket(code=403))


def reset(*, bare: bool) -> Begin:
    """Let the Gateway begin again at its first block; ``bare``: without contracts, and longer than before."""

    def begin(scene: Scene) -> None:
        gateway = scene.dependencies.gateway
        height = gateway.head.number
        gateway.reorg(height, drop=lambda _transaction: True, shorter=height)
        if bare:
            gateway.evm.contracts.clear()
            gateway.mine_many(height + 30)

    return begin


INTERNAL = FailingCore(message="broken")
REVERTED = RefusedCalls(method="eth_estimateGas", code=3, message="execution reverted", data="0x")

CAUSES: dict[str, tuple[Begin, str]] = {
    "the Core refuses connections": (lambda scene: core_gone(scene, "refuse"), "unreachable"),
    "the Core accepts and says nothing": (lambda scene: core_gone(scene, "mute"), "unreachable"),
    "the Core hangs at starts": (core_does(HangingCore(), *STARTS), "too-slow"),
    "the Core: UNAVAILABLE": (core_does(FailingCore(code="UNAVAILABLE"), *STARTS), "calls-fail"),
    "the Core: RESOURCE_EXHAUSTED": (core_does(FailingCore(code="RESOURCE_EXHAUSTED"), *STARTS), "overloaded"),
    "the Core: INTERNAL": (core_does(INTERNAL, *STARTS), "internal-error"),
    "the Core: INTERNAL as result": (core_does(INTERNAL, *RESULTS), "internal-error"),
    "the Core: NOT_FOUND": (core_does(FailingCore(code="NOT_FOUND"), *STARTS), "too-slow"),
    "the Core signs with another key": (core_does(SpoiledCore(how="stranger's signature"), *RESULTS), "wrong-signer"),
    "buckets: 403": (all_refuse, "calls-fail"),
    "buckets refuse connections": (buckets_do("refuse"), "calls-fail"),
    "buckets say nothing": (buckets_do("mute"), "too-slow"),
    "buckets cannot be reached": (buckets_do("unreachable"), "calls-fail"),
    "the Gateway refuses connections": (line("gateway", "refuse"), "unreachable"),
    "the Gateway accepts and says nothing": (line("gateway", "mute"), "unreachable"),
    "the Gateway's line loses everything": (line("gateway", "lost"), "unreachable"),
    "the Gateway hangs at every call": (nodes("gateway", HangingCalls()), "unreachable"),
    "the Gateway answers errors": (nodes("gateway", RefusedCalls()), "rounds"),
    "no logs": (nodes("gateway", RefusedCalls(method="eth_getLogs")), "logs"),
    "no estimate": (nodes("gateway", RefusedCalls(method="eth_estimateGas")), "gas-estimate-unanswered"),
    "the contract refuses every reply": (nodes("gateway", REVERTED), "contract-refuses"),
    "no broadcast is taken": (nodes("gateway", RefusedCalls(method="eth_sendRawTransaction")), "broadcast"),
    "no nonce": (nodes("gateway", RefusedCalls(method="eth_getTransactionCount")), "rounds"),
    "broadcasts are swallowed": (swallow, "not-included"),
    "no index of transactions": (nodes("gateway", FalseResults(method="eth_getTransactionByHash")), "too-slow"),
    "the Gateway is reset": (reset(bare=False), "logs"),
    "the Gateway is reset, without contracts": (reset(bare=True), "wrong-contract"),
    "a host chain refuses connections": (line("host", "refuse"), "unreachable"),
    "a host chain answers errors": (nodes("host", RefusedCalls(method="eth_call")), "calls-fail"),
    "a host chain hangs": (nodes("host", HangingCalls(method="eth_call")), "calls-fail"),
}  # fmt: skip


@pytest.mark.parametrize(("begin", "cause"), CAUSES.values(), ids=CAUSES)
async def test_that_nothing_passes_is_told_in_time(begin: Begin, cause: str, scene: Scene) -> None:
    async with scene.connected() as connector, trio.open_nursery() as nursery:
        await connector.wait_ready()
        nursery.start_soon(keep_asking, scene)
        await trio.sleep(BEFORE)
        assert scene.http("/healthz").status == 200
        begin(scene)
        await scene.wait(lambda: scene.http("/healthz").status == 503, TOLD)
        assert cause in {found for _, found in criticals(scene)}
        nursery.cancel_scope.cancel()


# --- honest days


@attrs.frozen
class HonestDay:
    """A day that is odd but honest: what happens, and which critical alerts are true while it does."""

    happens: Callable[[Scene], Awaitable[None]]
    true_meanwhile: Collection[tuple[str, str]] = ()


async def fork(scene: Scene) -> None:
    """Replace blocks of the Gateway, with their requests, again and again."""
    for depth in (1, 2, 3, 2):
        scene.dependencies.gateway.reorg(depth)
        await trio.sleep(5)


async def shortening_fork(scene: Scene) -> None:
    """Replace blocks of the Gateway by fewer: the node has less than was read."""
    for _ in range(3):
        scene.dependencies.gateway.reorg(4, shorter=2)
        await trio.sleep(7)


async def cut_connections(scene: Scene) -> None:
    """Reset every connection to the Gateway each six seconds."""
    for _ in range(4):
        scene.network.line("gateway", 80).cut()
        await trio.sleep(6)


def away(name: str, seconds: float) -> Callable[[Scene], Awaitable[None]]:
    """Return a day on which a dependency refuses connections for so long, and is there again."""

    async def happens(scene: Scene) -> None:
        break_line(scene, name, "refuse")
        await trio.sleep(seconds)
        mend_line(scene, name, "refuse")

    return happens


async def paused(scene: Scene) -> None:
    """Pause the contract: it takes replies and no requests."""
    contract, evm = scene.dependencies.decryption, scene.dependencies.gateway.evm
    evm.set_up(contract.address, contract.pause, paused=True)
    await trio.sleep(60)
    evm.set_up(contract.address, contract.pause, paused=False)


def halted(*names: str) -> Callable[[Scene], Awaitable[None]]:
    """Return a day on which chains make no blocks for a minute."""

    async def happens(scene: Scene) -> None:
        chains = [getattr(scene.dependencies, name) for name in names]
        for chain in chains:
            chain.stalled = True
        await trio.sleep(60)
        for chain in chains:
            chain.stalled = False

    return happens


async def burst(scene: Scene) -> None:
    """Let two hundred requests come at once."""
    for _ in range(200):
        scene.traffic.forms["public"]()
    await trio.sleep(20)


async def slow_core(scene: Scene) -> None:
    """Let the Core compute for a hundred seconds."""
    scene.dependencies.cores[0].core.computing = 100.0
    await trio.sleep(150)


async def buckets_restart(scene: Scene) -> None:
    """Let every bucket be away for five seconds."""
    buckets_do("refuse")(scene)
    await trio.sleep(5)
    for index in range(len(scene.dependencies.buckets)):
        mend_line(scene, f"bucket{index}", "refuse")


HONEST = {
    "forks": HonestDay(fork),
    "forks that shorten the chain": HonestDay(shortening_fork),
    "connections to the Gateway are reset": HonestDay(cut_connections),
    "catch-up after the Gateway was away": HonestDay(away("gateway", 60.0), {("gateway", "unreachable")}),
    "catch-up after the Core was away": HonestDay(away("core0", 120.0), {("core[0]", "unreachable")}),
    "a Core that restarts in 20 s": HonestDay(away("core0", 20.0), {("core[0]", "unreachable")}),
    "a Core that computes for 100 s": HonestDay(slow_core),
    "buckets that restart in 5 s": HonestDay(buckets_restart),
    "a paused contract": HonestDay(paused),
    "a halted Gateway": HonestDay(halted("gateway")),
    "halted chains": HonestDay(halted("gateway", "ethereum", "host")),
    "two hundred requests at once": HonestDay(burst),
}


async def watch(scene: Scene, told: set[tuple[str, str]]) -> None:
    """Note every critical alert until cancelled."""
    while True:
        told |= criticals(scene)
        await trio.sleep(0.25)


@pytest.mark.parametrize("day", HONEST.values(), ids=HONEST)
async def test_no_alarm_is_false_on_an_honest_day(day: HonestDay, scene: Scene) -> None:
    told: set[tuple[str, str]] = set()
    async with scene.connected() as connector, trio.open_nursery() as nursery:
        await connector.wait_ready()
        nursery.start_soon(keep_asking, scene)
        nursery.start_soon(watch, scene, told)
        await trio.sleep(BEFORE)
        await day.happens(scene)
        assert told <= set(day.true_meanwhile)
        await trio.sleep(5)
        told.clear()
        await trio.sleep(60)
        assert told == set()
        assert scene.http("/healthz").status == 200
        nursery.cancel_scope.cancel()


async def test_a_slow_start_is_not_ready_and_no_alarm_once_it_is(tmp_path: Path) -> None:
    """The Core and the Gateway come up half a minute after the connector, with requests that wait."""
    told: set[tuple[str, str]] = set()
    async with open_scene(tmp_path) as scene:
        for name in ("gateway", "core0"):
            break_line(scene, name, "refuse")
        async with scene.connected() as connector, trio.open_nursery() as nursery:
            nursery.start_soon(keep_asking, scene)
            await trio.sleep(30)
            for name in ("gateway", "core0"):
                mend_line(scene, name, "refuse")
            await connector.wait_ready()
            await trio.sleep(2)
            nursery.start_soon(watch, scene, told)
            await trio.sleep(60)
            assert told == set()
            nursery.cancel_scope.cancel()


# --- logs that a node makes up


@attrs.define
class Forger:
    """A node that shows logs that no block holds: those of honest requests, with other ids and at its present head."""

    scene: Scene
    same_transaction: bool
    other_hash: bool
    templates: list[dict[str, Any]] = attrs.field(factory=list)
    forged: list[dict[str, Any]] = attrs.field(factory=list)

    def learn(self, honest: Honest) -> Any:
        """Keep the honest logs."""
        logs = honest()
        self.templates += [log for log in logs if log not in self.templates]
        return logs

    def forge(self) -> None:
        """Make up six more logs."""
        head = self.scene.dependencies.gateway.head
        for template in self.templates[:6]:
            count = len(self.forged) + 1
            topic, identifier, *more = template["topics"]
            made_up = f"0x{count:064x}"
            self.forged.append(
                {
                    **template,
                    "topics": [topic, f"0x{int(identifier, 16) + 1000 + count:064x}", *more],
                    "logIndex": hex(50 + count),
                    "blockNumber": hex(head.number),
                    "blockHash": made_up if self.other_hash else f"0x{head.hash.hex()}",
                    "transactionHash": template["transactionHash"] if self.same_transaction else made_up,
                }
            )

    def show(self, criteria: Mapping[str, Any], honest: Honest) -> Any:
        """Show the forged logs of these blocks and this contract beside the honest ones."""
        first, last = criteria["fromBlock"], criteria["toBlock"]
        end = self.scene.dependencies.gateway.head.number if last == "latest" else int(last, 16)
        return honest() + [
            log
            for log in self.forged
            if log["address"].lower() == criteria["address"].lower()
            and int(first, 16) <= int(log["blockNumber"], 16) <= end
        ]


class ForgedLogs(CallFault, frozen=True):
    """``eth_getLogs`` shows what a forger has made up."""

    name = "forged logs"
    show: Any = None
    criteria: Any = None
    """A dict that keeps what was asked for."""

    def meant(self, method: str, params: Sequence[Any]) -> bool:
        """Note what is asked for."""
        if not super().meant(method, params):
            return False
        self.criteria.clear()
        self.criteria.update(params[0])
        return True

    def act(self, _method: str, honest: Honest) -> Any:
        """Return the honest logs, and others."""
        return self.show(dict(self.criteria), honest)


FORGED = {
    "of transactions that are not": (False, False),
    "of honest transactions": (True, False),
    "of a block that is not": (False, True),
}


@pytest.mark.parametrize(("same_transaction", "other_hash"), FORGED.values(), ids=FORGED)
async def test_forged_logs_hold_health_no_longer_than_they_are_shown(
    scene: Scene, *, same_transaction: bool, other_hash: bool
) -> None:
    """Nobody asks for anything afterwards, so that nothing passes that would show that all is well."""
    node = scene.dependencies.clusters["gateway"].nodes[0]
    forger = Forger(scene, same_transaction, other_hash)
    async with scene.connected() as connector:
        await connector.wait_ready()
        learning = node.faults.strike(BentAnswers(bend=forger.learn, method="eth_getLogs"))
        honest = [identifier for _ in range(3) for identifier in await scene.ask(*FORMS)]
        await scene.wait_answered(honest)
        learning()
        forger.forge()
        stop = node.faults.strike(ForgedLogs(show=forger.show, criteria={}, method="eth_getLogs"))
        await trio.sleep(10)
        forger.forge()
        await trio.sleep(10)
        assert len(scene.told(RequestRecorded)) > len(honest)
        stop()
        await trio.sleep(TOLD)
        told: set[tuple[str, str]] = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, scene, told)
            await trio.sleep(300)
            nursery.cancel_scope.cancel()
        assert told == set()
        await scene.wait_answered(await scene.ask(*FORMS))


async def test_one_dead_bucket_is_critical_at_once_if_every_quorum_needs_it(scene: Scene) -> None:
    async with scene.connected(attestation=AttestationMode.ENFORCE) as connector:
        await connector.wait_ready()
        await scene.wait_answered(await scene.ask(*FORMS))
        repair = scene.dependencies.buckets[1].strike(RefusingBucket(code=500))
        ids = await scene.ask("public")
        await trio.sleep(9)
        assert scene.http("/healthz").status == 200
        await trio.sleep(4)
        assert scene.http("/healthz").status == 503
        found = alert(scene, "buckets", "calls-fail")
        assert found is not None
        assert found.critical
        assert "1 of 2 buckets answer, and a quorum needs 2" in found.text
        repair()
        await scene.wait_answered(ids)
        await scene.wait(lambda: scene.http("/healthz").status == 200, 5)

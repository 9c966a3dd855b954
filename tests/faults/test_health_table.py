"""Each situation that health did not see: it is named, what waits is not lost, and after the repair all of it is answered.

``HEALTH_TABLE=path`` has the rows written there: what was seen, and after how many virtual seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.config.parties import Chain
from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.buckets import RefusingBucket
from kmsconn.emulator.core_faults import CoreFault, FailingCore, SpoiledCore
from kmsconn.emulator.dependencies import GATEWAY_ID
from kmsconn.emulator.execution import Frame
from kmsconn.emulator.node_faults import FalseResults, NodeFault
from kmsconn.emulator.pool import pool_of
from kmsconn.model.events import AlertRaised, ReplyReturned, RequestClosed
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.transport.waiting import STALLED_AFTER
from tests.faults.scene import BEGIN, Scene, open_scene

pytestmark = [pytest.mark.once, pytest.mark.sampled]

FORMS = ("public", "direct", "unified")
RESULTS = ("GetPublicDecryptionResult", "GetUserDecryptionResult")
STARTS = ("PublicDecrypt", "UserDecrypt")
LONG = 600.0


def alert(scene: Scene, dependency: str, cause: str) -> AlertRaised | None:
    """Return the present alert of a dependency and cause."""
    found = [
        one for one in scene.monitor.health().alerts if (one.dependency, one.cause) == (dependency, cause)
    ]
    return found[0] if found else None


async def named(
    scene: Scene, dependency: str, cause: str, *, critical: bool = True, seconds: float = LONG
) -> AlertRaised:
    """Wait until an alert is there, with this severity, and note the row of the table."""
    began = trio.current_time()

    def there() -> AlertRaised | None:
        found = alert(scene, dependency, cause)
        return found if found is not None and found.critical is critical else None

    found: AlertRaised = await scene.wait(there, seconds)
    note(scene, found, trio.current_time() - began)
    assert found.text
    assert found.remedy
    assert scene.http("/healthz").status == (503 if critical else 200)
    assert scene.http("/liveness").status == 200
    return found


def note(scene: Scene, found: AlertRaised, seconds: float) -> None:
    """Note what health says of a situation, and after how long."""
    write(
        {
            "seconds": round(seconds, 1),
            "alert": f"{found.dependency} · {found.cause} · {found.severity}",
            "text": found.text,
            "remedy": found.remedy,
            "count": found.count,
            **{
                name: [one.status, json.loads(one.body)]
                for name in ("liveness", "healthz")
                if (one := scene.http(f"/{name}"))
            },
        }
    )


def write(row: dict[str, Any]) -> None:
    """Write a row of the table where that is asked for."""
    if path := os.environ.get("HEALTH_TABLE"):
        situation = os.environ["PYTEST_CURRENT_TEST"].split("::")[1].removesuffix(" (call)")
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"situation": situation, **row}) + "\n")


async def is_over(scene: Scene, ids: list[int], *more: str) -> None:
    """After the repair everything is answered, nothing was closed, and no alert is left."""
    began = trio.current_time()
    ids = [*ids, *await scene.ask(*more)] if more else ids
    await scene.wait(lambda: scene.answered >= set(ids), 900)
    assert scene.told(RequestClosed) == []
    await scene.wait(lambda: not scene.monitor.health().alerts, 120)
    assert scene.http("/healthz").status == 200
    write({"silent after": round(trio.current_time() - began, 1)})


def core_always(scene: Scene, fault: CoreFault, methods: tuple[str, ...]) -> Callable[[], None]:
    """Let the Core do something wrong with every call of these methods; return what repairs it."""
    core = scene.dependencies.cores[0]
    for method in methods:
        core.strike(fault, method)
    return core.heal


CORE: dict[str, tuple[CoreFault, tuple[str, ...], str]] = {
    "the Core signs with another key": (SpoiledCore(how="stranger's signature"), RESULTS, "wrong-signer"),
    "the Core answers nonsense to everything": (SpoiledCore(how="no payload"), RESULTS, "wrong-answer"),
    "INTERNAL to everything": (FailingCore(message="broken"), STARTS, "internal-error"),
    "INTERNAL as result": (FailingCore(message="broken"), RESULTS, "internal-error"),
    "INVALID_ARGUMENT to all": (FailingCore(code="INVALID_ARGUMENT"), STARTS, "rejects"),
    "UNAUTHENTICATED": (FailingCore(code="UNAUTHENTICATED"), STARTS, "misconfigured"),
    "NOT_FOUND to every start": (FailingCore(code="NOT_FOUND"), STARTS, "too-slow"),
    "UNAVAILABLE to starts": (FailingCore(code="UNAVAILABLE"), STARTS, "calls-fail"),
}


@pytest.mark.parametrize(("fault", "methods", "cause"), CORE.values(), ids=CORE)
async def test_core(
    fault: CoreFault, methods: tuple[str, ...], cause: str, scene: Scene, connector: Connector
) -> None:
    await scene.wait_answered(await scene.ask(*FORMS))
    repair = core_always(scene, fault, methods)
    ids = await scene.ask(*FORMS * 4)
    found = await named(scene, "core[0]", cause)
    assert found.count >= 3
    await trio.sleep(120)
    assert scene.told(RequestClosed) == []
    assert alert(scene, "core[0]", cause).count == len(ids)  # type: ignore[union-attr]
    repair()
    await is_over(scene, ids, *FORMS)


async def test_buckets_that_answer_403(scene: Scene, connector: Connector) -> None:
    for bucket in scene.dependencies.buckets:
        bucket.strike(RefusingBucket(code=403))
    ids = await scene.ask(*FORMS * 4)
    found = await named(scene, "buckets", "calls-fail")
    assert "403" in found.text
    await trio.sleep(120)
    for bucket in scene.dependencies.buckets:
        bucket.heal()
    await is_over(scene, ids, "public")


@pytest.mark.parametrize("how", ["refuse", "mute", "UNAVAILABLE"])
async def test_core_gone_while_nothing_is_asked(how: str, scene: Scene, connector: Connector) -> None:
    repair = core_gone(scene, how)
    await named(scene, "core[0]", "unreachable", seconds=60)
    assert not scene.monitor.health().kms_core_connected
    ids = await scene.ask(*FORMS)
    await trio.sleep(60)
    assert [one.cause for one in scene.monitor.health().alerts] == ["unreachable"]
    repair()
    await is_over(scene, ids)


def gets(scene: Scene) -> int:
    """Return how many objects all buckets were asked for."""
    return sum(
        number
        for bucket in scene.dependencies.buckets
        for (method, _), number in bucket.bucket.counts.items()
        if method == "GET"
    )


async def fetched(scene: Scene, seconds: int) -> tuple[int, list[int]]:
    """Ask each second; return what was fetched meanwhile, and the ids."""
    before, ids = gets(scene), []
    for _ in range(seconds):
        ids += await scene.ask("public")
        await trio.sleep(0.2)
    return gets(scene) - before, ids


@pytest.mark.parametrize("how", ["refuse", "mute"])
async def test_while_the_core_is_gone_nothing_is_fetched_for_it_and_no_worker_waits(
    how: str, scene: Scene
) -> None:
    async with scene.connected() as connector:
        await connector.wait_ready()
        honest, before = await fetched(scene, 15)
        repair = core_gone(scene, how)
        first, ids = await fetched(scene, 15)
        assert first <= honest
        await named(scene, "core[0]", "unreachable", seconds=120)
        await trio.sleep(60)
        later, more = await fetched(scene, 15)
        assert later == 0
        assert not any(pool.busy for pool in connector.components.pools.values())
        await trio.sleep(300)
        repair()
        await scene.wait(lambda: alert(scene, "core[0]", "unreachable") is None, 30)
        await scene.wait(lambda: scene.answered == {*before, *ids, *more}, 10)
    assert scene.told(RequestClosed) == []


def core_gone(scene: Scene, how: str) -> Callable[[], None]:
    """Let the Core refuse, say nothing, or be behind a proxy that says UNAVAILABLE; return what repairs it."""
    host, port = scene.dependencies.places["core0"]
    line = scene.network.line(host, port)
    core = scene.dependencies.cores[0].core
    if how == "UNAVAILABLE":
        core.serving = False
        scene.dependencies.cores[0].strike(FailingCore(code="UNAVAILABLE"))

        def repair() -> None:
            core.serving = True
            scene.dependencies.cores[0].heal()

        return repair
    setattr(line, how, True)
    line.cut()

    def mend() -> None:
        setattr(line, how, False)
        line.cut()

    return mend


UNKNOWN_CHAIN = 999
SOLANA_CHAIN = 0x01 << 56 | 900


def of_an_unknown_chain(identifier: int, chain_id: int = UNKNOWN_CHAIN) -> Callable[[Frame], None]:
    """Return what a request does whose handle is of a chain that is not configured."""
    handle = bytes(21) + b"\0" + chain_id.to_bytes(8) + b"\x02\0"
    event = DECRYPTION.event("PublicDecryptionRequest")
    return lambda frame: frame.emit(event, identifier, ((handle, 1, bytes(32), ()),), b"")


@pytest.mark.parametrize(
    ("chain_id", "cause"), [(UNKNOWN_CHAIN, "not-configured"), (SOLANA_CHAIN, "not-served")]
)
async def test_strangers_of_such_a_chain_are_one_warning_though_nothing_passes(
    scene: Scene, connector: Connector, chain_id: int, cause: str
) -> None:
    """Anybody may name a chain: a quiet node stays healthy, and what waits for it takes nobody down."""
    for identifier in range(7, 17):
        scene.dependencies.gateway.actors.act(
            scene.dependencies.decryption.address, of_an_unknown_chain(identifier, chain_id)
        )
    await trio.sleep(120)
    assert scene.http("/healthz").status == 200
    counts = connector.statistics().queue.counts
    assert counts is not None
    assert counts.oldest[Kind.PUBLIC_DECRYPTION] > 110
    assert counts.answerable == {}
    await scene.wait_answered(await scene.ask("public"))
    await trio.sleep(90)
    [found] = scene.monitor.health().alerts
    assert (found.dependency, found.critical, found.count) == (f"host chain {chain_id}", False, 10)
    assert found.cause == cause


async def test_another_connector_with_the_same_key_that_is_faster(scene: Scene, tmp_path: Path) -> None:
    """Ours hears of requests later, and finds them answered."""
    later = scene.settings(decryption_polling=20.0).but(
        journal=tmp_path / "later.db", gateway=Chain(GATEWAY_ID, ("http://gateway:80",))
    )
    async with (
        scene.connected(),
        open_connector(later, ports=scene.ports(), on_event=scene.monitor.on_event) as connector,
    ):
        scene.monitor.watch(connector.statistics)
        await connector.wait_ready()
        await trio.sleep(30)
        for _ in range(3):
            await scene.ask(*FORMS)
        found = await named(scene, "wallet", "used-by-another")
        assert found.count >= 2


async def test_another_connector_with_the_same_key_that_is_as_fast(scene: Scene, tmp_path: Path) -> None:
    """Both sign every reply, with different gas limits, so that their bytes differ; one of the two is included."""
    twin = scene.settings(gas_multiplier_percent=150).but(journal=tmp_path / "twin.db")
    async with (
        scene.connected(),
        open_connector(twin, ports=scene.ports(), on_event=scene.monitor.on_event) as connector,
    ):
        scene.monitor.watch(connector.statistics)
        await connector.wait_ready()
        await trio.sleep(30)
        for _ in range(8):
            await scene.ask(*FORMS)
            await trio.sleep(1)
        await named(scene, "wallet", "used-by-another")


async def test_an_empty_wallet_that_is_filled_again_is_nobody_elses(tmp_path: Path) -> None:
    """The node refuses nonces out of order, so many replies lose theirs once the funds are there."""
    async with open_scene(tmp_path, block_time=0.5) as scene, scene.connected() as connector:
        chain, owner = scene.dependencies.gateway, scene.dependencies.sender.address
        chain.intake.pool = pool_of("arbitrum at once")
        await connector.wait_ready()
        ids = await scene.ask(*FORMS)
        await scene.wait_answered(ids)
        funds = chain.evm.account(owner).balance
        chain.evm.set_balance(owner, 0)
        for _ in range(10):
            ids += await scene.ask(*FORMS)
            await trio.sleep(1)
        await named(scene, "txmanager gateway", "funds")
        await trio.sleep(20)
        chain.evm.set_balance(owner, funds)
        await scene.wait_answered(ids)
        await trio.sleep(60)
        assert any(event.nonce_taken for event in scene.told(ReplyReturned))
        assert not [event for event in scene.told(AlertRaised) if event.cause == "used-by-another"]
        await is_over(scene, ids, *FORMS)


async def test_ethereum_that_stops_finalizing(tmp_path: Path) -> None:
    async with (
        open_scene(tmp_path, block_time=20.0) as scene,
        scene.connected(decryption_polling=30.0) as connector,
    ):
        await connector.wait_ready()
        await trio.sleep(1800)
        assert scene.monitor.health().alerts == ()
        scene.dependencies.ethereum.finality.depth = 1 << 30
        await named(scene, "ethereum", "not-finalizing", seconds=2 * 3600)
        scene.dependencies.ethereum.finality.depth = 0
        await scene.wait(lambda: not scene.monitor.health().alerts, 300)


async def stands_still(*_: Any) -> None:
    """Be a part of the process that a bug holds for ever."""
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ("reader", "kmsconn.requests.reader.LogReader._round"),
        ("txmanager", "kmsconn.chain.looking.ChainObserver.look"),
    ],
)
async def test_a_part_of_the_process_that_stands_still(
    part: str, where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Health may see it or not: a restart helps, and liveness says so."""
    async with (
        open_scene(tmp_path, block_time=20.0) as scene,
        scene.connected(decryption_polling=30.0) as connector,
    ):
        await connector.wait_ready()
        await trio.sleep(600)
        assert scene.http("/liveness").status == 200
        monkeypatch.setattr(where, stands_still)
        await trio.sleep(STALLED_AFTER + 120)
        found = scene.http("/liveness")
        assert found.status == 503
        assert part.encode() in found.body


async def test_a_chain_that_is_gone_for_long_is_one_alert_and_no_reason_to_restart(tmp_path: Path) -> None:
    async with open_scene(tmp_path, block_time=20.0) as scene, scene.connected() as connector:
        await connector.wait_ready()
        line = scene.network.line("gateway", 80)
        line.refuse = True
        line.cut()
        await named(scene, "gateway", "unreachable", seconds=60)
        await trio.sleep(2 * STALLED_AFTER)
        assert scene.http("/liveness").status == 200
        present = [(one.dependency, one.cause) for one in scene.monitor.health().alerts]
        assert [one for one in present if one[0] != "txmanager gateway"] == [("gateway", "unreachable")]
        line.refuse = False
        await scene.wait_answered(await scene.ask("public"))
        assert alert(scene, "gateway", "unreachable") is None


async def test_a_node_that_shows_receipts_of_what_it_swallows(scene: Scene, connector: Connector) -> None:
    """Each reply is included and gone again, while requests are answered as ever."""
    await scene.wait_answered(await scene.ask(*FORMS))
    faults = [node.faults for node in scene.dependencies.clusters["gateway"].nodes]
    for one in faults:
        one.misbehave(NodeFault.FORGED)
    ids = await scene.ask(*FORMS * 4)
    found = await named(scene, "txmanager gateway", "not-included")
    assert found.count >= 3
    for one in faults:
        one.heal()
    await is_over(scene, ids, *FORMS)


async def test_a_node_without_an_index_of_transactions(scene: Scene, connector: Connector) -> None:
    """Of what needs none everything passes meanwhile."""
    faults = [node.faults for node in scene.dependencies.clusters["gateway"].nodes]
    for one in faults:
        one.strike(FalseResults("eth_getTransactionByHash"))
    ids = await scene.ask(*FORMS * 4)
    found = await named(scene, "checks", "too-slow")
    assert "transaction" in found.text
    assert found.count == 4
    for one in faults:
        one.heal()
    await is_over(scene, ids, *FORMS)


async def test_an_honest_network_is_healthy_for_minutes(scene: Scene, connector: Connector) -> None:
    """With a Core that takes 100 s, finality that takes minutes, and strangers of a chain that is not configured."""
    scene.dependencies.gateway.finality.depth = 240
    for identifier in range(7, 17):
        scene.dependencies.gateway.actors.act(
            scene.dependencies.decryption.address, of_an_unknown_chain(identifier)
        )
    await scene.wait_answered(await scene.ask(*FORMS))
    scene.dependencies.cores[0].core.computing = 100.0
    for _ in range(12):
        await scene.ask(*FORMS * 4)
        await trio.sleep(60)
        assert [one.cause for one in scene.monitor.health().alerts] == ["not-configured"]
        assert scene.http("/healthz").status == 200


async def test_a_clock_that_is_ten_minutes_off(scene: Scene) -> None:
    """It is told as long as it holds, and requests are answered."""
    off = [600.0]
    ports = attrs.evolve(scene.ports(), wall=lambda: BEGIN + off[0] + trio.current_time())
    async with open_connector(scene.settings(), ports=ports, on_event=scene.monitor.on_event) as connector:
        scene.monitor.watch(connector.statistics)
        await connector.wait_ready()
        found = await named(scene, "clock of this machine", "clock", critical=False, seconds=30)
        assert "600 s ahead of the newest block" in found.text
        await scene.wait_answered(await scene.ask(*FORMS))
        off[0] = 0.0
        await scene.wait(lambda: not scene.monitor.health().alerts, 30)


async def test_one_of_two_shards_of_the_core_is_gone(tmp_path: Path) -> None:
    """The other one's requests pass, and its own wait: nobody stands in."""
    async with open_scene(tmp_path, shards=2) as scene, scene.connected() as connector:
        await connector.wait_ready()
        line = scene.network.line(*scene.dependencies.places["core1"])
        line.refuse = True
        line.cut()
        ids = await scene.ask(*FORMS * 4)
        found = await named(scene, "core[1]", "unreachable", seconds=60)
        assert "50 % of the requests are of this shard, and wait" in found.text
        await scene.wait_answered([one for one in ids if one % 2 == 0])
        assert not scene.answered & {one for one in ids if one % 2}
        line.refuse = False
        await is_over(scene, ids, *FORMS)

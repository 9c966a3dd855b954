"""What was destroyed is over, and told until the Core has done it; what ended undone, and ids that are taken, are alerts until done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from kmsconn.connector.connector import Connector
from kmsconn.emulator.control import ActiveDrills
from kmsconn.emulator.core import become
from kmsconn.emulator.core_faults import FailingCore, SpoiledCore
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, naming
from kmsconn.emulator.key_ceremonies import NEXT_CONTEXT, NEXT_EPOCH, announcement_of
from kmsconn.emulator.node_faults import RefusedCalls
from kmsconn.journal import inspecting
from kmsconn.model.events import (
    AlertCleared,
    AlertRaised,
    AnswerKept,
    ReplyReturned,
    ReplySigned,
    RequestClosed,
    StageFinished,
)
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.requests.failures import RESULT_LATE_AFTER, TAKEN
from kmsconn.transport.grpc.framing import Status
from tests.faults.ceremony import Ceremony, open_ceremony
from tests.faults.scene import Scene, open_scene
from tests.faults.test_health_table import alert, core_always

AT_WORK = 300.0  # seconds that the Core computes: long enough for Ethereum to make a destruction final
MINUTES = 900.0
NAMING = {"nothing": b"", "context": naming(CONTEXT, EPOCH)[0], "epoch": naming(CONTEXT, EPOCH)[1]}


def destroy(scene: Scene, what: str) -> None:
    """Let the owner destroy the context, or its epoch, on Ethereum."""
    config = scene.dependencies.protocol_config
    act = (
        partial(config.destroy_epoch, epoch_id=EPOCH)
        if what == "epoch"
        else partial(config.destroy_context, context_id=CONTEXT)
    )
    scene.dependencies.ethereum.actors.act(config.address, act)


async def rejected(scene: Scene, count: int = 1) -> list[RequestClosed]:
    """Wait until so many decryptions have ended, and return them."""

    def found() -> list[RequestClosed]:
        return [one for one in scene.told(RequestClosed) if one.kind is Kind.PUBLIC_DECRYPTION]

    await scene.wait(lambda: len(found()) == count, MINUTES)
    assert {one.state for one in found()} == {State.REJECTED}
    return found()


@pytest.mark.sampled
@pytest.mark.parametrize("named", NAMING)
async def test_an_answer_under_a_context_that_the_gateway_destroyed_does_not_wait_for_ever(
    named: str, scene: Scene
) -> None:
    """The contract says "invalid context", as of one that it does not know yet; the number tells that it knew it."""
    async with scene.connected() as connector:
        await connector.wait_ready()
        scene.traffic.extra_data = (NAMING[named],)
        await scene.ask("public")  # the signer of the context is known by then
        await scene.wait(lambda: scene.answered)
        scene.dependencies.cores[0].core.computing = 20.0
        await scene.ask("public")
        config = scene.dependencies.gateway_config
        scene.dependencies.gateway.actors.act(
            config.address, lambda frame: config.destroy_context(frame, CONTEXT)
        )
        [closed] = await rejected(scene)
    assert "InvalidKmsContext" in closed.reason


@pytest.mark.sampled
@pytest.mark.parametrize("what", ["context", "epoch"])
async def test_nothing_is_answered_under_what_was_destroyed_while_the_core_was_at_work(
    what: str, scene: Scene
) -> None:
    async with scene.connected() as connector:
        await connector.wait_ready()
        scene.dependencies.ethereum.finality.depth = 2
        scene.traffic.extra_data = (NAMING["epoch"],)
        scene.dependencies.cores[0].core.computing = AT_WORK
        await scene.ask("public")
        await scene.wait(lambda: any(one.stage == "submit" for one in scene.told(StageFinished)))
        destroy(scene, what)
        [closed] = await rejected(scene)
        await trio.sleep(AT_WORK)
    assert closed.reason == f"{what} 0x{CONTEXT if what == 'context' else EPOCH:064x} was destroyed"
    assert scene.told(AnswerKept) == []
    assert not scene.answered


@pytest.mark.sampled
@pytest.mark.parametrize("what", ["context", "epoch"])
async def test_a_kept_answer_under_what_was_destroyed_is_not_sent(what: str, scene: Scene) -> None:
    """The Gateway gave no estimates meanwhile; an epoch it does not even know."""
    async with scene.connected() as connector:
        await connector.wait_ready()
        scene.dependencies.ethereum.finality.depth = 2
        [node] = scene.dependencies.clusters["gateway"].nodes
        node.faults.strike(RefusedCalls("eth_estimateGas", message="header not found"))
        scene.traffic.extra_data = (NAMING["epoch"],)
        await scene.ask("public", "public", "public")
        await scene.wait(lambda: len(scene.told(AnswerKept)) == 3)
        destroy(scene, what)
        closed = await rejected(scene, 3)
        node.faults.heal()
        await trio.sleep(60)
    assert all("was destroyed before the answer was sent" in one.reason for one in closed)
    assert not scene.answered


@pytest.mark.sampled
async def test_what_is_answered_under_another_context_is_sent(scene: Scene, connector: Connector) -> None:
    scene.dependencies.ethereum.finality.depth = 2
    [node] = scene.dependencies.clusters["gateway"].nodes
    node.faults.strike(RefusedCalls("eth_estimateGas", message="header not found"))
    scene.traffic.extra_data = (NAMING["nothing"],)
    [identifier] = await scene.ask("public")
    await scene.wait(lambda: scene.told(AnswerKept))
    destroy(scene, "epoch")
    await scene.wait(lambda: ended(scene.told(RequestClosed), Kind.KMS_EPOCH_DESTROYED), MINUTES)
    node.faults.heal()
    await scene.wait(lambda: identifier in scene.answered)


def ended(closed: list[RequestClosed], kind: Kind) -> set[State]:
    return {one.state for one in closed if one.kind is kind}


async def begun(ceremony: Ceremony) -> None:
    """Let the owner begin a new context, whose epoch the Core takes and never makes."""
    await first_keys(ceremony)
    ceremony.core_faults[0].strike(FailingCore(code="UNAVAILABLE"), "GetEpochResult")
    config = ceremony.dependencies.protocol_config
    following = announcement_of(ceremony.dependencies.committee)
    ceremony.act(config, lambda frame: config.begin_context(frame, following))
    await ceremony.wait(
        lambda: any(one.stage == "submit" for one in ceremony.told(0, StageFinished, Kind.NEW_KMS_EPOCH))
    )


@pytest.mark.sampled
async def test_an_epoch_that_the_core_cannot_make_holds_up_no_destruction(tmp_path: Path) -> None:
    """Seen with a real Core, whose GetEpochResult ends in a reset stream for ever."""
    async with open_ceremony(tmp_path, members=1) as ceremony:
        await begun(ceremony)
        config = ceremony.dependencies.protocol_config
        ceremony.act(config, lambda frame: config.destroy_context(frame, CONTEXT))
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.KMS_CONTEXT_DESTROYED))
        assert ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH) == []
        ceremony.act(config, lambda frame: config.destroy_epoch(frame, NEXT_EPOCH))
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.KMS_EPOCH_DESTROYED))
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH))
        closed = [
            (one.state, "destroyed" in one.reason)
            for one in ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH)
        ]
        assert closed == [(State.REJECTED, True)]
        ceremony.act(config, lambda frame: config.destroy_context(frame, NEXT_CONTEXT))
        await ceremony.wait(lambda: len(ceremony.told(0, RequestClosed, Kind.KMS_CONTEXT_DESTROYED)) == 2)
        assert ceremony.cores[0].known.contexts == set()
        assert NEXT_EPOCH.to_bytes(32) not in ceremony.cores[0].known.epochs


@pytest.mark.sampled
async def test_an_epoch_that_the_core_refuses_over_a_destruction_is_begun_again(tmp_path: Path) -> None:
    """Its lease is held while something else is destroyed (0.15: 2.4); no epoch becomes active without every node."""
    async with open_ceremony(tmp_path, members=1) as ceremony:
        await first_keys(ceremony)
        core, config = ceremony.core_faults[0], ceremony.dependencies.protocol_config
        core.strike(FailingCore(code="FAILED_PRECONDITION"), "NewMpcEpoch")
        following = announcement_of(ceremony.dependencies.committee)
        ceremony.act(config, lambda frame: config.begin_context(frame, following))
        await ceremony.wait(lambda: core.counts["NewMpcEpoch", "FAILED_PRECONDITION"])
        await trio.sleep(60)
        core.heal()
        await ceremony.wait(lambda: ceremony.told(0, ReplySigned, Kind.NEW_KMS_EPOCH))
        assert ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH) == []


REFUSALS = [
    Status.INTERNAL,
    Status.FAILED_PRECONDITION,
    Status.UNIMPLEMENTED,
    Status.UNAVAILABLE,
    Status.UNKNOWN,
]


@pytest.mark.sampled
@pytest.mark.parametrize("code", REFUSALS, ids=lambda code: code.name)
async def test_an_end_is_told_until_the_core_has_done_it(code: Status, tmp_path: Path) -> None:
    await told_for(MINUTES, code, tmp_path)


@pytest.mark.sampled
async def test_an_end_that_the_core_cannot_read_is_an_alert_and_holds_up_nothing(tmp_path: Path) -> None:
    """It says so to the same request for ever: that is a mistake of the connector."""
    async with open_ceremony(tmp_path, members=1) as ceremony:
        await first_keys(ceremony)
        ceremony.core_faults[0].script("DestroyMpcEpoch", FailingCore(code="INVALID_ARGUMENT"))
        config = ceremony.dependencies.protocol_config
        ceremony.act(config, lambda frame: config.destroy_epoch(frame, EPOCH))
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.KMS_EPOCH_DESTROYED))
        [closed] = ceremony.told(0, RequestClosed, Kind.KMS_EPOCH_DESTROYED)
        assert (closed.state, "INVALID_ARGUMENT" in closed.reason) == (State.REJECTED, True)
        await ceremony.wait(lambda: [one for one in alerts_of(ceremony) if one.cause == "undone"])
        ceremony.events[0].remove(closed)  # else the ceremony says that it failed
        ceremony.act(config, lambda frame: config.destroy_context(frame, CONTEXT))
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.KMS_CONTEXT_DESTROYED))


@pytest.mark.sampled
async def test_a_centralised_core_that_crashes_over_an_end_is_not_asked_all_the_time(tmp_path: Path) -> None:
    """From 0.15 on it has no such call: each time its connection breaks."""
    async with open_ceremony(tmp_path, members=1, block_time=30.0) as ceremony:
        await first_keys(ceremony)
        become(ceremony.cores[0], CoreRelease.V0_15)
        config, counts = ceremony.dependencies.protocol_config, ceremony.core_faults[0].counts
        calls: list[float] = []
        ceremony.core_faults[0].on_call = lambda method, _request: (
            calls.append(trio.current_time()) if method == "DestroyMpcEpoch" else None
        )
        ceremony.act(config, lambda frame: config.destroy_epoch(frame, EPOCH))
        await trio.sleep(2 * 3600)
        assert counts["DestroyMpcEpoch", "OK"] == 0
        assert 6 <= len([one for one in calls if one > trio.current_time() - 3600]) <= 12
        assert [one for one in alerts_of(ceremony) if one.cause == "overdue"]
        assert EPOCH.to_bytes(32) in ceremony.cores[0].known.epochs


@pytest.mark.sampled
@pytest.mark.parametrize("release", CoreRelease, ids=lambda release: release.text)
async def test_with_a_context_its_epochs_are_over_in_every_core(release: CoreRelease, tmp_path: Path) -> None:
    """Cores of 0.14 end those that are listed, later ones those that they know."""
    async with open_ceremony(tmp_path, members=1) as ceremony:
        become(ceremony.cores[0], release)
        await begun(ceremony)
        ceremony.core_faults[0].heal()
        await ceremony.wait(lambda: ceremony.told(0, ReplySigned, Kind.NEW_KMS_EPOCH))
        config = ceremony.dependencies.protocol_config
        ceremony.act(config, lambda frame: config.destroy_context(frame, CONTEXT))
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.KMS_CONTEXT_DESTROYED))
        [closed] = ceremony.told(0, RequestClosed, Kind.KMS_CONTEXT_DESTROYED)
        assert closed.state is State.DONE
        assert ceremony.cores[0].known.contexts == {NEXT_CONTEXT.to_bytes(32)}
        assert ceremony.cores[0].known.epochs == {NEXT_EPOCH.to_bytes(32)}


async def first_keys(ceremony: Ceremony) -> None:
    """Let the owner make the first key and the first common reference string."""
    for step in (
        ceremony.owner.ceremonies.announce_first,
        ceremony.owner.ceremonies.make_key,
        ceremony.owner.ceremonies.make_crs,
    ):
        await step()


def alerts_of(ceremony: Ceremony) -> list[AlertRaised]:
    return [one for one in ceremony.events[0] if isinstance(one, AlertRaised)]


@pytest.mark.sampled
async def test_an_end_that_is_told_for_an_hour_is_named(tmp_path: Path) -> None:
    """It holds up nothing meanwhile."""
    alerts = await told_for(4000.0, Status.INTERNAL, tmp_path)
    overdue = [one for one in alerts if "kms_epoch_destroyed" in repr(one)]
    assert "INTERNAL" in overdue[-1].text


async def told_for(seconds: float, code: Status, folder: Path) -> list[AlertRaised]:
    """Let the Core refuse to destroy an epoch for so long, see that it is told until it has done it, and return the alerts."""
    async with open_ceremony(folder, members=1, block_time=12.0) as ceremony:
        await first_keys(ceremony)
        core, config = ceremony.core_faults[0], ceremony.dependencies.protocol_config
        core.strike(FailingCore(code=code.name), "DestroyMpcEpoch")
        ceremony.act(config, lambda frame: config.destroy_epoch(frame, EPOCH))
        await trio.sleep(seconds)
        assert ceremony.told(0, RequestClosed, Kind.KMS_EPOCH_DESTROYED) == []
        core.heal()
        await ceremony.wait(
            lambda: ended(ceremony.told(0, RequestClosed, Kind.KMS_EPOCH_DESTROYED), Kind.KMS_EPOCH_DESTROYED)
        )
        assert EPOCH.to_bytes(32) not in ceremony.cores[0].known.epochs
        return alerts_of(ceremony)


@pytest.mark.sampled
async def test_an_end_of_what_the_core_does_not_have_is_done(tmp_path: Path) -> None:
    async with open_ceremony(tmp_path, members=1) as ceremony:
        ceremony.core_faults[0].strike(FailingCore(code="NOT_FOUND"), "DestroyMpcContext")
        config = ceremony.dependencies.protocol_config
        ceremony.act(config, lambda frame: config.destroy_context(frame, CONTEXT))
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.KMS_CONTEXT_DESTROYED))
        [closed] = ceremony.told(0, RequestClosed, Kind.KMS_CONTEXT_DESTROYED)
        assert closed.state is State.DONE


@pytest.mark.sampled
async def test_a_reply_that_was_broadcast_is_left_to_the_contract_and_ends_with_its_word(
    tmp_path: Path,
) -> None:
    """The context is destroyed in the block before the reply's, or in the same one: mined with status 0, and not sent again for ever."""
    async with open_scene(tmp_path, block_time=4.0) as scene, scene.connected() as connector:
        await connector.wait_ready()
        scene.traffic.extra_data = (NAMING["context"],)
        config = scene.dependencies.gateway_config
        await scene.ask("public")
        await scene.wait(lambda: scene.told(ReplySigned))
        scene.dependencies.gateway.actors.act(
            config.address, lambda frame: config.destroy_context(frame, CONTEXT)
        )
        [closed] = await rejected(scene)
    assert "InvalidKmsContext" in closed.reason
    assert any(
        "status 0" in one.reason for one in scene.told(ReplyReturned)
    )  # the request was too young to end for that
    assert not scene.answered


KEY_MANAGEMENT = {"kms_operation_from_block_number": 0, "key_management_polling": 1.0}
REFUSED = FailingCore(code="INVALID_ARGUMENT", message="no such parameters")


def refuse_contexts(scene: Scene) -> Callable[[], None]:
    """Let the Core refuse contexts; return what ends it."""
    return core_always(scene, REFUSED, ("NewMpcContext",))


def begin_context(scene: Scene) -> None:
    """Let the owner announce a context, as an operator would in a drill."""
    ActiveDrills(scene.dependencies, scene.traffic).put_on("ethereum", "new-context", b"{}")


async def rejected_ends(scene: Scene) -> int:
    """Wait until a context was rejected_ends and return its row."""
    found = await scene.wait(
        lambda: [one for one in scene.told(RequestClosed) if one.state is State.REJECTED], 300
    )
    assert [one.kind for one in found] == [Kind.NEW_KMS_CONTEXT]
    rid: int = found[0].rid
    return rid


async def test_a_rejected_context_is_an_alert_over_a_restart_until_it_is_done(scene: Scene) -> None:
    scene.dependencies.ethereum.finality.depth = 2
    async with scene.connected(**KEY_MANAGEMENT) as connector:
        await connector.wait_ready()
        repair = refuse_contexts(scene)
        begin_context(scene)
        rid = await rejected_ends(scene)
        before = await scene.wait(lambda: alert(scene, "new_kms_context", "undone"), 10)
    async with scene.connected(**KEY_MANAGEMENT) as connector:
        again = await scene.wait(lambda: alert(scene, "new_kms_context", "undone"), 10)
        assert again == before
        assert again.critical
        assert "no such parameters" in again.text
        repair()
        now = scene.ports().wall()
        await connector.components.journal.run(inspecting.retry, rid, now, now + 600)
        await scene.wait(lambda: alert(scene, "new_kms_context", "undone") is None, 60)
    async with scene.connected(**KEY_MANAGEMENT) as connector:
        await connector.wait_ready()
        assert alert(scene, "new_kms_context", "undone") is None


SOON = 2 * RESULT_LATE_AFTER


def raised(scene: Scene) -> list[AlertRaised]:
    return [one for one in scene.told(AlertRaised) if one.cause == TAKEN]


@pytest.mark.rotating
async def test_a_taken_id_is_an_alert_with_its_remedy_until_that_is_done(
    scene: Scene, connector: Connector
) -> None:
    """Several requests are one alert with their number; the restart of the Core answers all of them."""
    core = scene.dependencies.cores[0]
    core.script("PublicDecrypt", SpoiledCore(how="share lost"), SpoiledCore(how="share lost"))
    begin = trio.current_time()
    burnt = await scene.ask("public", "public")
    good = await scene.ask("public")
    await scene.wait(lambda: any(one.count == len(burnt) for one in raised(scene)), SOON)
    assert trio.current_time() - begin >= RESULT_LATE_AFTER
    alert = raised(scene)[-1]
    assert (alert.dependency, alert.critical) == ("core[0]", False)
    assert "ALREADY_EXISTS" in alert.text
    assert "restart this Core" in alert.remedy
    assert scene.answered == {*good}
    core.core.restart()
    await scene.wait(lambda: scene.answered == {*burnt, *good})
    assert AlertCleared("core[0]", TAKEN) in scene.events


@pytest.mark.rotating
async def test_a_connector_that_begins_anew_knows_it_too(scene: Scene) -> None:
    scene.dependencies.cores[0].script("PublicDecrypt", SpoiledCore(how="share lost"))
    async with scene.connected() as connector:
        await connector.wait_ready()
        await scene.ask("public")
        await trio.sleep(RESULT_LATE_AFTER / 2)
        assert raised(scene) == []
    async with scene.connected():
        await scene.wait(lambda: raised(scene), SOON)


@pytest.mark.rotating
async def test_a_core_that_is_slow_with_what_it_was_given_is_none(scene: Scene, connector: Connector) -> None:
    scene.dependencies.cores[0].core.computing = 3 * RESULT_LATE_AFTER
    await scene.ask("public")
    await scene.wait(lambda: scene.answered, 4 * RESULT_LATE_AFTER)
    assert raised(scene) == []

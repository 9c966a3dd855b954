"""Wrong things in, clear things out: each is named, nothing of it is sent, the rest goes on, and no secret is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.emulator import core_faults
from kmsconn.emulator.buckets import ObjectForm
from kmsconn.emulator.core_spoils import STRANGER, InterceptedCall
from kmsconn.emulator.dependencies import HOST_ID, signer_of
from kmsconn.emulator.execution import Emitted, Frame
from kmsconn.ethereum.addresses import checksum
from kmsconn.model.events import AlertRaised, LogQuarantined, RequestClosed, RequestDeferred
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.profile import EVENTS
from kmsconn.transport.grpc.framing import Status
from tests.faults.scene import Scene, open_scene

pytestmark = pytest.mark.sampled

HOUR = 3600.0
GOOD = ("public", "direct", "unified")


def closed(scene: Scene) -> list[tuple[State, str]]:
    return [(event.state, event.reason) for event in scene.told(RequestClosed)]


# What a chain says.

TOPICS = [
    topic for topic, kind in EVENTS.kinds.items() if kind in {Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION}
]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.hex()[:8])
async def test_a_log_that_cannot_be_decoded_is_quarantined_and_named(topic: bytes, tmp_path: Path) -> None:
    def emit(frame: Frame) -> None:
        frame.logs.append(Emitted(frame.address, (topic, bytes(31) + b"\x07"), b"\x01" * 7))

    async with open_scene(tmp_path) as scene:
        scene.dependencies.gateway.actors.act(scene.dependencies.decryption.address, emit)
        ids = await scene.ask(*GOOD)
        async with scene.connected():
            await scene.wait(lambda: scene.answered == set(ids))
            [told] = scene.told(LogQuarantined)
    assert told.reason
    assert told.contract == scene.dependencies.decryption.address
    assert told.block > 0


async def test_extra_data_of_an_unknown_version_is_rejected(tmp_path: Path) -> None:
    """A contract that is newer than this program may take it."""
    material = (bytes(21) + b"\0" + HOST_ID.to_bytes(8) + b"\x02\0", 1, bytes(32), ())

    def emit(frame: Frame) -> None:
        frame.emit(DECRYPTION.event("PublicDecryptionRequest"), 7, (material,), b"\x09" + bytes(40))

    async with open_scene(tmp_path) as scene:
        scene.dependencies.gateway.actors.act(scene.dependencies.decryption.address, emit)
        good = await scene.ask(*GOOD)
        async with scene.connected():
            await scene.wait(lambda: scene.answered == set(good))
            await scene.wait(lambda: closed(scene))
    assert closed(scene) == [(State.REJECTED, "extraData version 9 is not known")]


async def test_access_that_is_not_granted_is_waited_for_and_the_handle_is_named(scene: Scene) -> None:
    scene.traffic.granted = False
    denied = scene.traffic.public()
    [bad] = await scene.on_chain([denied])
    scene.traffic.granted = True
    good = await scene.ask(*GOOD)
    async with scene.connected():
        await scene.wait(lambda: scene.answered == set(good))
        ciphertexts = scene.traffic._remembered[denied]
        reasons = {event.reason for event in scene.told(RequestDeferred)}
        assert any(one.handle.hex() in reason for one in ciphertexts for reason in reasons)
        for one in ciphertexts:
            scene.dependencies.host.evm.set_up(
                scene.dependencies.acl.address, scene.dependencies.acl.allow_for_decryption, handle=one.handle
            )
        await scene.wait(lambda: bad in scene.answered)
    assert closed(scene) == []


async def test_a_host_chain_that_is_not_configured_is_named(scene: Scene) -> None:
    [identifier] = await scene.ask("public")
    async with scene.connected(host_chains=()):
        told = await scene.wait(lambda: [e for e in scene.told(AlertRaised) if "host_chains" in e.text])
        assert scene.answered == set()
    assert not told[0].critical  # one request takes no node down
    assert str(HOST_ID) in told[0].text
    async with scene.connected():
        await scene.wait(lambda: scene.answered == {identifier})


# What a bucket holds.


async def test_a_ciphertext_with_another_digest_is_never_sent_on(scene: Scene) -> None:
    transaction = scene.traffic.public()
    [bad] = await scene.on_chain([transaction])
    kept = spoil_objects(scene, transaction)
    good = await scene.ask(*GOOD)
    async with scene.connected():
        await scene.wait(lambda: scene.answered == set(good))
        await scene.wait(lambda: scene.told(RequestDeferred))
        assert bad not in scene.answered
        for objects, honest in kept:
            objects.update(honest)
        await scene.wait(lambda: bad in scene.answered)
    reasons = {event.reason for event in scene.told(RequestDeferred)}
    assert all("holds other bytes than the chain names" in reason for reason in reasons)
    assert all("bucket0" in reason and "bucket1" in reason for reason in reasons)
    assert closed(scene) == []


def spoil_objects(scene: Scene, transaction: bytes) -> list[tuple[Any, Any]]:
    """Turn a bit in every object of a request, in every bucket; return what is needed to mend it."""
    kept = []
    keys = [ObjectForm.HANDLE.key(one) for one in scene.traffic._remembered[transaction]]
    for bucket in scene.dependencies.buckets:
        objects = bucket.bucket.objects
        kept.append((objects, {key: objects[key] for key in keys}))
        for key in keys:
            body = objects[key].body
            objects[key] = attrs.evolve(objects[key], body=bytes([body[0] ^ 1]) + body[1:])
    return kept


# What the Core answers.

WRONG_SIGNER = (
    "the answer for request BAD is signed by {}, expected {} of this node: check kms_core_endpoints".format(
        *(checksum(one.address) for one in (STRANGER, signer_of(0)))
    )
)
ANSWERS = [
    (core_faults.SpoiledCore(how="short signature"), "the signature has 64 bytes, not 65"),
    (core_faults.SpoiledCore(how="no signature"), "the answer has no ECDSA signature"),
    (core_faults.SpoiledCore(how="spoilt signature"), "the contract does not accept signatures of this form"),
    (core_faults.SpoiledCore(how="stranger's signature"), WRONG_SIGNER),
    (core_faults.SpoiledCore(how="no payload"), "no payload"),
    (core_faults.SpoiledCore(how="one value less"), "values for"),
]


@pytest.mark.parametrize("form", ["public", "unified"])
@pytest.mark.parametrize(("fault", "name"), ANSWERS, ids=[fault.label for fault, _ in ANSWERS])
async def test_an_answer_that_no_honest_core_gives_is_named_and_asked_for_again(
    fault: core_faults.CoreFault, name: str, form: str, scene: Scene
) -> None:
    text = await one_that_waits(scene, fault, form, core_method(form))
    assert name in text
    assert "core" in text


async def one_that_waits(scene: Scene, fault: core_faults.CoreFault, form: str, method: str) -> str:
    """Let the Core do wrong to one request while others pass: it waits, then is answered. Return its alert, the id as BAD."""
    [bad] = await scene.ask(form)
    good = await scene.ask(*GOOD)
    chance = scene.core_does(fault, bad, method)
    async with scene.connected(decryption_polling=30.0):
        await scene.wait(lambda: scene.answered == set(good))
        good += await scene.ask(*GOOD)
        await trio.sleep(900)
        assert scene.answered == set(good)
        [alert] = scene.monitor.health().alerts
        assert (alert.dependency, alert.critical, alert.count) == ("core[0]", False, 1)
        assert alert.remedy
        assert scene.http("/healthz").status == 200
        chance()
        await scene.wait(lambda: scene.answered == {bad, *good}, 310)
        await scene.wait(lambda: not scene.monitor.health().alerts)
    assert closed(scene) == []
    return alert.text.replace(f"0x{bad:064x}", "BAD")


def core_method(form: str) -> str:
    return "GetPublicDecryptionResult" if form == "public" else "GetUserDecryptionResult"


@pytest.mark.parametrize("code", [Status.UNAUTHENTICATED, Status.PERMISSION_DENIED, Status.UNIMPLEMENTED])
async def test_what_only_the_operator_can_mend_is_named_and_waited_for(code: Status, scene: Scene) -> None:
    [identifier] = await scene.ask("unified")
    chance = scene.core_does(
        core_faults.FailingCore(code=code.name, message="ask the operator"), identifier, "UserDecrypt"
    )
    async with scene.connected():
        told = await scene.wait(lambda: [e for e in scene.told(AlertRaised) if "ask the operator" in e.text])
        chance()
        await scene.wait(lambda: scene.answered == {identifier})
    assert told[0].dependency == "core[0]"
    assert code.name in told[0].text
    assert closed(scene) == []


@pytest.mark.parametrize(
    "code",
    [
        Status.INTERNAL,
        Status.INVALID_ARGUMENT,
        Status.FAILED_PRECONDITION,
        Status.OUT_OF_RANGE,
        Status.DATA_LOSS,
    ],
)
async def test_what_the_core_refuses_is_named_with_its_words_and_asked_again(
    code: Status, scene: Scene
) -> None:
    text = await one_that_waits(
        scene, core_faults.FailingCore(code=code.name, message="never"), "public", "PublicDecrypt"
    )
    assert f"core[0] PublicDecrypt: {code.name}: never" in text


# A dependency that does wrong to many for a while.


def histogram(scene: Scene, kind: str) -> int:
    """Return how many included replies of a kind the latency objective counts."""
    [line] = [
        line
        for line in scene.http("/metrics").body.decode().splitlines()
        if line.startswith(f'kmsconn_inclusion_seconds_count{{kind="{kind}"')
    ]
    return int(float(line.split()[-1]))


async def test_a_core_that_signed_with_another_key_for_a_while_ends_nobody(scene: Scene) -> None:
    """It gives its old answers on when it has its key back, while others pass; only its restart helps, and the alert says so."""
    async with scene.connected(decryption_polling=30.0) as connector:
        await connector.wait_ready()
        core = scene.dependencies.cores[0].core
        before = await scene.ask(*GOOD)
        await scene.wait_answered(before)
        honest, core.node = core.node, attrs.evolve(core.node, key=STRANGER)
        bad = await scene.ask("public", "public", *GOOD)
        await scene.wait(lambda: any(one.cause == "wrong-signer" for one in scene.monitor.health().alerts))
        core.node = honest
        good = await scene.ask(*GOOD * 4)
        await scene.wait_answered(good)
        await trio.sleep(1800)
        [alert] = scene.monitor.health().alerts
        assert (alert.cause, alert.count, "restart" in alert.remedy) == ("wrong-signer", len(bad), True)
        assert scene.answered == {*before, *good}
        core.restart()
        await scene.wait(lambda: scene.answered == {*before, *bad, *good}, 310)
        await scene.wait(lambda: not scene.monitor.health().alerts)
        assert histogram(scene, "public_decryption") == 5  # of eight: not those that the Core has refused
    assert closed(scene) == []


class CutShort(core_faults.CoreFault, frozen=True):
    """Half of each answer."""

    name = "cut short"

    async def act(self, call: InterceptedCall) -> bytes:
        reply = await call.proceed()
        return reply[: len(reply) // 2]


async def test_a_proxy_that_cuts_six_in_ten_answers_short_ends_nobody(scene: Scene) -> None:
    async with scene.connected() as connector:
        await connector.wait_ready()
        for method in ("GetPublicDecryptionResult", "GetUserDecryptionResult"):
            scene.dependencies.cores[0].strike(CutShort(share=0.6), method)
        asked = [one for _ in range(10) for one in await scene.ask(*GOOD)]
        await scene.wait(lambda: scene.answered == set(asked), 600)
    assert any("core" in one.reason for one in scene.told(RequestDeferred))
    assert closed(scene) == []


# What is configured with a secret in it.


@pytest.mark.parametrize("how", ["refuse", "mute"])
async def test_a_chain_that_cannot_be_reached_is_named_without_what_its_url_holds(
    how: str, scene: Scene
) -> None:
    """The scene itself looks for the secrets."""
    line = scene.network.line("gateway", 80)
    setattr(line, how, True)
    async with scene.connected():
        told = await scene.wait(lambda: [e for e in scene.told(AlertRaised) if e.dependency == "gateway"])
        setattr(line, how, False)
        line.cut()
        [identifier] = await scene.ask("public")
        await scene.wait(lambda: scene.answered == {identifier})
    assert "ws://gateway" in told[0].text

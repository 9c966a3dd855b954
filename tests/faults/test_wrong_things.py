"""Wrong things in, clear things out: each is named, nothing of it is sent, the rest goes on, and no secret is told."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.emulator import core_faults
from kmsconn.emulator.buckets import Form
from kmsconn.emulator.dependencies import HOST_ID
from kmsconn.emulator.execution import Emitted, Frame
from kmsconn.model.events import AlertRaised, LogQuarantined, RequestClosed, RequestDeferred
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.abi import DECRYPTION
from kmsconn.protocols.fhevm.profile import EVENTS
from kmsconn.transport.grpc.status import Status
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
async def test_a_log_that_cannot_be_decoded_is_quarantined_and_named(
    topic: bytes, tmp_path: Path, autojump_clock: Any
) -> None:
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


async def test_extra_data_of_an_unknown_version_is_rejected(tmp_path: Path, autojump_clock: Any) -> None:
    """A contract that is newer than this program may take it."""
    material = (bytes(21) + b"\0" + HOST_ID.to_bytes(8) + b"\x02\0", 1, bytes(32), ())

    def emit(frame: Frame) -> None:
        frame.emit(DECRYPTION.event("PublicDecryptionRequest"), 7, (material,), b"\x09" + bytes(40))

    async with open_scene(tmp_path) as scene:
        scene.dependencies.gateway.actors.act(scene.dependencies.decryption.address, emit)
        good = await scene.ask(*GOOD)
        async with scene.connected():
            await scene.wait(lambda: scene.answered == set(good))
    assert closed(scene) == [(State.REJECTED, "extraData version 9 is not known")]


async def test_access_that_is_not_granted_is_waited_for_and_the_handle_is_named(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_scene(tmp_path) as scene:
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
                    scene.dependencies.acl.address,
                    partial(scene.dependencies.acl.allow_for_decryption, handle=one.handle),
                )
            await scene.wait(lambda: bad in scene.answered)
    assert closed(scene) == []


async def test_a_host_chain_that_is_not_configured_is_named(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_scene(tmp_path) as scene:
        [identifier] = await scene.ask("public")
        async with scene.connected(host_chains=()):
            told = await scene.wait(lambda: [e for e in scene.told(AlertRaised) if "host_chains" in e.text])
            assert scene.answered == set()
        assert not told[0].critical  # one request takes no node down
        assert str(HOST_ID) in told[0].text
        async with scene.connected():
            await scene.wait(lambda: scene.answered == {identifier})


# What a bucket holds.


async def test_a_ciphertext_with_another_digest_is_never_sent_on(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_scene(tmp_path) as scene:
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
    keys = [Form.HANDLE.key(one) for one in scene.traffic._remembered[transaction]]
    for bucket in scene.dependencies.buckets:
        objects = bucket.bucket.objects
        kept.append((objects, {key: objects[key] for key in keys}))
        for key in keys:
            body = objects[key].body
            objects[key] = attrs.evolve(objects[key], body=bytes([body[0] ^ 1]) + body[1:])
    return kept


# What the Core answers.

ANSWERS = [
    (core_faults.SHORT_SIGNATURE, "the signature has 64 bytes, not 65"),
    (core_faults.NO_SIGNATURE, "the answer has no ECDSA signature"),
    (core_faults.SPOILT_SIGNATURE, "the contract does not accept signatures of this form"),
    (core_faults.STRANGER_SIGNATURE, "of this node: check kms_core_endpoints"),
    (core_faults.NO_PAYLOAD, "no payload"),
    (core_faults.ONE_VALUE_LESS, "values for"),
]


@pytest.mark.parametrize("form", ["public", "unified"])
@pytest.mark.parametrize(("fault", "name"), ANSWERS, ids=[fault.name for fault, _ in ANSWERS])
async def test_an_answer_that_no_honest_core_gives_is_quarantined_and_named(
    fault: core_faults.Fault, name: str, form: str, tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_scene(tmp_path) as scene:
        [bad] = await scene.ask(form)
        good = await scene.ask(*GOOD)
        scene.core_does(fault, bad, core_method(form))
        async with scene.connected():
            await scene.wait(lambda: scene.answered == set(good))
            await scene.ask(*GOOD)  # who pass meanwhile
            await scene.wait(lambda: closed(scene))
    [(state, reason)] = closed(scene)
    assert state is State.QUARANTINED
    assert name in reason
    assert "core" in reason


def core_method(form: str) -> str:
    return "GetPublicDecryptionResult" if form == "public" else "GetUserDecryptionResult"


@pytest.mark.parametrize("form", ["public", "unified"])
async def test_an_answer_to_another_request_is_quarantined(
    form: str, tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_scene(tmp_path) as scene:
        [bad] = await scene.ask(form)
        good = await scene.ask(*GOOD)
        scene.core_does(core_faults.OTHER_REQUEST, bad, core_method(form))
        async with scene.connected():
            await scene.wait(lambda: scene.answered == set(good))
            await scene.ask(*GOOD)  # who pass meanwhile
            await scene.wait(lambda: closed(scene))
    [(state, reason)] = closed(scene)
    assert (state, "request" in reason or "handles" in reason) == (State.QUARANTINED, True)


@pytest.mark.parametrize("method", ["PublicDecrypt", "GetPublicDecryptionResult"])
async def test_a_core_that_says_internal_gets_one_second_chance_an_hour_later(
    method: str, tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_scene(tmp_path, block_time=20.0) as scene:
        [bad] = await scene.ask("public")
        good = await scene.ask(*GOOD)
        scene.core_does(core_faults.status(Status.INTERNAL, "share is broken"), bad, method)
        async with scene.connected(decryption_polling=30.0):
            await scene.wait(lambda: scene.answered == set(good))
            await scene.ask(*GOOD)
            await scene.wait(lambda: HOUR in [event.seconds for event in scene.told(RequestDeferred)], 300)
            await trio.sleep(HOUR)
            await scene.ask(*GOOD)
            await scene.wait(lambda: closed(scene), HOUR)
    deferred = [event for event in scene.told(RequestDeferred) if "share is broken" in event.reason]
    assert [event.seconds for event in deferred].count(HOUR) == 1
    [(state, reason)] = closed(scene)
    assert state is State.REJECTED
    assert "INTERNAL: share is broken" in reason


async def test_a_second_chance_may_be_the_good_one(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_scene(tmp_path, block_time=20.0) as scene:
        [identifier] = await scene.ask("public")
        chance = scene.core_does(core_faults.status(Status.INTERNAL), identifier, "PublicDecrypt")
        async with scene.connected(decryption_polling=30.0):
            await scene.wait(lambda: scene.told(RequestDeferred))
            others = await scene.ask(*GOOD)
            await scene.wait(lambda: HOUR in [event.seconds for event in scene.told(RequestDeferred)], 300)
            scene.dependencies.cores[0].injections.remove(chance)
            await scene.wait(lambda: scene.answered == {identifier, *others}, 2 * HOUR)
    assert closed(scene) == []


@pytest.mark.parametrize("code", [Status.UNAUTHENTICATED, Status.PERMISSION_DENIED, Status.UNIMPLEMENTED])
async def test_what_only_the_operator_can_mend_is_named_and_waited_for(
    code: Status, tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_scene(tmp_path) as scene:
        [identifier] = await scene.ask("unified")
        chance = scene.core_does(core_faults.status(code, "ask the operator"), identifier, "UserDecrypt")
        async with scene.connected():
            told = await scene.wait(
                lambda: [e for e in scene.told(AlertRaised) if "ask the operator" in e.text]
            )
            scene.dependencies.cores[0].injections.remove(chance)
            await scene.wait(lambda: scene.answered == {identifier})
    assert told[0].dependency == "core[0]"
    assert code.name in told[0].text
    assert closed(scene) == []


@pytest.mark.parametrize(
    "code", [Status.INVALID_ARGUMENT, Status.FAILED_PRECONDITION, Status.OUT_OF_RANGE, Status.DATA_LOSS]
)
async def test_what_the_core_will_never_take_is_rejected_with_its_words(
    code: Status, tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_scene(tmp_path) as scene:
        [bad] = await scene.ask("public")
        good = await scene.ask(*GOOD)
        scene.core_does(core_faults.status(code, "never"), bad, "PublicDecrypt")
        async with scene.connected():
            await scene.wait(lambda: scene.answered == set(good))
            await scene.ask(*GOOD)  # who pass meanwhile
            await scene.wait(lambda: closed(scene))
    [(state, reason)] = closed(scene)
    assert state is State.REJECTED
    assert f"core[0] PublicDecrypt: {code.name}: never" in reason


# What is configured with a secret in it.


@pytest.mark.parametrize("how", ["refuse", "mute"])
async def test_a_chain_that_cannot_be_reached_is_named_without_what_its_url_holds(
    how: str, tmp_path: Path, autojump_clock: Any
) -> None:
    """The scene itself looks for the secrets."""
    async with open_scene(tmp_path) as scene:
        line = scene.network.line("gateway", 80)
        setattr(line, how, True)
        async with scene.connected():
            told = await scene.wait(lambda: [e for e in scene.told(AlertRaised) if e.dependency == "gateway"])
            setattr(line, how, False)
            line.cut()
            [identifier] = await scene.ask("public")
            await scene.wait(lambda: scene.answered == {identifier})
    assert "ws://gateway" in told[0].text

"""Attestations through the whole connector: told and answered all the same, and with ``enforce`` nothing without a quorum is sent."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio

from kmsconn.ciphertexts.attestation import ATTESTATION_HEADER, StoredFormat
from kmsconn.config.description import AttestationMode
from kmsconn.emulator import dependencies
from kmsconn.emulator.buckets import EmulatedBucket, ObjectForm
from kmsconn.emulator.ciphertexts import attest, attestation_header, sign_attestation
from kmsconn.emulator.dependencies import key_for
from kmsconn.emulator.fhevm_dependencies import KEY_ID
from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.model.events import AlertRaised, AttestationMismatch, RequestDeferred
from tests.faults.scene import Scene, open_scene

FORMS = ("public", "direct", "unified")
ENFORCE = {"attestation": AttestationMode.ENFORCE}


def lie_everywhere(scene: Scene, transaction: bytes) -> None:
    """Let every coprocessor attest another digest for a request's ciphertexts."""
    for index in range(len(scene.dependencies.buckets)):
        lie(scene, transaction, index)


def lie(scene: Scene, transaction: bytes, index: int, body: bytes | None = None) -> None:
    """Let a coprocessor attest another digest for a request's ciphertexts, in its bucket, and perhaps hold other bytes."""
    bucket, signer = scene.dependencies.buckets[index].bucket, key_for(f"coprocessor signer {index}")
    for one in scene.traffic._remembered[transaction]:
        honest = attest(one, key_id=KEY_ID, stored=StoredFormat.COMPRESSED_ON_CPU, signer=signer)
        said = sign_attestation(one.handle, attrs.evolve(honest, sns_ciphertext_digest=bytes(32)), signer)
        headers = ((ATTESTATION_HEADER, attestation_header(said)),)
        bucket.put(ObjectForm.HANDLE.key(one), one.body if body is None else body, headers)


def started(scene: Scene) -> set[int]:
    """Note which ids the Core hears of."""
    heard: set[int] = set()
    scene.dependencies.cores[0].core.on_start = lambda request_id: heard.add(int.from_bytes(request_id))
    return heard


async def test_what_the_quorum_attests_is_answered(scene: Scene) -> None:
    ids = await scene.ask(*FORMS * 2)
    async with scene.connected(**ENFORCE):
        await scene.wait(lambda: scene.answered == set(ids))
    assert scene.told(RequestDeferred) == []


async def test_what_is_not_attested_never_reaches_the_core_and_waits_until_it_is(scene: Scene) -> None:
    heard = started(scene)
    transaction = scene.traffic.public()
    kept = [dict(one.bucket.objects) for one in scene.dependencies.buckets]
    lie_everywhere(scene, transaction)
    [bad] = await scene.on_chain([transaction])
    good = await scene.ask(*FORMS)
    async with scene.connected(**ENFORCE):
        await scene.wait(lambda: scene.answered == set(good))
        await trio.sleep(120)
        assert bad not in heard
        assert all("is not attested: attested is" in event.reason for event in scene.told(RequestDeferred))
        assert any("is not attested" in event.text for event in scene.told(AlertRaised))
        for one, objects in zip(scene.dependencies.buckets, kept, strict=True):
            one.bucket.objects.update(objects)
        await scene.wait(lambda: bad in scene.answered)
    assert scene.told(AttestationMismatch) == []


@pytest.mark.parametrize("body", [None, b"malicious"], ids=["right bytes", "wrong bytes"])
@pytest.mark.parametrize("coprocessors", [2, 3])
async def test_one_malicious_bucket_spoils_no_request_and_stops_one_only_where_all_must_agree(
    coprocessors: int, body: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "COPROCESSORS", coprocessors)
    async with open_scene(tmp_path) as scene:
        heard = started(scene)
        transactions = [scene.traffic.forms[form]() for form in FORMS]
        for transaction in transactions:
            lie(scene, transaction, 0, body)
        ids = await scene.on_chain(transactions)
        async with scene.connected(**ENFORCE):
            await trio.sleep(60)
        assert scene.answered == heard == (set(ids) if coprocessors > 2 else set())


async def test_honest_coprocessors_are_never_reported(scene: Scene) -> None:
    ids = await scene.ask(*FORMS * 3)
    async with scene.connected() as connector:
        await scene.wait(lambda: scene.answered == set(ids))
        await trio.sleep(10)
        assert connector.statistics().ciphertexts.attestations_skipped == 0
    assert scene.told(AttestationMismatch) == []
    assert sum(one.bucket.counts["HEAD", 200] for one in scene.dependencies.buckets) > 0


async def test_an_attestation_of_another_digest_is_told_and_the_request_answered(scene: Scene) -> None:
    transaction = scene.traffic.public()
    handles = {one.handle for one in scene.traffic._remembered[transaction]}
    lie_everywhere(scene, transaction)
    ids = [*await scene.on_chain([transaction]), *await scene.ask(*FORMS)]
    async with scene.connected():
        await scene.wait(lambda: scene.answered == set(ids))
        await scene.wait(lambda: {event.handle for event in scene.told(AttestationMismatch)} == handles)
    assert all("the chain names" in event.reason for event in scene.told(AttestationMismatch))
    assert "attestation_mismatch" in scene.log.getvalue()


async def test_buckets_that_hang_at_attestations_delay_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = EmulatedBucket.handle

    async def handle(bucket: EmulatedBucket, request: HttpRequest) -> HttpResponse:
        if request.method == "HEAD":
            await trio.sleep_forever()
        return await honest(bucket, request)

    monkeypatch.setattr(EmulatedBucket, "handle", handle)
    async with open_scene(tmp_path) as scene:
        ids = await scene.ask(*FORMS * 5)
        async with scene.connected(attestation_head_timeout=3600.0):
            await scene.wait(lambda: scene.answered == set(ids), 10)


async def test_switched_off_no_bucket_is_asked(scene: Scene) -> None:
    ids = await scene.ask(*FORMS)
    async with scene.connected(attestation=AttestationMode.OFF):
        await scene.wait(lambda: scene.answered == set(ids))
        await trio.sleep(10)
    methods = {method for one in scene.dependencies.buckets for method, _ in one.bucket.counts}
    assert methods == {"GET"}

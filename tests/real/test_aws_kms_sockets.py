"""A wallet in AWS KMS over loopback sockets: the SDK's requests against moto and the emulated service, its replies on anvil.

moto signs sha256(digest) whatever MessageType says: it proves the wire, not the signature. The emulated service honours DIGEST.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from botocore.utils import ContainerMetadataFetcher
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kmsconn.config.description import AwsKmsKey
from kmsconn.connector.connector import open_connector
from kmsconn.emulator.aws_kms import EmulatedAwsKms, KmsFault
from kmsconn.emulator.contracts.request_calls import FORMS
from kmsconn.emulator.http import HttpRequest, HttpResponse, serve_http
from kmsconn.emulator.network import serve_sockets
from kmsconn.errors import Misconfigured, Overloaded, StartRefused, Unreachable
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey, recover, recoverable
from kmsconn.model.events import AlertCleared, AlertRaised, ignore
from kmsconn.replies.wallet import open_aws_kms, read_public_key
from kmsconn.transport.aws import open_aws
from tests.e2e.test_cli_process import config, kmsconn
from tests.real.anvil.ground_truth import wait_answered, wait_until
from tests.real.anvil.test_anvil_refusals import assert_all_once, assert_right
from tests.real.anvil.users import Users
from tests.real.anvil.world import open_world, sender_key
from tests.real.stores import ServedStore

KEY = PrivateKey.parse("22" * 32)
DIGESTS = [keccak256(bytes([n])) for n in range(40)]


@pytest.fixture(autouse=True)
def credentials(no_aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that nobody checks."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")


@asynccontextmanager
async def serving(kms: EmulatedAwsKms) -> AsyncIterator[str]:
    """Serve an emulated AWS KMS; gives its URL."""
    crashes: list[Exception] = []
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve_sockets, kms.serve, crashes=crashes))
        yield f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()
    assert crashes == []


@asynccontextmanager
async def serving_until_told(kms: EmulatedAwsKms) -> AsyncIterator[tuple[str, trio.CancelScope]]:
    """Serve an emulated AWS KMS until the scope is cancelled, or the block is left."""
    scope = trio.CancelScope()

    async def serve(task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        with scope:
            await serve_sockets(kms.serve, task_status=task_status)

    async with trio.open_nursery() as nursery:
        yield f"http://127.0.0.1:{await nursery.start(serve)}", scope
        scope.cancel()


# --- moto: the wire


async def test_moto_shows_the_address_of_its_key_and_takes_our_requests(moto: ServedStore) -> None:
    url = f"http://127.0.0.1:{moto.port}"
    async with open_aws("kms", region=None, endpoint=url, connections=4) as service:
        made = await service.ask("create_key", KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")
        key_id = made["KeyMetadata"]["KeyId"]
        await service.ask("create_alias", AliasName="alias/tx-sender", TargetKeyId=key_id)
        for name in (key_id, made["KeyMetadata"]["Arn"], "alias/tx-sender"):
            address = read_public_key(await service.ask("get_public_key", KeyId=name))
            async with open_aws_kms(AwsKmsKey(name, None, url), ignore) as signer:
                assert signer.address == address
        digest = DIGESTS[0]
        answer = await service.ask(
            "sign", KeyId=key_id, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
        )
        hashed = hashlib.sha256(digest).digest()
        signature = recoverable(hashed, *decode_dss_signature(answer["Signature"]), address)
        assert signature is not None
        assert recover(hashed, signature) == address


async def test_a_signature_over_something_else_is_seen_and_not_used(moto: ServedStore) -> None:
    """moto's: over sha256 of the digest."""
    url = f"http://127.0.0.1:{moto.port}"
    async with open_aws("kms", region=None, endpoint=url, connections=4) as service:
        made = await service.ask("create_key", KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")
        async with open_aws_kms(AwsKmsKey(made["KeyMetadata"]["KeyId"], None, url), ignore) as signer:
            with pytest.raises(Misconfigured, match="another key"):
                await signer.sign(DIGESTS[:1])
        with pytest.raises(StartRefused, match="NotFoundException"):
            async with open_aws_kms(AwsKmsKey("alias/absent", None, url), ignore):
                pass


# --- the emulated service: signatures and faults


async def test_the_emulated_service_signs_digests_over_its_http_api() -> None:
    kms = EmulatedAwsKms({"alias/x": KEY})
    async with serving(kms) as url, open_aws_kms(AwsKmsKey("alias/x", "eu-west-1", url), ignore) as signer:
        assert signer.address == KEY.address
        assert await signer.sign(DIGESTS) == [KEY.sign(digest) for digest in DIGESTS]
    assert kms.counts == {"GetPublicKey": 1, "Sign": len(DIGESTS)}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (KmsFault.THROTTLED, Overloaded),
        (KmsFault.UNAVAILABLE, Overloaded),
        (KmsFault.INTERNAL, Unreachable),
        (KmsFault.GARBLED, Unreachable),
        (KmsFault.DENIED, Misconfigured),
        (KmsFault.DISABLED, Misconfigured),
        (KmsFault.WRONG_KEY, Misconfigured),
    ],
)
async def test_each_fault_comes_through_the_sdk_as_what_to_do(fault: KmsFault, kind: type) -> None:
    kms = EmulatedAwsKms({"alias/x": KEY})
    async with serving(kms) as url, open_aws_kms(AwsKmsKey("alias/x", None, url), ignore) as signer:
        kms.fault = lambda _: fault
        with pytest.raises(kind) as failed:
            await signer.sign(DIGESTS[:3])
        assert type(failed.value) is kind
        assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize("garbage", [b"", b"<html>", b"{", b"[]", b"{}"])
async def test_an_answer_that_is_none_of_aws_is_silence_or_a_refusal(garbage: bytes) -> None:
    kms = EmulatedAwsKms({"alias/x": KEY})

    async def answer(request: HttpRequest) -> HttpResponse:
        wanted = (request.header("x-amz-target") or "").endswith("Sign")
        return HttpResponse(200, (), garbage) if wanted else await kms.handle(request)

    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve_sockets, partial(serve_http, handler=answer)))
        async with open_aws_kms(AwsKmsKey("alias/x", None, f"http://127.0.0.1:{port}"), ignore) as signer:
            with pytest.raises(Unreachable):
                await signer.sign(DIGESTS[:1])
        nursery.cancel_scope.cancel()


async def test_a_service_that_goes_away_is_unreachable() -> None:
    kms = EmulatedAwsKms({"alias/x": KEY})
    async with (
        serving_until_told(kms) as (url, gone),
        open_aws_kms(AwsKmsKey("alias/x", None, url), ignore) as one,
    ):
        gone.cancel()
        with pytest.raises(Unreachable):
            await one.sign(DIGESTS[:1])


async def test_a_service_that_nobody_serves_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmsconn.replies.wallet.STARTING", 0.1)
    events: list[Any] = []
    with pytest.raises(StartRefused, match="EndpointConnectionError"):
        async with open_aws_kms(AwsKmsKey("alias/x", None, "http://127.0.0.1:9"), events.append):
            pass
    assert [type(event) for event in events] == [AlertRaised]


async def test_a_start_waits_for_the_service_that_gives_a_container_its_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kmsconn.replies.wallet.AGAIN", 0.01)
    monkeypatch.setattr(ContainerMetadataFetcher, "RETRY_ATTEMPTS", 1)
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    keys = {"AccessKeyId": "id", "SecretAccessKey": "hunter2", "Token": None}
    statuses, events = [500, 503, 200], list[Any]()

    async def answer(_: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        body = keys | {"Expiration": "2999-01-01T00:00:00Z"}
        return HttpResponse(statuses.pop(0), (), json.dumps(body).encode())

    async with trio.open_nursery() as nursery, serving(EmulatedAwsKms({"alias/x": KEY})) as url:
        port = await nursery.start(partial(serve_sockets, partial(serve_http, handler=answer)))
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/keys")
        async with open_aws_kms(AwsKmsKey("alias/x", None, url), events.append) as signer:
            assert signer.address == KEY.address
        nursery.cancel_scope.cancel()
    assert [type(event) for event in events] == [AlertRaised, AlertCleared]
    assert statuses == []


async def test_without_a_region_and_an_endpoint_the_start_ends() -> None:
    with pytest.raises(StartRefused, match="NoRegionError"):
        async with open_aws_kms(AwsKmsKey("alias/x"), ignore):
            pass


async def test_without_credentials_the_start_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with serving(EmulatedAwsKms({"alias/x": KEY})) as url:
        with pytest.raises(StartRefused, match="NoCredentialsError"):
            async with open_aws_kms(AwsKmsKey("alias/x", None, url), ignore):
                pass


async def test_run_with_a_key_that_may_not_be_used_ends_with_3(tmp_path: Path) -> None:
    kms = EmulatedAwsKms({"alias/x": KEY}, fault=lambda _: KmsFault.DENIED)
    async with serving(kms) as url:
        path = config(
            tmp_path, private_key=None, **{"aws_kms_config.key_id": "alias/x", "aws_kms_config.endpoint": url}
        )
        status, _, said = await kmsconn("run", "-c", str(path))
    assert status == 3
    assert "AWS KMS initialization failed: AWS kms: AccessDeniedException" in said
    assert "hunter2" not in said


# --- the whole connector


async def test_replies_signed_in_aws_kms_are_taken_by_anvil_through_throttling_and_slowness(
    anvil: Path, tmp_path: Path
) -> None:
    kms, events = EmulatedAwsKms({"alias/tx-sender": sender_key()}, latency=0.02), list[Any]()
    async with open_world(anvil, tmp_path) as world, serving(kms) as url:
        settings = world.settings(
            tmp_path / "journal.db", private_key=None, aws_kms=AwsKmsKey("alias/tx-sender", None, url)
        )
        users = Users(world)
        async with open_connector(settings, on_event=events.append):
            asked = await users.ask(*FORMS)
            await wait_until(lambda: kms.counts["Sign"] >= len(FORMS))
            kms.fault = lambda operation: KmsFault.THROTTLED
            asked += await users.ask(*FORMS)
            await wait_until(lambda: any(isinstance(event, AlertRaised) for event in events))
            kms.fault = lambda operation: KmsFault.WRONG_KEY
            await trio.sleep(1.0)
            kms.fault = lambda operation: None
            ground_truth = await wait_answered(
                world.gateway.rpc, world.at.decryption, sender_key().address, len(asked)
            )
        assert_all_once(asked, ground_truth)
        await assert_right(world, users, asked)
    told = [
        (type(event), event.dependency, event.cause)
        for event in events
        if isinstance(event, AlertRaised | AlertCleared)
    ]
    assert told == [(kind, "txmanager gateway", "wallet") for kind in (AlertRaised, AlertCleared)]
    assert "hunter2" not in json.dumps([repr(event) for event in events])

"""Buckets that want credentials, asked through the SDK on plain Trio: moto's server and radosgw."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
from botocore.utils import ContainerMetadataFetcher

from kmsconn.ciphertexts.attestation import BIG_COMPRESSED
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.ciphertexts.places import BucketPolicy, ObjectPlace, Substitute
from kmsconn.ciphertexts.sdk import Sdk, open_sdk
from kmsconn.ciphertexts.sources import ByPlace
from kmsconn.config.parties import Httpz, S3Fallback
from kmsconn.emulator.buckets import ObjectForm
from kmsconn.emulator.ciphertexts import make_ciphertext
from kmsconn.emulator.http import HttpRequest, HttpResponse, serve_http
from kmsconn.emulator.network import serve_sockets
from kmsconn.errors import Unreachable
from kmsconn.model.life import Ciphertext
from kmsconn.transport.ports import offload_to_threads
from kmsconn.transport.waiting import together
from tests.httpz.world import COPROCESSOR, open_world
from tests.real.stores import (
    ACCESS_KEY,
    SECRET_KEY,
    Client,
    ServedBucket,
    ServedStore,
    fetch,
    open_client,
    registry_of,
)
from tests.real.test_bucket_stores import BIG, ONE, publish

SERVED = pytest.mark.parametrize("store", ["moto", "radosgw"], indirect=True)
RADOSGW = pytest.mark.parametrize("store", ["radosgw"], indirect=True)
pytestmark = pytest.mark.usefixtures("no_aws")


@pytest.fixture
def credentials(no_aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK asks for credentials once and not three times with a second between."""
    monkeypatch.setattr(ContainerMetadataFetcher, "RETRY_ATTEMPTS", 1)
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with open_client() as found:
        yield found


@pytest.fixture
async def sdk() -> AsyncIterator[Sdk]:
    async with open_sdk(offload_to_threads) as found:
        yield found


def fetcher(
    client: Client, sdk: Sdk, *buckets: ServedBucket, own: str = "", max_size: int = 1 << 24
) -> Fetcher:
    """Return a fetcher of the first generation; the operator's endpoint is that of the first bucket unless said otherwise."""
    endpoint = own or f"http://127.0.0.1:{buckets[0].port}"
    sources = ByPlace(client.http, registry_of(buckets).find, sdk, Substitute("eu-west-1", "spare", endpoint))
    return Fetcher(sources, BucketPolicy(True, True), offload_to_threads, max_size)


def place_of(bucket: ServedBucket, region: str = "eu-west-1") -> ObjectPlace:
    return ObjectPlace(region, f"http://127.0.0.1:{bucket.port}", bucket.name)


async def got(sdk: Sdk, place: ObjectPlace, key: str, cap: int = 1 << 24) -> bytes:
    async with sdk.get(place, key, cap) as body:
        return b"".join([piece async for piece in body])


@SERVED
async def test_a_public_object_needs_no_credentials(store: ServedStore, client: Client, sdk: Sdk) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, ONE, ObjectForm.DIGEST)
    found = await fetch(fetcher(client, sdk, bucket), ONE.handle, ONE.digest)
    assert found == Ciphertext(ONE.handle, ONE.body, BIG_COMPRESSED)
    assert sdk._known == {}


@SERVED
@pytest.mark.usefixtures("credentials")
async def test_a_private_object_comes_with_credentials_body_and_metadata(
    store: ServedStore, client: Client, sdk: Sdk
) -> None:
    bucket = await store.open_bucket(public=False)
    await publish(bucket, ONE, ObjectForm.DIGEST)
    found = await fetch(fetcher(client, sdk, bucket), ONE.handle, ONE.digest)
    assert found == Ciphertext(ONE.handle, ONE.body, BIG_COMPRESSED)


@SERVED
async def test_without_credentials_both_ways_are_named(store: ServedStore, client: Client, sdk: Sdk) -> None:
    bucket = await store.open_bucket(public=False)
    await publish(bucket, ONE, ObjectForm.DIGEST)
    with pytest.raises(Unreachable, match=r"answered 403; .*NoCredentialsError"):
        await fetch(fetcher(client, sdk, bucket), ONE.handle, ONE.digest)


@SERVED
@pytest.mark.usefixtures("credentials")
async def test_an_endpoint_that_is_not_the_operators_is_shown_no_credentials(
    store: ServedStore, client: Client, sdk: Sdk
) -> None:
    bucket = await store.open_bucket(public=False)
    await publish(bucket, ONE, ObjectForm.DIGEST)
    with pytest.raises(Unreachable, match="answered 403") as refused:
        await fetch(fetcher(client, sdk, bucket, own="https://minio.example"), ONE.handle, ONE.digest)
    assert "credentials" not in str(refused.value)
    assert sdk._known == {}


@RADOSGW
async def test_wrong_credentials_are_refused_by_name(
    store: ServedStore, sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    bucket = await store.open_bucket(public=False)
    with pytest.raises(Unreachable, match="SignatureDoesNotMatch"):
        await got(sdk, place_of(bucket), "key")


@SERVED
@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "nowhere-7"])
async def test_these_servers_take_a_signature_for_any_region(
    store: ServedStore, sdk: Sdk, region: str
) -> None:
    bucket = await store.open_bucket(public=False)
    await bucket.put("key", b"body", {})
    assert await got(sdk, place_of(bucket, region), "key") == b"body"


@SERVED
@pytest.mark.usefixtures("credentials")
async def test_an_object_that_is_not_there_yet_is_found_once_it_is(
    store: ServedStore, client: Client, sdk: Sdk
) -> None:
    bucket = await store.open_bucket(public=False)
    one = fetcher(client, sdk, bucket)
    with pytest.raises(Unreachable, match="NoSuchKey"):
        await fetch(one, ONE.handle, ONE.digest)
    await publish(bucket, ONE, ObjectForm.DIGEST)
    assert (await fetch(one, ONE.handle, ONE.digest)).body == ONE.body


@SERVED
@pytest.mark.usefixtures("credentials")
async def test_a_bucket_that_is_not_there_is_named(store: ServedStore, sdk: Sdk) -> None:
    bucket = await store.open_bucket()
    with pytest.raises(Unreachable, match="NoSuchBucket"):
        await got(sdk, ObjectPlace("eu-west-1", f"http://127.0.0.1:{bucket.port}", "not-there"), "key")


@SERVED
@pytest.mark.usefixtures("credentials")
async def test_wrong_bytes_at_the_first_url_and_right_ones_at_the_second(
    store: ServedStore, client: Client, sdk: Sdk
) -> None:
    first, second = await store.open_bucket(public=False), await store.open_bucket(public=False)
    await publish(first, ONE, ObjectForm.DIGEST, body=ONE.body[:-1] + b"\0")
    await publish(second, ONE, ObjectForm.DIGEST)
    found = await fetch(fetcher(client, sdk, first, second), ONE.handle, ONE.digest, 2)
    assert found.body == ONE.body
    with pytest.raises(Unreachable, match="with credentials holds other bytes than the chain names"):
        await fetch(fetcher(client, sdk, first), ONE.handle, ONE.digest)


@SERVED
@pytest.mark.usefixtures("credentials")
async def test_eight_megabytes_come_whole_and_not_beyond_the_cap(
    store: ServedStore, client: Client, sdk: Sdk
) -> None:
    bucket = await store.open_bucket(public=False)
    await publish(bucket, BIG, ObjectForm.DIGEST)
    assert (await fetch(fetcher(client, sdk, bucket), BIG.handle, BIG.digest)).body == BIG.body
    with pytest.raises(Unreachable, match="larger than 8388607 bytes"):
        await fetch(fetcher(client, sdk, bucket, max_size=(8 << 20) - 1), BIG.handle, BIG.digest)


@SERVED
@pytest.mark.usefixtures("credentials")
async def test_many_at_once_each_get_their_own(store: ServedStore, client: Client, sdk: Sdk) -> None:
    bucket = await store.open_bucket(public=False)
    many = [make_ciphertext(f"one of many {n}", n, 5, chain_id=5, size=5000) for n in range(20)]
    for one in many:
        await publish(bucket, one, ObjectForm.DIGEST)
    asked = fetcher(client, sdk, bucket)
    found = await together([partial(fetch, asked, one.handle, one.digest) for one in many])
    assert [each.body for each in found] == [one.body for one in many]
    assert len(sdk._known) == 1


@SERVED
@pytest.mark.usefixtures("credentials")
async def test_downloads_that_are_cancelled_leave_their_places(store: ServedStore, sdk: Sdk) -> None:
    bucket = await store.open_bucket(public=False)
    await publish(bucket, BIG, ObjectForm.DIGEST)
    key = BIG.digest.hex()
    for _ in range(12):
        with trio.CancelScope() as scope:
            async with sdk.get(place_of(bucket), key, 1 << 24) as body:
                async for _piece in body:
                    scope.cancel()
    with trio.fail_after(30):
        assert await got(sdk, place_of(bucket), key) == BIG.body


async def test_where_nobody_listens_it_is_unreachable(sdk: Sdk, credentials: None) -> None:
    with pytest.raises(Unreachable, match="EndpointConnectionError"):
        await got(sdk, ObjectPlace("eu-west-1", "http://127.0.0.1:1", "b"), "key")


# Where credentials and regions come from, on plain Trio


@SERVED
async def test_a_container_gets_its_credentials_over_http(
    store: ServedStore, sdk: Sdk, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK asks for them by a client of its own, which must not want asyncio."""
    keys = {
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": SECRET_KEY,
        "Token": None,
        "Expiration": "2999-01-01T00:00:00Z",
    }

    async def answer(_: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        return HttpResponse(200, (("content-type", "application/json"),), json.dumps(keys).encode())

    port = await nursery.start(serve_sockets, partial(serve_http, handler=answer))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/keys")
    bucket = await store.open_bucket(public=False)
    await bucket.put("key", b"body", {})
    assert await got(sdk, place_of(bucket), "key") == b"body"
    nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("once")
async def test_while_the_credentials_of_a_container_are_not_had_an_object_is_unreachable(
    sdk: Sdk, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service may be back in a moment: nothing for an operator to change, and the next fetch asks again."""
    statuses = [500, 200]

    async def answer(request: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        if not request.path.endswith("/keys"):
            return HttpResponse(200, (), b"body")
        keys = {"AccessKeyId": "id", "SecretAccessKey": "hunter2", "Token": None}
        keys["Expiration"] = "2999-01-01T00:00:00Z"
        return HttpResponse(statuses.pop(0), (), json.dumps(keys).encode())

    port = await nursery.start(serve_sockets, partial(serve_http, handler=answer))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/keys")
    place = ObjectPlace("eu-west-1", f"http://127.0.0.1:{port}", "b")
    with pytest.raises(Unreachable, match=r": AWS s3: CredentialRetrievalError$"):
        await got(sdk, place, "key")
    assert await got(sdk, place, "key") == b"body"
    assert statuses == []
    nursery.cancel_scope.cancel()


async def test_a_machine_without_a_metadata_service_just_has_no_credentials(
    sdk: Sdk, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        return HttpResponse(404)

    port = await nursery.start(serve_sockets, partial(serve_http, handler=nothing))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(Unreachable, match="NoCredentialsError"):
        await got(sdk, ObjectPlace("eu-west-1", f"http://127.0.0.1:{port}", "b"), "key")
    nursery.cancel_scope.cancel()


async def test_a_signature_for_the_wrong_region_is_made_again_for_the_right_one(
    sdk: Sdk, nursery: trio.Nursery, credentials: None
) -> None:
    """As AWS, and neither moto nor radosgw: refuses it, and says the right one."""
    asked: list[str] = []

    async def strict(request: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        region = (request.header("authorization") or "").partition("Credential=")[2].split("/")[2]
        asked.append(region)
        if region == "eu-central-1":
            return HttpResponse(200, (), b"body")
        code = "<Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region>"
        return HttpResponse(400, (("content-type", "application/xml"),), f"<Error>{code}</Error>".encode())

    port = await nursery.start(serve_sockets, partial(serve_http, handler=strict))
    assert await got(sdk, ObjectPlace("us-east-1", f"http://127.0.0.1:{port}", "b"), "key") == b"body"
    assert asked == ["us-east-1", "eu-central-1"]
    nursery.cancel_scope.cancel()


# A connector of the first generation


@SERVED
@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("address", ["", "not-a-url"])
async def test_a_connector_answers_out_of_the_configured_bucket_that_wants_credentials(
    store: ServedStore, tmp_path: Path, address: str
) -> None:
    """Where the chain tells no bucket, or one that cannot be read; only the SDK leads out of the world's network."""
    bucket = await store.open_bucket(public=False)
    s3 = S3Fallback("eu-west-1", bucket.name, f"http://127.0.0.1:{bucket.port}")
    async with open_world(tmp_path) as world, world.connected(httpz=Httpz(s3=s3)):
        world.set_buckets({COPROCESSOR: address})
        material = world.reference(1000)
        (body,) = world.dependencies.plaintexts
        await bucket.put(material.digest.hex(), body, {})
        world.ask_public(material)
        ((_, result, _),) = await world.wait_replies("publicDecryptionResponse")
        assert int.from_bytes(result[:32]) == 1000
        assert world.bucket.counts == {}

"""What the connector relies on in a bucket: the same facts asked of the emulated bucket, of moto's server and of radosgw."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio

from kmsconn.ciphertexts.attestation import (
    ATTESTATION_HEADER,
    BIG_COMPRESSED,
    FORMAT_HEADER,
    StoredFormat,
    parse_attestation,
)
from kmsconn.ciphertexts.places import by_digest, by_handle
from kmsconn.emulator.buckets import ObjectForm
from kmsconn.emulator.ciphertexts import EmulatedCiphertext, attest, attestation_header, make_ciphertext
from kmsconn.errors import Unreachable
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.life import Ciphertext
from kmsconn.transport.waiting import together
from tests.real.stores import Bucket, Client, Store, fetch, open_client

SIGNER = PrivateKey(bytes(31) + b"\x05")
ONE = make_ciphertext("one", 7, 2, chain_id=5, size=1000)
BIG = make_ciphertext("big", 8, 5, chain_id=5, size=8 << 20)
STRANGE_KEY, ENCODED_KEY = "a b+c%ü/d", "a%20b+c%25%C3%BC/d"
WITHOUT_MOTO = pytest.mark.parametrize("store", ["emulated", "radosgw"], indirect=True)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with open_client() as found:
        yield found


def attested(
    one: EmulatedCiphertext, stored: StoredFormat = StoredFormat.COMPRESSED_ON_CPU
) -> dict[str, str]:
    return {ATTESTATION_HEADER: attestation_header(attest(one, key_id=4, stored=stored, signer=SIGNER))}


async def publish(
    bucket: Bucket, one: EmulatedCiphertext, form: ObjectForm = ObjectForm.HANDLE, body: bytes | None = None
) -> None:
    await bucket.put(form.key(one), one.body if body is None else body, attested(one))


async def get(client: Client, url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    async with await client.http.stream_get(url, max_bytes=1 << 24, headers=headers) as answer:
        return answer.status, await answer.read()


# Objects


@pytest.mark.parametrize("form", ObjectForm)
async def test_both_forms_of_object_are_fetched_with_their_format(
    store: Store, client: Client, form: ObjectForm
) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, ONE, form)
    found = await fetch(client.fetcher([bucket]), ONE.handle, ONE.digest)
    assert found == Ciphertext(ONE.handle, ONE.body, BIG_COMPRESSED)


@pytest.mark.parametrize("form", ObjectForm)
async def test_head_tells_the_attestation_and_no_body(store: Store, client: Client, form: ObjectForm) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, ONE, form)
    url = (
        by_handle(bucket.url, ONE.handle) if form is ObjectForm.HANDLE else by_digest(bucket.url, ONE.digest)
    )
    response = await client.http.head(url)
    attestation = parse_attestation(response.headers[ATTESTATION_HEADER])
    assert (response.status, response.body, response.headers["content-length"]) == (200, b"", "1000")
    assert (attestation.signer, attestation.sns_ciphertext_digest) == (SIGNER.address, ONE.digest)


async def test_get_tells_what_head_tells(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    await bucket.put("key", b"body", {FORMAT_HEADER: "uncompressed_on_gpu"})
    told = await client.http.head(f"{bucket.url}/key")
    async with await client.http.stream_get(f"{bucket.url}/key", max_bytes=10) as answer:
        names = ("content-length", "content-type", FORMAT_HEADER)
        assert [answer.headers[name] for name in names] == [told.headers[name] for name in names]
        assert (answer.announced, await answer.read()) == (4, b"body")
        assert answer.headers["content-type"] == "binary/octet-stream"
        assert answer.headers[FORMAT_HEADER] == "uncompressed_on_gpu"


async def test_an_empty_object_is_an_object(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    await bucket.put("key", b"", {})
    assert await get(client, f"{bucket.url}/key") == (200, b"")


async def test_a_key_that_must_be_percent_encoded(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    await bucket.put(STRANGE_KEY, b"body", {})
    assert await get(client, f"{bucket.url}/{ENCODED_KEY}") == (200, b"body")


async def test_the_bucket_may_stand_in_the_host(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, ONE, ObjectForm.DIGEST)
    await publish(bucket, ONE, ObjectForm.HANDLE)
    assert await get(client, by_digest(bucket.host_url, ONE.digest)) == (200, ONE.body)
    assert await get(client, by_handle(bucket.host_url, ONE.handle)) == (200, ONE.body)


async def test_an_object_that_is_put_again_is_the_new_one(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    for body in (b"old", b"newer"):
        await bucket.put("key", body, {})
        assert await get(client, f"{bucket.url}/key") == (200, body)


# What is not there, and what is forbidden


async def test_a_key_that_is_not_there_is_missing(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    status, body = await get(client, f"{bucket.url}/key")
    assert (status, b"<Code>NoSuchKey</Code>" in body) == (404, True)
    assert (await client.http.head(f"{bucket.url}/key")).status == 404


@WITHOUT_MOTO
async def test_where_nobody_may_list_a_missing_key_is_forbidden(store: Store, client: Client) -> None:
    """As S3 documents it. moto always says 404."""
    bucket = await store.open_bucket(listed=False)
    status, body = await get(client, f"{bucket.url}/key")
    assert (status, b"<Code>AccessDenied</Code>" in body) == (403, True)
    assert (await client.http.head(f"{bucket.url}/key")).status == 403


async def test_a_bucket_that_is_not_there(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    status, body = await get(client, f"{bucket.url}-other/key")
    assert (status, b"<Code>NoSuchBucket</Code>" in body) == (404, True)


async def test_a_private_object_is_forbidden(store: Store, client: Client) -> None:
    bucket = await store.open_bucket(public=False)
    await bucket.put("key", b"body", {})
    status, body = await get(client, f"{bucket.url}/key")
    assert status == 403
    assert b"body" not in body
    assert (await client.http.head(f"{bucket.url}/key")).status == 403


@pytest.mark.parametrize("tail", ["KEY", "key/", "/key", "ke", "key2"])
async def test_a_key_is_taken_to_the_letter(store: Store, client: Client, tail: str) -> None:
    bucket = await store.open_bucket()
    await bucket.put("key", b"body", {})
    assert (await get(client, f"{bucket.url}/{tail}"))[0] == 404


async def test_a_private_bucket_costs_a_named_failure_of_both_forms(store: Store, client: Client) -> None:
    bucket = await store.open_bucket(public=False)
    for form in ObjectForm:
        await publish(bucket, ONE, form)
    with pytest.raises(Unreachable, match=r"answered 403; .* answered 403"):
        await fetch(client.fetcher([bucket]), ONE.handle, ONE.digest)


async def test_a_ciphertext_that_comes_late_is_found_once_it_is_there(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    fetcher = client.fetcher([bucket])
    with pytest.raises(Unreachable, match="answered 404"):
        await fetch(fetcher, ONE.handle, ONE.digest)
    await publish(bucket, ONE)
    assert (await fetch(fetcher, ONE.handle, ONE.digest)).body == ONE.body


async def test_forbidden_at_the_first_bucket_and_found_in_the_second(store: Store, client: Client) -> None:
    first, second = await store.open_bucket(public=False), await store.open_bucket()
    await publish(second, ONE)
    assert (await fetch(client.fetcher([first, second]), ONE.handle, ONE.digest, 2)).body == ONE.body


async def test_wrong_bytes_at_the_first_bucket_and_right_ones_in_the_second(
    store: Store, client: Client
) -> None:
    first, second = await store.open_bucket(), await store.open_bucket()
    await publish(first, ONE, body=ONE.body[:-1] + b"\0")
    await publish(second, ONE)
    assert (await fetch(client.fetcher([first, second]), ONE.handle, ONE.digest, 2)).body == ONE.body
    with pytest.raises(Unreachable, match="other bytes than the chain names"):
        await fetch(client.fetcher([first]), ONE.handle, ONE.digest)


async def test_wrong_bytes_under_the_handle_and_right_ones_under_the_digest(
    store: Store, client: Client
) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, ONE, body=b"wrong")
    await publish(bucket, ONE, ObjectForm.DIGEST)
    assert (await fetch(client.fetcher([bucket]), ONE.handle, ONE.digest)).body == ONE.body


# Sizes, numbers, connections


async def test_an_object_beyond_the_cap_is_refused_and_at_the_cap_it_is_not(
    store: Store, client: Client
) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, ONE)
    assert (await fetch(client.fetcher([bucket], max_size=1000), ONE.handle, ONE.digest)).body == ONE.body
    with pytest.raises(Unreachable, match="larger than 999 bytes"):
        await fetch(client.fetcher([bucket], max_size=999), ONE.handle, ONE.digest)


async def test_eight_megabytes_come_whole(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, BIG)
    assert (await fetch(client.fetcher([bucket]), BIG.handle, BIG.digest)).body == BIG.body


async def test_many_at_once_each_get_their_own(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    many = [make_ciphertext(f"one of many {n}", n, 5, chain_id=5, size=20_000) for n in range(40)]
    for one in many:
        await publish(bucket, one)
    fetcher = client.fetcher([bucket])
    found = await together([partial(fetch, fetcher, one.handle, one.digest) for one in many])
    assert [each.body for each in found] == [one.body for one in many]


@WITHOUT_MOTO
async def test_a_connection_is_kept_for_the_next_request(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, ONE)
    url = by_handle(bucket.url, ONE.handle)
    for asked in (url, f"{bucket.url}/missing", url):
        await get(client, asked)
        await client.http.head(asked)
    assert len(client.dialled) == 1


@pytest.mark.parametrize("store", ["moto"], indirect=True)
async def test_server_that_closes_each_connection_is_dialled_each_time(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, ONE)
    for number in range(1, 4):
        assert await get(client, by_handle(bucket.url, ONE.handle)) == (200, ONE.body)
        assert len(client.dialled) == number


async def test_a_download_that_is_left_costs_its_connection_only(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, BIG)
    url = by_handle(bucket.url, BIG.handle)
    async with await client.http.stream_get(url, max_bytes=1 << 24) as answer:
        assert len(await answer.__anext__()) > 0
    assert await get(client, url) == (200, BIG.body)


async def test_downloads_that_are_cancelled_leave_their_places(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    await publish(bucket, BIG)
    url = by_handle(bucket.url, BIG.handle)
    for _ in range(10):
        with trio.CancelScope() as scope:
            async with await client.http.stream_get(url, max_bytes=1 << 24) as answer:
                await answer.__anext__()
                scope.cancel()
                await trio.lowlevel.checkpoint()
    with trio.fail_after(20):
        assert await get(client, url) == (200, BIG.body)


# Redirects


@WITHOUT_MOTO
async def test_a_redirect_within_the_origin_is_followed(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    await bucket.put("new", b"body", {})
    assert await get(client, await bucket.put_redirect("old", "/new")) == (200, b"body")


@WITHOUT_MOTO
async def test_a_redirect_to_another_origin_is_not_followed(store: Store, client: Client) -> None:
    bucket = await store.open_bucket()
    status, body = await get(client, await bucket.put_redirect("away", "http://elsewhere.example/new"))
    assert (300 <= status < 400, body) == (True, b"")
    assert not any("elsewhere" in host for host in client.dialled)

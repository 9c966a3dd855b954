"""The forms of a bucket's address in the first generation (httpz-rc7.md, 4.3), and what stands in for one (4.4)."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.ciphertexts.budget import ByteBudget, Lease
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.ciphertexts.places import (
    BucketPolicy,
    ObjectPlace,
    Substitute,
    by_digest,
    by_handle,
    places,
    read_place,
)
from kmsconn.ciphertexts.sources import BothForms
from kmsconn.errors import Misconfigured, Retryable, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import CiphertextReference
from kmsconn.transport.http11 import announced
from kmsconn.transport.ports import offload_inline
from tests.left_behind import left_behind

KEY = "ab" * 32


@pytest.mark.parametrize(
    ("address", "region", "endpoint", "bucket"),
    [
        (
            "https://my-bucket.s3.us-west-2.amazonaws.com",
            "us-west-2",
            "https://my-bucket.s3.us-west-2.amazonaws.com",
            "my-bucket",
        ),
        (
            "https://s3.eu-central-1.amazonaws.com/my-bucket",
            "eu-central-1",
            "https://s3.eu-central-1.amazonaws.com",
            "my-bucket",
        ),
        (
            "https://storage.example.com/s3/ap-southeast-1/ct128",
            "ap-southeast-1",
            "https://storage.example.com",
            "ct128",
        ),
        ("http://minio:9000/s3/us-east-1/ct128", "us-east-1", "http://minio:9000", "ct128"),
        ("http://h/a/b/s3/eu-west-1/ct128/more", "eu-west-1", "http://h", "ct128"),
        ("http://localhost:9000/bucket-name", "us-east-1", "http://localhost:9000", "bucket-name"),
        ("http://localhost:9000/bucket-name/", "us-east-1", "http://localhost:9000", "bucket-name"),
        ("https://HOST.example:443//ct128//", "us-east-1", "https://host.example", "ct128"),
        ("https://s3.amazonaws.com/b", "us-east-1", "https://s3.amazonaws.com", "b"),
        ("https://b.s3.amazonaws.com", "us-east-1", "https://b.s3.amazonaws.com", "b"),
        ("http://h/s3", "us-east-1", "http://h", "s3"),
        ("https://h/a%20b", "us-east-1", "https://h", "a b"),
    ],
)
def test_an_address_is_read(address: str, region: str, endpoint: str, bucket: str) -> None:
    place = read_place(address)
    assert place is not None
    assert (place.region, place.endpoint, place.bucket) == (region, endpoint, bucket)


@pytest.mark.parametrize(
    "address",
    [
        "https://storage.example.com",
        "https://storage.example.com/bucket/folder",
        "http://h/s3/eu-west-1",
        "http://h/a/s3",
        "https://s3.eu-central-1.amazonaws.com",
        "https://dotted.bucket.s3.eu-central-1.amazonaws.com",
        "not-a-url",
        "localhost:9000/ct128",
        "ftp://h/b",
        "ws://h/b",
        "https://[bad/b",
        "",
    ],
)
def test_anything_else_is_no_place(address: str) -> None:
    assert read_place(address) is None


@pytest.mark.slow
@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    for address in (text, f"https://{text}", f"https://h/{text}"):
        assert isinstance(read_place(address), ObjectPlace | None)


@pytest.mark.parametrize(
    ("address", "url", "service"),
    [
        (
            "https://b.s3.us-west-2.amazonaws.com",
            f"https://b.s3.us-west-2.amazonaws.com/{KEY}",
            "https://s3.us-west-2.amazonaws.com",
        ),
        ("https://s3.us-west-2.amazonaws.com/b", f"https://s3.us-west-2.amazonaws.com/b/{KEY}", None),
        ("http://minio:9000/s3/us-east-1/ct128", f"http://minio:9000/ct128/{KEY}", None),
        ("http://minio:9000/ct128", f"http://minio:9000/ct128/{KEY}", None),
    ],
)
def test_the_bucket_is_named_once_and_not_at_all_for_an_s3_client(
    address: str, url: str, service: str | None
) -> None:
    place = read_place(address)
    assert place is not None
    assert (place.object_url(KEY), place.service) == (url, service or place.endpoint)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://b.s3.us-west-2.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn/b", True),
        ("http://s3.us-west-2.amazonaws.com/b", False),
        ("https://amazonaws.com.evil.example/b", False),
        ("https://s3.us-west-2.amazonaws.com.evil.example/b", False),
        ("https://evilamazonaws.com/b", False),
        ("https://s3-us-west-2.amazonaws.com/b", True),
        ("https://b.s3.dualstack.eu-west-1.amazonaws.com/b", True),
        ("https://s3-fips.us-east-1.amazonaws.com/b", True),
        ("https://a.b.s3.amazonaws.com/b", True),
        ("https://s3.us-west-2.amazonaws.com:8443/b", False),
        ("https://ec2-1-2-3-4.us-west-2.compute.amazonaws.com/b", False),
        ("https://evil-1.us-west-2.elb.amazonaws.com/b", False),
        ("https://abc123.execute-api.us-west-2.amazonaws.com/b", False),
        ("https://b.s3.elb.amazonaws.com/b", False),
        ("https://s3.compute-1.amazonaws.com/b", False),
        ("https://evils3.us-west-2.amazonaws.com/b", False),
        ("https://evil-s3.us-west-2.amazonaws.com/b", False),
        ("https://minio/b", False),
    ],
)
def test_only_the_hosts_of_s3_itself_get_a_signature(address: str, expected: bool) -> None:
    """Whoever looks like it must not be shown credentials."""
    place = read_place(address)
    assert place is not None
    assert place.is_s3 is expected


ADDRESS, PLACE = "http://h/b", ObjectPlace("us-east-1", "http://h", "b")
MINIO = Substitute("eu-west-1", "spare", "http://minio:9000/")
AWS = Substitute("eu-west-1", "spare")
SPARE = ObjectPlace("eu-west-1", "http://minio:9000", "spare")


@pytest.mark.parametrize(
    ("addresses", "instead", "expected"),
    [
        ([ADDRESS], None, [PLACE]),
        ([ADDRESS], MINIO, [PLACE]),
        ([ADDRESS, ADDRESS + "/"], None, [PLACE]),
        (["no address", ADDRESS], None, [PLACE]),
        (["no address", ADDRESS], MINIO, [SPARE, PLACE]),
        (["no address"], AWS, []),
        (["no address"], None, []),
        ([], None, []),
        ([], MINIO, [SPARE]),
        ([], AWS, [ObjectPlace("eu-west-1", "https://s3.eu-west-1.amazonaws.com", "spare")]),
        ([], Substitute("eu-west-1", "", "http://minio:9000"), []),
        (["no address"], Substitute("eu-west-1", "", "http://minio:9000"), []),
    ],
)
def test_what_stands_in_for_an_address(
    addresses: list[str], instead: Substitute | None, expected: list[ObjectPlace]
) -> None:
    assert places(addresses, instead) == expected


HANDLE = bytes(range(32))


@pytest.mark.parametrize(
    "bucket", ["https://b.example/ct", "https://b.example/ct/", "https://b.example/ct//"]
)
def test_trailing_slashes_of_a_bucket_do_not_count(bucket: str) -> None:
    assert by_handle(bucket, HANDLE) == f"https://b.example/ct/ct128/{HANDLE.hex()}/1"
    assert by_digest(bucket, HANDLE) == f"https://b.example/ct/{HANDLE.hex()}"


@pytest.mark.parametrize(
    "host",
    ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254",
     "::1", "fe80::1", "fd00::1", "0.0.0.0", "metadata.internal", "printer.local"],
)  # fmt: skip
def test_private_hosts_are_refused(host: Any) -> None:
    shown = f"[{host}]" if ":" in host else host
    with pytest.raises(Misconfigured, match="allow_private_buckets"):
        BucketPolicy().check(f"https://{shown}/ct")


@pytest.mark.parametrize("host", ["bucket.example", "8.8.8.8", "[2606:4700::1111]"])
def test_public_hosts_are_asked_and_http_needs_the_operators_word(host: str) -> None:
    BucketPolicy().check(f"https://{host}/ct")
    with pytest.raises(Misconfigured, match="allow_http_buckets"):
        BucketPolicy().check(f"http://{host}/ct")
    BucketPolicy(allow_http=True).check(f"http://{host}/ct")


@pytest.mark.parametrize("url", ["ftp://bucket.example/ct", "file:///etc/passwd", "bucket.example"])
def test_the_operator_may_allow_private_addresses_and_no_other_scheme(url: str) -> None:
    allowed = BucketPolicy(allow_http=True, allow_private=True)
    allowed.check("http://127.0.0.1:9000/ct")
    with pytest.raises(Misconfigured):
        allowed.check(url)


@pytest.mark.parametrize("address", ["10.0.0.1", "fe80::1%eth0", "64:ff9b::a00:1", "", "no address"])
def test_an_address_that_a_name_leads_to_is_judged_too(address: Any) -> None:
    assert not BucketPolicy().allows_address(address)
    assert BucketPolicy(allow_private=True).allows_address(address)
    assert BucketPolicy().allows_address("8.8.8.8")


BODY = b"ciphertext"
REFERENCE = CiphertextReference(bytes(30) + b"\x05\x00", 1, keccak256(BODY), (Address(bytes(20)),))
GOOD = "https://good.example"
BIG = 1 << 20


class Registry:
    def __init__(self, *buckets: str) -> None:
        self._buckets = list(buckets)

    async def find(self, _senders: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return self._buckets


class Answer:
    whole = b""

    def __init__(
        self, body: bytes = BODY, status: int = 200, headers: dict[str, str] | None = None, hang: bool = False
    ) -> None:
        self.status, self.headers, self._body, self._hang = status, headers or {}, body, hang
        self.announced = announced(self.headers)

    async def __aiter__(self) -> Any:
        if self._hang:
            await trio.sleep_forever()
        yield self._body


class Cut(Answer):
    """Breaks behind its body."""

    async def __aiter__(self) -> Any:
        for piece in (self._body[:BIG], self._body[BIG:]):
            yield bytes(bytearray(piece))
        raise Unreachable("cut")


class Http:
    """Gives each host's answer; ``asked`` holds every URL."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def ask_ahead(self, _url: str) -> None:
        await trio.lowlevel.checkpoint()

    async def stream_get(self, url: str, *, max_bytes: int, begun: Any = lambda: None) -> Any:
        await trio.lowlevel.checkpoint()
        begun()
        self.asked.append(url)
        return nullcontext(self.answers[url.split("/")[2].split(".", maxsplit=1)[0]])


def fetcher(http: Http, *buckets: str, **policy: bool) -> Fetcher:
    client: Any = http
    directory: Any = Registry(*buckets)
    return Fetcher(BothForms(client, directory.find), BucketPolicy(**policy), offload_inline, 1 << 20)


async def fetch(one: Fetcher, budget: ByteBudget | None = None) -> Any:
    with Lease(budget or ByteBudget(1 << 20)) as lease:
        return await one.fetch(REFERENCE, lease)


@pytest.mark.parametrize(
    "bucket", ["https://[bad/", "https://a:port/", "ht tp://x", "", "https://", "https://a\\b/"]
)
async def test_a_bucket_registered_as_no_url_is_passed_over(bucket: str) -> None:
    """Its text comes from the chain: it must not quarantine requests that name it."""
    found = await fetch(fetcher(Http(good=Answer()), bucket, GOOD))
    assert found.body == BODY


async def test_when_the_policy_forbids_every_bucket_only_the_operator_can_help() -> None:
    with pytest.raises(Misconfigured, match="allow_http_buckets"):
        await fetch(fetcher(Http(), "http://plain.example", "http://other.example"))
    with pytest.raises(Unreachable, match="allow_http_buckets"):
        await fetch(fetcher(Http(good=Answer(status=404)), "http://plain.example", GOOD))
    with pytest.raises(Retryable):
        await fetch(fetcher(Http(), "https://"))


@pytest.mark.parametrize("length", ["x", "-1", "9" * 5000, "1e3", "\u00b2"])
async def test_an_announced_length_that_is_none_does_not_matter(length: str) -> None:
    answer = Answer(headers={"content-length": length})
    assert (await fetch(fetcher(Http(good=answer), GOOD))).body == BODY


async def test_what_a_failed_try_had_reserved_is_given_back_at_once() -> None:
    """Else a bucket that announces much and sends the wrong bytes eats the budget of the ones after it."""
    budget = ByteBudget(1000)
    liar = Answer(body=b"wrong", headers={"content-length": "900"})
    held = []

    class Watching(Http):
        async def stream_get(self, url: str, *, max_bytes: int, begun: Any = lambda: None) -> Any:
            held.append(budget.used)
            return await super().stream_get(url, max_bytes=max_bytes, begun=begun)

    with Lease(budget) as lease:
        found = await fetcher(Watching(liar=liar, good=Answer()), "https://liar.example", GOOD).fetch(
            REFERENCE, lease
        )
        assert budget.used == len(found.body)
    assert held == [0, 0, 0]
    assert budget.used == 0


@pytest.mark.parametrize("answer", [Answer(bytes(BIG)), Cut(bytes(BIG + 1))], ids=["wrong", "cut"])
@pytest.mark.parametrize("buckets", [("bad", "worse"), ("bad", "good")], ids=["all", "one"])
async def test_a_refused_body_is_let_go_of_at_once(answer: Answer, buckets: tuple[str, str]) -> None:
    """Reproduced: 9.7 GB under a budget of 128 MiB, since errors in lists held the frames that had read, until a collection came."""
    http = Http(bad=answer, worse=answer, good=Answer())
    one = fetcher(http, *(f"https://{bucket}.example" for bucket in buckets))

    async def gather() -> None:
        with suppress(Unreachable):
            await fetch(one, ByteBudget(4 * BIG))

    assert await left_behind(gather) < BIG

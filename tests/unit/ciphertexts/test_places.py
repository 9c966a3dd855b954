"""The forms of a bucket's address in the first generation (httpz-rc7.md, 4.3), and what stands in for one (4.4)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.ciphertexts.places import (
    BucketPolicy,
    ObjectPlace,
    Substitute,
    by_digest,
    by_handle,
    places,
    read_place,
)
from kmsconn.errors import Misconfigured

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


@pytest.mark.parametrize("host", ["bucket.example", "8.8.8.8", "2606:4700::1111"])
def test_public_hosts_are_asked(host: Any) -> None:
    shown = f"[{host}]" if ":" in host else host
    BucketPolicy().check(f"https://{shown}/ct")


def test_http_needs_the_operators_word() -> None:
    with pytest.raises(Misconfigured, match="allow_http_buckets"):
        BucketPolicy().check("http://bucket.example/ct")
    BucketPolicy(allow_http=True).check("http://bucket.example/ct")


@pytest.mark.parametrize("url", ["ftp://bucket.example/ct", "file:///etc/passwd", "bucket.example"])
def test_other_schemes_are_never_asked(url: Any) -> None:
    with pytest.raises(Misconfigured):
        BucketPolicy(allow_http=True, allow_private=True).check(url)


def test_the_operator_may_allow_private_addresses() -> None:
    BucketPolicy(allow_http=True, allow_private=True).check("http://127.0.0.1:9000/ct")


@pytest.mark.parametrize("address", ["10.0.0.1", "fe80::1%eth0", "64:ff9b::a00:1", "", "no address"])
def test_an_address_that_a_name_leads_to_is_judged_too(address: Any) -> None:
    assert not BucketPolicy().allows_address(address)
    assert BucketPolicy(allow_private=True).allows_address(address)


def test_a_public_address_that_a_name_leads_to_is_dialled() -> None:
    assert BucketPolicy().allows_address("8.8.8.8")

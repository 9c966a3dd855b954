"""Object addresses and which buckets may be asked."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ciphertexts.places import BucketPolicy, by_digest, by_handle
from kmsconn.errors import Misconfigured

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

"""Where a ciphertext may be had: in which order, and who is shown credentials."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn.ciphertexts.places import Substitute
from kmsconn.ciphertexts.sources import BothForms, ByPlace
from kmsconn.errors import Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import CiphertextReference

REFERENCE = CiphertextReference(b"\x0a" * 32, 1, b"\x0d" * 32, (Address(bytes(20)),))
HANDLE, DIGEST = "0a" * 32, "0d" * 32
OWN = Substitute("eu-west-1", "spare", "http://minio:9000")


class Registry:
    def __init__(self, *buckets: str) -> None:
        self.known = list(buckets)

    async def find(self, _: Any) -> list[str]:
        await trio.lowlevel.checkpoint()
        if self.known == ["unknown"]:
            raise Unreachable("nobody could be looked up")
        return self.known


class Anything:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: name


def both_forms(*buckets: str) -> BothForms:
    return BothForms(Anything(), Registry(*buckets))  # type: ignore[arg-type]


def by_place(*buckets: str, instead: Substitute | None = None) -> ByPlace:
    return ByPlace(Anything(), Registry(*buckets), Anything(), instead)  # type: ignore[arg-type]


async def shown(sources: BothForms | ByPlace) -> list[list[str]]:
    return [[source.shown for source in bucket.ways()] for bucket in await sources.of(REFERENCE)]


async def test_each_bucket_has_both_forms_the_handle_first() -> None:
    assert await shown(both_forms("https://a", "https://b/ct/")) == [
        [f"https://a/ct128/{HANDLE}/1", f"https://a/{DIGEST}"],
        [f"https://b/ct/ct128/{HANDLE}/1", f"https://b/ct/{DIGEST}"],
    ]


async def test_the_form_that_was_found_last_is_asked_first_in_that_bucket() -> None:
    sources = both_forms("https://a/", "https://b")
    by_handle, by_digest = (await sources.of(REFERENCE))[0].ways()
    sources.found(REFERENCE, by_digest)
    assert [next(iter(bucket.ways())).address for bucket in await sources.of(REFERENCE)] == [
        by_digest.address,
        f"https://b/ct128/{HANDLE}/1",
    ]
    sources.found(REFERENCE, by_handle)
    first, _ = (await sources.of(REFERENCE))[0].ways()
    assert first.address == by_handle.address


async def test_a_place_is_asked_by_digest_without_credentials() -> None:
    assert await shown(by_place("http://minio:9000/s3/us-east-1/ct128")) == [
        [f"http://minio:9000/ct128/{DIGEST}"]
    ]


@pytest.mark.parametrize(
    ("bucket", "url"),
    [
        ("https://b.s3.eu-west-1.amazonaws.com", f"https://b.s3.eu-west-1.amazonaws.com/{DIGEST}"),
        ("https://s3.eu-west-1.amazonaws.com/b", f"https://s3.eu-west-1.amazonaws.com/b/{DIGEST}"),
        ("http://minio:9000/ct128", f"http://minio:9000/ct128/{DIGEST}"),
    ],
)
async def test_aws_and_the_operators_own_endpoint_are_shown_credentials_afterwards(
    bucket: str, url: str
) -> None:
    assert await shown(by_place(bucket, instead=OWN)) == [[url, f"{url} with credentials"]]


@pytest.mark.parametrize(
    "bucket",
    [
        "https://amazonaws.com.evil.example/b",
        "https://s3.eu-west-1.amazonaws.com.evil.example/b",
        "http://s3.eu-west-1.amazonaws.com/b",
        "http://minio:9001/b",
        "https://minio:9000/b",
    ],
)
async def test_nobody_else_is_ever_shown_credentials(bucket: str) -> None:
    """Addresses come from a chain: a session token must not be had by registering one."""
    [found] = await by_place(bucket, instead=OWN).of(REFERENCE)
    assert [way.manner for way in found.ways()] == [""]


async def test_without_any_address_the_operators_bucket_stands_in() -> None:
    url = f"http://minio:9000/spare/{DIGEST}"
    assert await shown(by_place(instead=OWN)) == [[url, f"{url} with credentials"]]
    assert await shown(by_place()) == []


async def test_the_operators_bucket_stands_in_where_no_coprocessor_can_be_looked_up() -> None:
    assert await shown(by_place("unknown", instead=OWN)) == await shown(by_place(instead=OWN))
    with pytest.raises(Unreachable, match="looked up"):
        await shown(by_place("unknown"))


async def test_the_object_by_handle_carries_its_buckets_attestation() -> None:
    """Shadow mode takes it from there."""
    [found] = await both_forms("https://a/ct").of(REFERENCE)
    assert [form.attested_by for form in found.ways()] == ["https://a/ct", ""]


async def test_a_repr_shows_no_address() -> None:
    """It may hold a key in its user info or query."""
    [found] = await both_forms("https://user:secret@a").of(REFERENCE)
    source, _ = found.ways()
    assert "secret" not in repr(found) + repr(source) + source.shown

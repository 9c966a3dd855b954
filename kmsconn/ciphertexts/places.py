"""Where ciphertexts are: the addresses of their objects, the forms of a bucket's address, and which may be asked. Never does I/O.

Bucket addresses come from a chain, so they are strangers' input (options.md, safety). Those of the first generation are corrected where
the original was wrong (httpz-rc7.md, section 12, 11 to 13): a bucket in the host is not named in the path again, the operator's endpoint
counts where no address is known at all, an AWS address without a region is in ``us-east-1``.

Source: fhevm-0.14.md, 4.3; httpz-rc7.md, 4.3 to 4.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

import attrs

from kmsconn.ciphertexts.attestation import COPROCESSOR_CONTEXT_ID
from kmsconn.errors import Misconfigured
from kmsconn.transport.urls import DEFAULT_PORTS, Url, is_private_host, is_public_address, parse

USUAL_REGION = "us-east-1"
_AWS = ("amazonaws.com", "amazonaws.com.cn")
_S3 = re.compile(
    r"(?:[a-z0-9.-]+\.)?s3(?:-fips)?(?:[.-](?:dualstack\.)?[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2})?\.amazonaws\.com(?:\.cn)?"
)
"""S3's own hosts, with or without region and bucket. Anybody may have another name below amazonaws.com: machines, load balancers, APIs."""
_SHORTEST_WITH_BUCKET = 4  # labels of bucket.s3.amazonaws.com


@attrs.frozen
class ObjectPlace:
    """A bucket as S3 names it. ``endpoint`` is scheme, host and port; ``in_host`` says that its first label is the bucket."""

    region: str
    endpoint: str
    bucket: str
    in_host: bool = False

    def object_url(self, key: str) -> str:
        """Return where anybody may ask for an object."""
        return f"{self.endpoint}/{key}" if self.in_host else f"{self.endpoint}/{self.bucket}/{key}"

    @property
    def service(self) -> str:
        """The endpoint without the bucket, as an S3 client wants it."""
        scheme, _, host = self.endpoint.partition("://")
        return f"{scheme}://{host.partition('.')[2]}" if self.in_host else self.endpoint

    @property
    def is_s3(self) -> bool:
        """Whether this is S3 of AWS itself, over TLS: the only one beside the operator's own that is shown a signature."""
        url = parse(self.endpoint)
        return url.scheme == "https" and url.port == DEFAULT_PORTS["https"] and bool(_S3.fullmatch(url.host))


@attrs.frozen
class Substitute:
    """What an operator configured for buckets that cannot be found (``s3_config``)."""

    region: str
    bucket: str
    endpoint: str = ""

    @property
    def place(self) -> ObjectPlace | None:
        """The place where an address cannot be read; only an endpoint says where it is."""
        endpoint = self.endpoint.rstrip("/")
        return ObjectPlace(self.region, endpoint, self.bucket) if endpoint and self.bucket else None

    @property
    def only_place(self) -> ObjectPlace | None:
        """The place where no address is known at all: without an endpoint that of the region."""
        if not self.bucket:
            return None
        return self.place or ObjectPlace(self.region, f"https://s3.{self.region}.amazonaws.com", self.bucket)


def places(addresses: Iterable[str], instead: Substitute | None) -> list[ObjectPlace]:
    """Return where to look, each once: the addresses in their order, and what stands in for them (4.4)."""
    given = list(addresses)
    if not given:
        found = [instead.only_place if instead else None]
    else:
        spare = instead.place if instead else None
        found = [read_place(address) or spare for address in given]
    return list(dict.fromkeys(place for place in found if place is not None))


def read_place(address: str) -> ObjectPlace | None:
    """Read a bucket's address in one of its forms; None for everything else, and never an exception (4.3)."""
    try:
        url = parse(address)
    except ValueError:
        return None
    if url.scheme not in {"http", "https"}:
        return None
    segments = [segment for segment in url.path.split("/") if segment]
    return (_aws_place(url, segments) if _is_aws(url.host) else None) or _custom_place(url, segments)


def _is_aws(host: str) -> bool:
    return any(host.endswith(f".{domain}") for domain in _AWS)


def _aws_place(url: Url, segments: list[str]) -> ObjectPlace | None:
    labels = url.host.split(".")
    if len(labels) >= _SHORTEST_WITH_BUCKET and labels[1] == "s3":
        return ObjectPlace(_region(labels[2]), url.origin, labels[0], in_host=True)
    if labels[0] == "s3" and segments:
        return ObjectPlace(_region(labels[1]), url.origin, unquote(segments[0]))
    return None


def _region(label: str) -> str:
    return USUAL_REGION if label == "amazonaws" else label


def _custom_place(url: Url, segments: list[str]) -> ObjectPlace | None:
    if len(segments) == 1:
        return ObjectPlace(USUAL_REGION, url.origin, unquote(segments[0]))
    for number, segment in enumerate(segments[:-1]):
        if segment == "s3":
            rest = segments[number + 1 :]
            return ObjectPlace(rest[0], url.origin, unquote(rest[1])) if len(rest) > 1 else None
    return None


@attrs.frozen
class BucketPolicy:
    """What an operator allows beyond https to public addresses."""

    allow_http: bool = False
    allow_private: bool = False

    def check(self, url: str) -> None:
        """Raise Misconfigured for a bucket that must not be asked, naming the option that would allow it if one does."""
        try:
            parsed = parse(url)
        except ValueError as error:
            raise Misconfigured(f"a bucket's address cannot be used: {error}") from error
        if parsed.scheme != "https" and not (parsed.scheme == "http" and self.allow_http):
            raise Misconfigured(f"bucket {parsed.origin} is not https (allow_http_buckets)")
        if not self.allow_private and is_private_host(parsed.host):
            raise Misconfigured(f"bucket host {parsed.host} is a private address (allow_private_buckets)")

    def allows_address(self, address: str) -> bool:
        """Say whether an address that a bucket's name leads to may be dialled."""
        return self.allow_private or is_public_address(address)


def by_handle(bucket: str, handle: bytes) -> str:
    """Return the first-choice object: ``{bucket}/ct128/{handle}/1`` (4.3). Trailing slashes of the bucket are dropped."""
    return f"{bucket.rstrip('/')}/ct128/{handle.hex()}/{COPROCESSOR_CONTEXT_ID}"


def by_digest(bucket: str, digest: bytes) -> str:
    """Return the second-choice object: ``{bucket}/{digest}`` (4.3)."""
    return f"{bucket.rstrip('/')}/{digest.hex()}"

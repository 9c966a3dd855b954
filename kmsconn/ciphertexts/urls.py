"""Object addresses of a ciphertext, and which bucket addresses may be asked at all. Never does I/O.

Bucket addresses come from a chain, so they are strangers' input (options.md, safety).
"""

from __future__ import annotations

import attrs

from kmsconn.ciphertexts.attestation import COPROCESSOR_CONTEXT_ID
from kmsconn.errors import Misconfigured
from kmsconn.transport.addresses import is_private_host, is_public_address
from kmsconn.transport.urls import parse


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

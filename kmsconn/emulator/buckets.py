"""One coprocessor's bucket: objects with metadata, served like a public S3 bucket. Never faulty by itself.

Source: fhevm-0.14.md, 4.3-4.5.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from functools import partial

import attrs
import trio

from kmsconn.ciphertexts.attestation import (
    ATTESTATION_HEADER,
    COPROCESSOR_CONTEXT_ID,
    FORMAT_HEADER,
    StoredFormat,
)
from kmsconn.emulator.ciphertexts import EmulatedCiphertext, attest, attestation_header
from kmsconn.emulator.http import Handler, Headers, HttpRequest, HttpResponse, serve_http
from kmsconn.ethereum.signing import PrivateKey

XML = ("content-type", "application/xml")


class Form(Enum):
    """Under which key an object lies."""

    HANDLE = "ct128/{handle}/{context}"
    DIGEST = "{digest}"

    def key(self, ciphertext: EmulatedCiphertext) -> str:
        """Return the object's key."""
        return self.value.format(
            handle=ciphertext.handle.hex(), digest=ciphertext.digest.hex(), context=COPROCESSOR_CONTEXT_ID
        )


@attrs.frozen
class StoredObject:
    """A body and its metadata headers."""

    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    headers: Headers = ()


@attrs.define(eq=False)
class EmulatedBucket:
    """Objects under ``{prefix}/{key}``; every knob may be changed at any time."""

    prefix: str = ""
    """The path of the bucket's URL, without a slash at its end."""
    objects: dict[str, StoredObject] = attrs.field(factory=dict, repr=False)
    latency: float = 0.0
    """Seconds before an answer begins."""
    counts: Counter[tuple[str, int]] = attrs.field(factory=Counter, init=False)
    """(method, status) → times."""

    def put(self, key: str, body: bytes, headers: Headers = ()) -> None:
        """Store an object."""
        self.objects[key] = StoredObject(body, headers)

    def publish(
        self,
        ciphertext: EmulatedCiphertext,
        *,
        signer: PrivateKey | None,
        key_id: int,
        stored: StoredFormat = StoredFormat.UNCOMPRESSED_ON_CPU,
        forms: tuple[Form, ...] = (Form.HANDLE,),
    ) -> None:
        """Store a ciphertext with its attestation, or, without a signer, with its format only."""
        headers = ((FORMAT_HEADER, stored.name.lower()),)
        if signer is not None:
            attestation = attest(ciphertext, key_id=key_id, stored=stored, signer=signer)
            headers = ((ATTESTATION_HEADER, attestation_header(attestation)),)
        for form in forms:
            self.put(form.key(ciphertext), ciphertext.body, headers)

    def key_of(self, request: HttpRequest) -> str | None:
        """Return the key that a request asks for, or None outside of the bucket."""
        prefix = f"{self.prefix}/"
        return request.path.removeprefix(prefix) if request.path.startswith(prefix) else None

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer GET and HEAD; everything else is refused as S3 does."""
        await trio.sleep(self.latency)
        response = self._answer(request)
        self.counts[request.method, response.status] += 1
        return response

    def _answer(self, request: HttpRequest) -> HttpResponse:
        if request.method not in {"GET", "HEAD"}:
            return error(405, "MethodNotAllowed")
        stored = self.objects.get(self.key_of(request) or "")
        if stored is None:
            return error(404, "NoSuchKey")
        headers = (("content-type", "application/octet-stream"), *stored.headers)
        return HttpResponse(200, headers, stored.body)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection of a network."""
        await serve_bucket(self.handle, stream)


async def serve_bucket(handler: Handler, stream: trio.abc.Stream) -> None:
    """Serve one connection of a bucket, honest or faulty."""
    await partial(serve_http, max_body=0)(stream, handler)


def error(status: int, code: str) -> HttpResponse:
    """Return an S3 error document."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>'
    )
    return HttpResponse(status, (XML,), body.encode())

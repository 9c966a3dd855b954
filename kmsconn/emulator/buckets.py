"""One coprocessor's bucket: objects with metadata, served like a public S3 bucket. Never faulty by itself.

Source: fhevm-0.14.md, 4.3-4.5.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from functools import partial
from urllib.parse import unquote

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


class ObjectForm(Enum):
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
    """Objects under ``{prefix}/{key}``, and under ``/{key}`` of a host that begins with the bucket's name.

    Every knob may be changed at any time.
    """

    prefix: str = ""
    """The path of the bucket's URL, without a slash at its end; its last part is the bucket's name."""
    objects: dict[str, StoredObject] = attrs.field(factory=dict, repr=False)
    public: bool = True
    """Whether anybody may read objects."""
    listed: bool = True
    """Whether anybody may know which objects there are. If not, a key that is not there is forbidden, not missing."""
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
        forms: tuple[ObjectForm, ...] = (ObjectForm.HANDLE,),
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
        path, prefix = unquote(request.path), f"{self.prefix}/"
        name = self.prefix.rpartition("/")[2]
        if name and (request.header("host") or "").startswith(f"{name}."):
            return path.removeprefix("/")
        return path.removeprefix(prefix) if path.startswith(prefix) else None

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer GET and HEAD of somebody without credentials; everything else is refused as S3 does."""
        await trio.sleep(self.latency)
        response = self._answer(request)
        self.counts[request.method, response.status] += 1
        return response

    def _answer(self, request: HttpRequest) -> HttpResponse:
        key = self.key_of(request)
        if key is None:
            return error(404, "NoSuchBucket")
        stored = self.objects.get(key)
        if request.method not in {"GET", "HEAD"} or not self.public:
            return error(403, "AccessDenied")
        if stored is None:
            return error(404, "NoSuchKey") if self.listed else error(403, "AccessDenied")
        return HttpResponse(200, (("content-type", "binary/octet-stream"), *stored.headers), stored.body)

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

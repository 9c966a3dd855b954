"""What a decryption over HTTP comes to: its answer, or a code with its HTTP status and whether the same request may be repeated. Pure.

Source: fhevm-0.15.md, 5.5 and 5.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Protocol, Self

import attrs

from kmsconn.errors import KmsconnError
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Content


class FailureCode(StrEnum):
    """What a client reads of why it gets no answer: with its HTTP status, and whether the request may be repeated (5.6).

    A failure may say otherwise of the latter. The status of an unsupported attestation type is inferred, not seen.
    """

    MALFORMED = "malformed", HTTPStatus.BAD_REQUEST, False
    UNSUPPORTED_ATTESTATION_TYPE = "unsupported_attestation_type", HTTPStatus.BAD_REQUEST, False
    SENDER_AUTHENTICATION_FAILED = "sender_authentication_failed", HTTPStatus.UNAUTHORIZED, False
    ACL_DENIED = "acl_denied", HTTPStatus.FORBIDDEN, True
    USER_SIGNATURE_REJECTED = "user_signature_rejected", HTTPStatus.FORBIDDEN, True
    CIPHERTEXT_NOT_FOUND = "ciphertext_not_found", HTTPStatus.NOT_FOUND, True
    KMS_CONTEXT_DESTROYED = "kms_context_destroyed", HTTPStatus.GONE, False
    KMS_CONTEXT_INVALID = "kms_context_invalid", HTTPStatus.PRECONDITION_FAILED, True
    UNPROCESSABLE = "unprocessable", HTTPStatus.UNPROCESSABLE_ENTITY, False
    RATE_LIMITED = "rate_limited", HTTPStatus.TOO_MANY_REQUESTS, True
    COPRO_CONSENSUS_FAILED = "copro_consensus_failed", HTTPStatus.BAD_GATEWAY, True
    UPSTREAM_TRANSIENT = "upstream_transient", HTTPStatus.BAD_GATEWAY, True
    OVERLOADED = "overloaded", HTTPStatus.SERVICE_UNAVAILABLE, True
    TIMEOUT = "timeout", HTTPStatus.GATEWAY_TIMEOUT, True
    UNKNOWN = "unknown", HTTPStatus.INTERNAL_SERVER_ERROR, True

    status: HTTPStatus
    retryable: bool

    def __new__(
        cls, slug: str, status: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR, retryable: bool = True
    ) -> Self:
        """Make a code, or find one by its slug."""
        made = str.__new__(cls, slug)
        made._value_, made.status, made.retryable = slug, status, retryable
        return made


class HttpFailure(KmsconnError):  # noqa: N818 - what a client gets, not a fault of the program
    """A decryption over HTTP has no answer for its client: a code, a sentence, and whether the same request may be repeated.

    ``retryable`` None: as the code has it. ``decryption_id`` is known once the body was read.
    """

    def __init__(
        self,
        code: FailureCode,
        message: str,
        *,
        retryable: bool | None = None,
        decryption_id: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.decryption_id = code, message, decryption_id
        self.retryable = code.retryable if retryable is None else retryable

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status of its code."""
        return self.code.status

    def document(self) -> dict[str, str | bool]:
        """Return the body of the error response, to be written as JSON (5.6)."""
        body: dict[str, str | bool] = {
            "code": self.code.value,
            "message": self.message,
            "retryable": self.retryable,
        }
        if self.decryption_id is not None:
            body["decryptionId"] = f"0x{id_hex(self.decryption_id)}"
        return body


@attrs.frozen
class HttpResult:
    """The answer to a decryption over HTTP. ``fields`` are those of the response's body, by their names there, in order."""

    decryption_id: int
    fields: Mapping[str, bytes]

    def document(self) -> dict[str, str]:
        """Return the body of the response, to be written as JSON (5.5)."""
        named = {name: to_hex(value) for name, value in self.fields.items()}
        return {"decryptionId": f"0x{id_hex(self.decryption_id)}", **named}


class Decryptions(Protocol):
    """Decrypts what HTTP requests ask for."""

    async def decrypt(self, content: Content) -> HttpResult:
        """Return this node's answer as soon as there is one, however long that takes.

        Raises HttpFailure once the request has ended without an answer. Cancellation: the client has left or waits no longer; the work
        goes on. Repeating: the same content waits for the same work, or has its answer at once.
        """
        ...

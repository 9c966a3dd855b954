"""What a decryption over HTTP comes to: its answer, or a code with its HTTP status and whether the same request may be repeated. Pure.

Source: fhevm-0.15.md, 5.5 and 5.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Protocol

import attrs

from kmsconn.errors import KmsconnError
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Content


class FailureCode(StrEnum):
    """What a client reads of why it gets no answer."""

    MALFORMED = "malformed"
    UNSUPPORTED_ATTESTATION_TYPE = "unsupported_attestation_type"
    SENDER_AUTHENTICATION_FAILED = "sender_authentication_failed"
    ACL_DENIED = "acl_denied"
    USER_SIGNATURE_REJECTED = "user_signature_rejected"
    CIPHERTEXT_NOT_FOUND = "ciphertext_not_found"
    KMS_CONTEXT_DESTROYED = "kms_context_destroyed"
    KMS_CONTEXT_INVALID = "kms_context_invalid"
    UNPROCESSABLE = "unprocessable"
    RATE_LIMITED = "rate_limited"
    COPRO_CONSENSUS_FAILED = "copro_consensus_failed"
    UPSTREAM_TRANSIENT = "upstream_transient"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"


@attrs.frozen
class CodeMeaning:
    """The HTTP status of a code, and whether a client may repeat its request unless the failure says otherwise."""

    status: HTTPStatus
    retryable: bool


MEANINGS: Mapping[FailureCode, CodeMeaning] = {
    FailureCode.MALFORMED: CodeMeaning(HTTPStatus.BAD_REQUEST, retryable=False),
    FailureCode.UNSUPPORTED_ATTESTATION_TYPE: CodeMeaning(HTTPStatus.BAD_REQUEST, retryable=False),
    FailureCode.SENDER_AUTHENTICATION_FAILED: CodeMeaning(HTTPStatus.UNAUTHORIZED, retryable=False),
    FailureCode.ACL_DENIED: CodeMeaning(HTTPStatus.FORBIDDEN, retryable=True),
    FailureCode.USER_SIGNATURE_REJECTED: CodeMeaning(HTTPStatus.FORBIDDEN, retryable=True),
    FailureCode.CIPHERTEXT_NOT_FOUND: CodeMeaning(HTTPStatus.NOT_FOUND, retryable=True),
    FailureCode.KMS_CONTEXT_DESTROYED: CodeMeaning(HTTPStatus.GONE, retryable=False),
    FailureCode.KMS_CONTEXT_INVALID: CodeMeaning(HTTPStatus.PRECONDITION_FAILED, retryable=True),
    FailureCode.UNPROCESSABLE: CodeMeaning(HTTPStatus.UNPROCESSABLE_ENTITY, retryable=False),
    FailureCode.RATE_LIMITED: CodeMeaning(HTTPStatus.TOO_MANY_REQUESTS, retryable=True),
    FailureCode.COPRO_CONSENSUS_FAILED: CodeMeaning(HTTPStatus.BAD_GATEWAY, retryable=True),
    FailureCode.UPSTREAM_TRANSIENT: CodeMeaning(HTTPStatus.BAD_GATEWAY, retryable=True),
    FailureCode.OVERLOADED: CodeMeaning(HTTPStatus.SERVICE_UNAVAILABLE, retryable=True),
    FailureCode.TIMEOUT: CodeMeaning(HTTPStatus.GATEWAY_TIMEOUT, retryable=True),
    FailureCode.UNKNOWN: CodeMeaning(HTTPStatus.INTERNAL_SERVER_ERROR, retryable=True),
}
"""Each code's status and default flag (5.6). The status of an unsupported attestation type is inferred, not seen."""


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
        self.retryable = MEANINGS[code].retryable if retryable is None else retryable

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status of its code."""
        return MEANINGS[self.code].status

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

"""Writes docs/reference/http-api.json, the OpenAPI document of decryption over HTTP.

It is made from the routes and from the table of codes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn import __version__
from kmsconn.model.http_answers import FailureCode
from kmsconn.protocols.fhevm.http_decryption import ATTESTATION_TYPE, LATEST_TIME
from kmsconn.serving.decryptions import API_VERSION, PUBLIC_PATH, USER_PATH, VERSION_PATHS

TARGET: Final = Path(__file__).parent.parent / "docs" / "reference" / "http-api.json"

Document = dict[str, Any]


@attrs.frozen
class PostedBody:
    """What is posted to a path: in words, the name of its schema, and the field of the answer that holds the decryption."""

    summary: str
    request: str
    result: str


POSTED: Final = {
    PUBLIC_PATH: PostedBody("Reveal values to everybody", "PublicDecryptionRequest", "decryptedResult"),
    USER_PATH: PostedBody(
        "Reveal values to one user, under the user's permit", "UserDecryptionRequest", "userDecryptedShares"
    ),
}
"""By path."""

_CODES: Final = {
    FailureCode.MALFORMED: "The body cannot be read, is too large, or asks for more than is served",
    FailureCode.UNSUPPORTED_ATTESTATION_TYPE: "`attestationType` is not known",
    FailureCode.SENDER_AUTHENTICATION_FAILED: "The API key is missing or not known",
    FailureCode.ACL_DENIED: "The host chain's ACL does not allow the decryption, at present",
    FailureCode.USER_SIGNATURE_REJECTED: "The user's signature or its window is not valid",
    FailureCode.CIPHERTEXT_NOT_FOUND: "No bucket has a ciphertext, at present",
    FailureCode.KMS_CONTEXT_DESTROYED: "The context or epoch of `extraData` was destroyed",
    FailureCode.KMS_CONTEXT_INVALID: "The context or epoch of `extraData` is not valid, at present",
    FailureCode.UNPROCESSABLE: "The request can never be answered",
    FailureCode.RATE_LIMITED: "The API key has used up its limit; see `Retry-After`",
    FailureCode.COPRO_CONSENSUS_FAILED: "The coprocessors' attestations of a ciphertext disagree",
    FailureCode.UPSTREAM_TRANSIENT: "The Core refuses or does not answer, or a chain or the journal does not",
    FailureCode.OVERLOADED: "Too many clients wait for an answer; see `Retry-After`",
    FailureCode.TIMEOUT: "There is no answer yet; the same request attaches to the work on it",
    FailureCode.UNKNOWN: "An unexpected error",
}

_NEVER_AT_VERSION: Final = frozenset(FailureCode) - {
    FailureCode.SENDER_AUTHENTICATION_FAILED,
    FailureCode.RATE_LIMITED,
    FailureCode.UNKNOWN,
}


def document() -> Document:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Decryption over HTTP",
            "version": API_VERSION,
            "description": f"What kmsconn {__version__} serves at `http_endpoint`.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"apiKey": []}, {}],
        "paths": {
            **{path: {"post": _post(posted)} for path, posted in POSTED.items()},
            **{path: {"get": _version()} for path in VERSION_PATHS},
        },
        "components": {
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of `api_keys_file` or `api_key_digest`, where keys are configured.",
                }
            },
            "schemas": _schemas(),
        },
    }


def _post(route: PostedBody) -> Document:
    return {
        "summary": route.summary,
        "description": "Waits for the answer. The same body is the same decryption: a repeated request attaches to the work on it, or has "
        "its answer at once.",
        "requestBody": {"required": True, "content": _json(_schema_of(route.request))},
        "responses": {
            "200": {"description": "The answer", "content": _json(_answer(route))},
            **_failures(frozenset(FailureCode)),
            "408": {"description": "The body has not come in time; the answer has no body"},
        },
    }


def _version() -> Document:
    answer = _object({"version": {"const": API_VERSION}})
    return {
        "summary": "The version of this API",
        "responses": {
            "200": {"description": "The version", "content": _json(answer)},
            **_failures(frozenset(FailureCode) - _NEVER_AT_VERSION),
        },
    }


def _answer(route: PostedBody) -> Document:
    octets = _schema_of("Bytes")
    return _object(
        {
            "decryptionId": _schema_of("Bytes32"),
            route.result: octets,
            "signature": octets,
            "extraData": octets,
        }
    )


def _failures(codes: frozenset[FailureCode]) -> Document:
    """Return the responses by status; several codes may share one."""
    by_status: dict[int, list[FailureCode]] = {}
    for code in FailureCode:
        if code in codes:
            by_status.setdefault(code.status, []).append(code)
    return {
        str(int(status)): {
            "description": "; ".join(f"`{code}`: {_CODES[code]}" for code in several),
            "content": _json(_schema_of("Failure")),
        }
        for status, several in sorted(by_status.items())
    }


def _json(schema: Document) -> Document:
    return {"application/json": {"schema": schema}}


def _schema_of(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Document, required: list[str] | None = None) -> Document:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _list_of(schema: Document, **limits: int) -> Document:
    return {"type": "array", "items": schema, **limits}


def _hex(octets: str, description: str) -> Document:
    return {"type": "string", "pattern": f"^(0x)?{octets}$", "description": description}


def _schemas() -> Document:
    octets, word, address = _schema_of("Bytes"), _schema_of("Bytes32"), _schema_of("Address")
    time = {"type": "integer", "minimum": 0, "maximum": LATEST_TIME}
    handle = _object({"handle": word, "contractAddress": address, "ownerAddress": address})
    payload = _object(
        {
            "handles": _list_of(handle, minItems=1),
            "userAddress": address,
            "publicKey": octets,
            "allowedContracts": _list_of(address),
            "requestValidity": _object({"startTimestamp": time, "durationSeconds": time}),
            "extraData": octets,
        }
    )
    failure = {
        "code": {"enum": [code.value for code in FailureCode]},
        "message": {"type": "string"},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later"},
        "decryptionId": word,
    }
    return {
        "Bytes": _hex("([0-9a-fA-F]{2})*", "Bytes as hex"),
        "Bytes32": _hex("[0-9a-fA-F]{64}", "32 bytes as hex"),
        "Address": _hex("[0-9a-fA-F]{40}", "An address, in any case of letters"),
        "PublicDecryptionRequest": _object({"ctHandles": _list_of(word, minItems=1), "extraData": octets}),
        "UserDecryptionRequest": _object(
            {"attestationType": {"const": ATTESTATION_TYPE}, "payload": payload, "signature": octets}
        ),
        "Failure": _object(failure, ["code", "message", "retryable"]),
    }


def text() -> str:
    """Return the text of the file."""
    return json.dumps(document(), indent=2) + "\n"


def files() -> dict[Path, str]:
    """Return the file with its text."""
    return {TARGET: text()}

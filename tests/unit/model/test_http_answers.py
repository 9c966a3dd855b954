"""The codes of decryption over HTTP, and the two bodies that clients read (fhevm-0.15.md, 5.5 and 5.6)."""

from __future__ import annotations

import pytest

from kmsconn.model.http_answers import MEANINGS, FailureCode, HttpFailure, HttpResult

TABLE = {
    "malformed": (400, False),
    "unsupported_attestation_type": (400, False),
    "sender_authentication_failed": (401, False),
    "acl_denied": (403, True),
    "user_signature_rejected": (403, True),
    "ciphertext_not_found": (404, True),
    "kms_context_destroyed": (410, False),
    "kms_context_invalid": (412, True),
    "unprocessable": (422, False),
    "rate_limited": (429, True),
    "copro_consensus_failed": (502, True),
    "upstream_transient": (502, True),
    "overloaded": (503, True),
    "timeout": (504, True),
    "unknown": (500, True),
}


def test_each_code_has_the_status_and_the_flag_of_the_specification() -> None:
    assert {code.value: (int(one.status), one.retryable) for code, one in MEANINGS.items()} == TABLE


@pytest.mark.parametrize("code", FailureCode)
def test_a_failure_has_the_flag_of_its_code(code: FailureCode) -> None:
    failure = HttpFailure(code, "why")
    assert (failure.status, failure.retryable) == (MEANINGS[code].status, MEANINGS[code].retryable)


def test_a_failure_without_an_id_has_three_fields() -> None:
    assert HttpFailure(FailureCode.MALFORMED, "why").document() == {
        "code": "malformed",
        "message": "why",
        "retryable": False,
    }


def test_the_flag_of_a_failure_may_differ_from_its_codes() -> None:
    failure = HttpFailure(FailureCode.USER_SIGNATURE_REJECTED, "over", retryable=False, decryption_id=5)
    assert failure.document() == {
        "code": "user_signature_rejected",
        "message": "over",
        "retryable": False,
        "decryptionId": "0x" + "5".zfill(64),
    }


def test_a_result_has_its_id_first_and_its_bytes_in_hex() -> None:
    result = HttpResult(0xAB, {"decryptedResult": b"\x01\x02", "signature": b"", "extraData": b"\x00"})
    assert list(result.document().items()) == [
        ("decryptionId", "0x" + "ab".zfill(64)),
        ("decryptedResult", "0x0102"),
        ("signature", "0x"),
        ("extraData", "0x00"),
    ]

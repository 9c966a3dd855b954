"""What HTTP answers say, names of profiles, ids of traces."""

from __future__ import annotations

from hashlib import sha256

import pytest

from kmsconn.model.http_answers import FailureCode, HttpFailure, HttpResult
from kmsconn.model.requests import PROFILE_ALIASES, PROFILES, Kind, TraceContext, profile_named, trace_of

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
    assert {code.value: (int(code.status), code.retryable) for code in FailureCode} == TABLE


@pytest.mark.parametrize("code", FailureCode)
def test_a_failure_has_the_flag_of_its_code(code: FailureCode) -> None:
    failure = HttpFailure(code, "why")
    assert (failure.status, failure.retryable) == (code.status, code.retryable)


def test_the_document_of_a_failure_names_its_decryption_and_its_flag_may_differ() -> None:
    malformed = {"code": "malformed", "message": "why", "retryable": False}
    assert HttpFailure(FailureCode.MALFORMED, "why").document() == malformed
    failure = HttpFailure(FailureCode.USER_SIGNATURE_REJECTED, "over", retryable=False, decryption_id=5)
    told = {"code": "user_signature_rejected", "message": "over", "retryable": False}
    assert failure.document() == {**told, "decryptionId": "0x" + "5".zfill(64)}


def test_a_result_has_its_id_first_and_its_bytes_in_hex() -> None:
    result = HttpResult(0xAB, {"decryptedResult": b"\x01\x02", "signature": b"", "extraData": b"\x00"})
    assert list(result.document().items()) == [
        ("decryptionId", "0x" + "ab".zfill(64)),
        ("decryptedResult", "0x0102"),
        ("signature", "0x"),
        ("extraData", "0x00"),
    ]


def test_a_profile_is_meant_by_its_name_or_an_alias_alone() -> None:
    assert {profile_named(f" {alias.upper()}") for alias in PROFILE_ALIASES} == {"fhevm"}
    assert [profile_named(name) for name in PROFILES] == [*PROFILES]
    with pytest.raises(ValueError, match=r"must be fhevm or httpz-rc7, not 'fhevm-0\.16'"):
        profile_named("fhevm-0.16")


PUBLIC = Kind.PUBLIC_DECRYPTION


def test_an_operator_can_compute_the_trace_id_with_sha256sum() -> None:
    said = f"kmsconn:10901:public_decryption:{7:064x}".encode()
    assert trace_of(10901, PUBLIC, 7).trace_hex == sha256(said).hexdigest()[:32]


def test_another_id_kind_or_deployment_is_another_trace() -> None:
    traces = {
        trace_of(10901, PUBLIC, 7),
        trace_of(10901, PUBLIC, 8),
        trace_of(10901, Kind.USER_DECRYPTION, 7),
        trace_of(10902, PUBLIC, 7),
    }
    assert len({trace.trace_id for trace in traces}) == len({trace.span_id for trace in traces}) == 4


def test_the_header_has_the_form_of_w3c_trace_context() -> None:
    trace = TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)
    assert trace.traceparent(sampled=True) == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert trace.traceparent(sampled=False).endswith("-00")

"""What shadow mode finds becomes an alert for an hour."""

from __future__ import annotations

from kmsconn.connector.shadowing import MEMORY, ShadowFindings
from kmsconn.model.events import ReplyCompared, ReplyMissing, ReplyUnmatched
from kmsconn.model.life import State
from kmsconn.model.requests import Kind

KIND = Kind.PUBLIC_DECRYPTION


def compared(likeness: str) -> ReplyCompared:
    return ReplyCompared(1, KIND, likeness, 0.5, 9, bytes(32), 163, "decryptedResult", "0x05", "0x06", id=7)


def test_a_difference_names_request_byte_and_argument() -> None:
    """Everything to find it in the log."""
    findings = ShadowFindings()
    findings.note(compared("different"), 0.0)
    [alert] = findings.alerts(1.0)
    assert (alert.dependency, alert.cause, alert.count) == ("shadow", "replies-differ", 1)
    assert alert.text.endswith(f"request 0x{7:064x} at byte 163 in decryptedResult, 0x05 here and 0x06 there")


def test_equal_and_recomputed_replies_raise_nothing() -> None:
    """Shares that were encrypted twice differ by right."""
    findings = ShadowFindings()
    findings.note(compared("equal"), 0.0)
    findings.note(compared("recomputed"), 0.0)
    assert list(findings.alerts(1.0)) == []


def test_findings_are_told_for_an_hour() -> None:
    """The last one counts."""
    findings = ShadowFindings()
    findings.note(compared("different"), 0.0)
    findings.note(compared("different"), 10.0)
    assert [alert.count for alert in findings.alerts(MEMORY)] == [2]
    assert [alert.count for alert in findings.alerts(MEMORY + 5)] == [1]
    assert list(findings.alerts(MEMORY + 11)) == []


def test_each_cause_has_an_alert_of_its_own() -> None:
    """They call for different remedies."""
    findings = ShadowFindings()
    findings.note(ReplyUnmatched(1, KIND, State.REJECTED, "no right", id=7), 0.0)
    findings.note(ReplyMissing(2, KIND, 86_400.0, id=8), 0.0)
    texts = {alert.cause: alert.text for alert in findings.alerts(1.0)}
    assert set(texts) == {"replies-unmatched", "replies-missing"}
    assert "is rejected here: no right" in texts["replies-unmatched"]

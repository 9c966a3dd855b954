"""Transitions, and an audit log in a folder, for the tests of the audit log."""

from __future__ import annotations

from pathlib import Path

from kmsconn.journal.audit import AuditFile
from kmsconn.journal.outbox import Transition, TransitionReply, TransitionSubject

ORIGIN = {"version": "0.1.0", "profile": "fhevm", "chain": 10901, "sender": "0x01"}


NO_REPLY = TransitionReply()


def happened(
    seq: int,
    state: str = "answered",
    kind: str = "public_decryption",
    reason: str = "",
    reply: TransitionReply = NO_REPLY,
) -> Transition:
    """Return a transition with this number."""
    subject = TransitionSubject(seq, kind, seq.to_bytes(32, "big"), 10901, b"\x05" * 20, 55, b"\x03" * 32)
    return Transition(seq, 1000.0 + seq, "pending", state, reason, subject, reply)


def audit_file(path: Path, rotated_size: int = 1 << 30) -> AuditFile:
    """Return a log that is not open."""
    return AuditFile(path, ORIGIN, lambda: 2000.0, rotated_size)


def make_log(path: Path, *seqs: int) -> None:
    """Write a log with these transitions."""
    file = audit_file(path)
    file.open(None)
    file.append([happened(seq) for seq in seqs])
    file.close()

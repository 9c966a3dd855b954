"""Transitions, and an audit log in a folder, for the tests of the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmsconn.journal.audit import AuditFile, Transition

ORIGIN = {"version": "0.1.0", "profile": "fhevm", "chain": 10901, "sender": "0x01"}


def happened(
    seq: int, state: str = "answered", kind: str = "public_decryption", reason: str = "", **reply: Any
) -> Transition:
    """Return a transition with this number."""
    subject = {
        "row": seq,
        "kind": kind,
        "id": seq.to_bytes(32, "big"),
        "chain": 10901,
        "contract": b"\x05" * 20,
    }
    place = {"block": 55, "transaction": b"\x03" * 32, "nonce": None, "reply": None, "included": None}
    steps = {"from": "pending", "to": state, "reason": reason}
    return {"seq": seq, "at": 1000.0 + seq, **subject, **steps, **place, **reply}


def audit_file(path: Path, rotated_size: int = 1 << 30) -> AuditFile:
    """Return a log that is not open."""
    return AuditFile(path, ORIGIN, lambda: 2000.0, rotated_size)


def make_log(path: Path, *seqs: int) -> None:
    """Write a log with these transitions."""
    file = audit_file(path)
    file.open(None)
    file.append([happened(seq) for seq in seqs])
    file.close()

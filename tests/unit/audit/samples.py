"""Transitions, and an audit log in a folder, for the tests of the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmsconn.audit.log_file import AuditFile
from kmsconn.journal.outbox import Transition

ORIGIN = {"version": "0.1.0", "profile": "fhevm-0.14", "chain": 10901, "sender": "0x01"}


def happened(seq: int, **changes: Any) -> Transition:
    """Return a transition with this number."""
    values: dict[str, Any] = {
        "seq": seq, "at": 1000.0 + seq, "rid": seq, "kind": "public_decryption", "id": seq.to_bytes(32, "big"),
        "chain_id": 10901, "contract": b"\x05" * 20, "old_state": "pending", "state": "answered", "block": 55,
        "transaction_hash": b"\x03" * 32, "nonce": None, "reply_hash": None, "included_block": None, "reason": "",
    }  # fmt: skip
    return Transition(**(values | changes))


def audit_file(path: Path, rotated_size: int = 1 << 30) -> AuditFile:
    """Return a log that is not open."""
    return AuditFile(path, ORIGIN, lambda: 2000.0, rotated_size)


def make_log(path: Path, *seqs: int) -> None:
    """Write a log with these transitions."""
    file = audit_file(path)
    file.open(None)
    file.append([happened(seq) for seq in seqs])
    file.close()

"""A snapshot of a connector and one event of each type, for the tests of monitoring."""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.ethereum.addresses import Address
from kmsconn.journal.members import MemberRow
from kmsconn.journal.queries import Counts
from kmsconn.model import events
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.replies.state import TxStatistics
from kmsconn.requests.snapshot import (
    ChainStatistics,
    CiphertextStatistics,
    JournalStatistics,
    QueueStatistics,
    Statistics,
)

CONTRACT = Address(bytes(19) + b"\x05")
PUBLIC, USER = Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION

EACH = (
    events.RequestRecorded(1, PUBLIC, (1 << 248) | 7, 10901, 55, b"\x03" * 32, 2),
    events.RequestsMoved(10901, 1, 0, 2),
    events.ChainReorganised(10901, 1000, 306, 6),
    events.LogQuarantined(10901, CONTRACT, 55, 3, "short data", USER),
    events.UnknownRequestsHeard(10901, CONTRACT, PUBLIC, b"\x04" * 32, 3, 55),
    events.CursorMoved(10901, CONTRACT, 50, 55),
    events.BackfillProgressed(10901, CONTRACT, 400, 1000),
    events.StageFinished(1, PUBLIC, "check", 0.03),
    events.StageFailed(1, PUBLIC, "check", "denied"),
    events.RequestDeferred(1, PUBLIC, "submit", "refused", 2.5),
    events.RequestClosed(2, USER, State.REJECTED, "malformed handle"),
    events.AnswerKept(1, PUBLIC, 0.4),
    events.AnswerMismatch(1, USER, "its link is another's"),
    events.ReplySigned(1, PUBLIC, 9, b"\x01" * 32),
    events.ReplySent(1, PUBLIC, 9, 0.02),
    events.ReplyIncluded(1, PUBLIC, 60, 1.4),
    events.ReplyFinalized(1, PUBLIC),
    events.ForeignTransaction("gateway", 9, b"\x02" * 32, 60),
    events.ReplyReturned(1, PUBLIC, State.ANSWERED, "status 0"),
    events.ReplyCompared(1, PUBLIC, "different", 0.5, 9, bytes(32), 163, "decryptedResult", "0x05", "0x06"),
    events.ReplyUnmatched(1, PUBLIC, State.REJECTED, "no right"),
    events.ReplyMissing(1, PUBLIC, 86_400.0),
    events.CiphertextMismatch(b"\x02" * 32, "other bytes"),
    events.AttestationMismatch(b"\x02" * 32, "no quorum"),
    events.HttpAnswered("/v1/public-decrypt", 200, "ok", "relayer-1", 0.4, id=5),
    events.AlertRaised("gateway", "unreachable", "refused", events.Severity.CRITICAL),
    events.AlertCleared("gateway", "unreachable"),
)


COUNTS = Counts(
    states={(PUBLIC, State.PENDING): 5, (PUBLIC, State.SIGNED): 2, (USER, State.QUARANTINED): 1},
    deferred={PUBLIC: 2},
    oldest={PUBLIC: 12.5},
    off_chain=1,
    quarantined_logs=4,
    deleted={(PUBLIC, State.FINALIZED): 7},
    answerable={PUBLIC: 3.5},
)


SNAPSHOT = Statistics(
    ready=True,
    draining=False,
    queue=QueueStatistics(
        counts=COUNTS,
        busy={"public_decryption": 3, "user_decryption": 0},
        places={"public_decryption": 128, "user_decryption": 128},
        gaps=2,
    ),
    chains={
        "gateway": ChainStatistics(55, 1_700_000_000.0, 0.5),
        "ethereum": ChainStatistics(head_age=6.0, finalized_age=800.0, reconnects=2),
    },
    cursors={"gateway": 50},
    ciphertexts=CiphertextStatistics(
        bytes_held=4096,
        fetched=9,
        bucket_attempts={"https://a": 10, "https://b": 1},
        bucket_failures={"https://a": 4},
        attestations_skipped=3,
    ),
    transactions={"gateway": TxStatistics(3 * 10**18, 41, 2, 5, 1, 10**9, None, 10**15)},
    journal=JournalStatistics(
        1 << 30,
        (
            MemberRow(7, "kmsconn@a", frozenset({"hear", "send"}), 0.0, 0.5, {"lease": "5s"}, ("upkeep",)),
            MemberRow(8, "kmsconn@b", frozenset({"work"}), 0.0, 0.25, {}, ("audit",)),
        ),
        token=7,
    ),
)
"""What ``Connector.statistics()`` gives."""


def snapshot(**changes: Any) -> Statistics:
    """Return a snapshot with changes."""
    return attrs.evolve(SNAPSHOT, **changes)

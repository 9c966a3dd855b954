"""What a connector does with its requests, as rows for an onlooker, from its events and the chain. Decides and prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import attrs
import trio

from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.load import Ledger
from kmsconn.model.events import (
    AnswerKept,
    Event,
    ReplyIncluded,
    ReplyReturned,
    ReplySent,
    ReplySigned,
    RequestClosed,
    RequestDeferred,
    RequestRecorded,
    StageFinished,
)
from kmsconn.model.life import State
from kmsconn.model.requests import Kind


class ProgressStage(IntEnum):
    """How far a request is."""

    PENDING = 0
    CHECKED = 1
    GATHERED = 2
    SUBMITTED = 3
    ANSWERED = 4
    SIGNED = 5
    SENT = 6
    INCLUDED = 7


_AFTER = {"check": ProgressStage.CHECKED, "gather": ProgressStage.GATHERED, "submit": ProgressStage.SUBMITTED}
_DECRYPTIONS = {Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION}
_WELL = {State.DONE, State.ABORTED}
_RETURNED = {
    State.ANSWERED: ProgressStage.ANSWERED,
    State.SIGNED: ProgressStage.SIGNED,
    State.PENDING: ProgressStage.PENDING,
}


@attrs.define
class ProgressRow:
    """One request. ``note`` says why it waits, or why it ended without a reply (``closed``; ``well``: as it should). Times are Trio's."""

    rid: int
    kind: Kind
    id: int
    stage: ProgressStage = ProgressStage.PENDING
    note: str = ""
    closed: bool = False
    well: bool = False
    began: float = 0.0
    ended: float | None = None

    @property
    def is_decryption(self) -> bool:
        """Whether it is one of the requests that totals count; the others manage keys."""
        return self.kind in _DECRYPTIONS

    @property
    def is_at_work(self) -> bool:
        """Whether it has neither ended nor its reply on chain."""
        return not self.closed and self.stage is not ProgressStage.INCLUDED


@attrs.frozen
class Totals:
    """How many requests are how far. ``answered`` counts the durable answers of the Core, ``included`` the replies on the chain."""

    requested: int
    seen: int
    answered: int
    included: int
    failed: int
    doubled: int


class ProgressTable:
    """Takes the events of one connector, as ``on_event``; knows forms from the ledger and latencies from the ground truth."""

    def __init__(
        self, ground_truth: GroundTruth, ledger: Ledger, *, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self.rows: dict[int, ProgressRow] = {}
        """By journal row, oldest first."""
        self._ground_truth, self._ledger, self._clock = ground_truth, ledger, clock
        self._answered: set[int] = set()

    def on_event(self, event: Event) -> None:
        """Take an event."""
        match event:
            case RequestRecorded():
                self.rows[event.rid] = ProgressRow(event.rid, event.kind, event.id, began=self._clock())
            case StageFinished() if event.stage in _AFTER:
                self._move(event.rid, _AFTER[event.stage])
            case AnswerKept():
                self._answered.add(event.rid)
                self._move(event.rid, ProgressStage.ANSWERED)
            case ReplySigned():
                self._move(event.rid, ProgressStage.SIGNED)
            case ReplySent():
                self._move(event.rid, ProgressStage.SENT)
            case ReplyIncluded():
                self._move(event.rid, ProgressStage.INCLUDED)
                self._end(event.rid)
            case ReplyReturned():
                self._move(event.rid, _RETURNED.get(event.state, ProgressStage.ANSWERED), event.reason)
            case RequestDeferred():
                self._note(event.rid, event.reason)
            case RequestClosed():
                self._close(event)

    def totals(self) -> Totals:
        """Count the decryptions."""
        verdict, rows = self._ground_truth.verdict(), [row for row in self.rows.values() if row.is_decryption]
        return Totals(
            requested=len(self._ledger.forms),
            seen=len(rows),
            answered=sum(row.rid in self._answered for row in rows),
            included=verdict.answered,
            failed=sum(row.closed for row in rows),
            doubled=verdict.doubled,
        )

    def name_of(self, row: ProgressRow) -> int:
        """Return what a request is called: its id, with a tag before it where ids of two kinds may be equal."""
        if not row.is_decryption:
            return row.id
        return self._ground_truth.name(row.kind, row.id)

    def form_of(self, row: ProgressRow) -> str:
        """Return by which form a request was made, or which kind of key management it is."""
        if not row.is_decryption:
            return str(row.kind)
        trace = self._ground_truth.request(row.kind, row.id)
        return "" if trace is None else self._ledger.forms.get(trace.transaction_hash, "")

    def age_of(self, row: ProgressRow) -> float | None:
        """Return the seconds from the event's block to the reply's, or until now; of key management from when it was seen."""
        if not row.is_decryption:
            return (self._clock() if row.ended is None else row.ended) - row.began
        trace = self._ground_truth.request(row.kind, row.id)
        if trace is None:
            return None
        return self._clock() - trace.at if trace.latency is None else trace.latency

    def _move(self, rid: int, stage: ProgressStage, note: str = "") -> None:
        if row := self.rows.get(rid):
            row.stage, row.note = stage, note

    def _note(self, rid: int, note: str) -> None:
        if row := self.rows.get(rid):
            row.note = note

    def _close(self, event: RequestClosed) -> None:
        self._note(event.rid, str(event.state) if event.state in _WELL else f"{event.state}: {event.reason}")
        if row := self.rows.get(event.rid):
            row.closed, row.well = event.state is not State.FINALIZED, event.state in _WELL
        self._end(event.rid)

    def _end(self, rid: int) -> None:
        if (row := self.rows.get(rid)) and row.ended is None:
            row.ended = self._clock()

"""Writes what became of rows into the journal: they wait, have an answer, or end (``failures`` decides, outcomes.md)."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress

import attrs
import trio

from kmsconn.chain.follower import HeadTracker
from kmsconn.errors import JournalFailed, RequestError, Undecodable, cause_of
from kmsconn.journal import moves
from kmsconn.journal.journal import DISK_PAUSE, Journal
from kmsconn.journal.rows import Row
from kmsconn.model.events import (
    AlertRaised,
    AnswerKept,
    AnswerMismatch,
    OnEvent,
    RequestClosed,
    RequestDeferred,
)
from kmsconn.model.life import TRANSITIONS, Answered, RowCause, State
from kmsconn.model.requests import PoolName
from kmsconn.protocols.profile import Profile
from kmsconn.requests.contexts import Contexts
from kmsconn.requests.failures import SECOND_CHANCE, SOON, Circumstances, Ends, Waits, decide
from kmsconn.requests.rows import request_of
from kmsconn.requests.stage_runner import StageRunner
from kmsconn.transport.waiting import WakeUp

OUT_OF_MEMORY = (
    "out of memory; it is tried again: lower `ciphertext_budget` and `core_reply_budget`, or give it more"
)
LONGEST_TRACE = 16_384  # characters of a traceback that are kept; its end says most


@attrs.define
class RowOutcomes:
    """The one who writes what becomes of rows in work, each with its event."""

    profile: Profile
    journal: Journal
    heads: Mapping[int, HeadTracker]
    runner: StageRunner
    wall: Callable[[], float]
    random: Callable[[], float]
    on_event: OnEvent
    contexts: Contexts
    txmanager_wake_ups: Mapping[int, WakeUp]

    async def failed(self, row: Row, error: RequestError | Undecodable) -> None:
        """Let a row wait, begin again or end, as the error says. Cancellation: nothing is written. Repeating: it is told once."""
        outcome = decide(error, self._circumstances(row))
        if isinstance(outcome, Ends):
            await self.close(row, outcome.transition, str(error), cause_of(error), outcome.cause)
        else:
            await self._defer(row, error, outcome)

    def _circumstances(self, row: Row) -> Circumstances:
        operation = self.profile.operations.get(row.kind)
        if operation is None:  # of another generation
            return Circumstances(row.progress)
        generates, age = operation.pool is PoolName.KEY_GENERATION, self.wall() - row.times.recorded
        of_row = (operation.longest_wait, self._left(row), operation.patience, age)
        return Circumstances(row.progress, operation.expires, generates, *of_row, self.random())

    def _left(self, row: Row) -> float | None:
        """Return after how many seconds of chain time a request is too late."""
        now = self.heads[row.event.chain_id].timestamp
        try:
            return None if now is None else request_of(self.profile, row).answered_until - now
        except Undecodable:
            return None

    async def _defer(self, row: Row, error: RequestError | Undecodable, wait: Waits) -> None:
        """Let a row wait; a second chance is remembered whatever it waits for."""
        if wait.again:
            self.journal.note_submitted(row.rid, False)
        if RowCause.SECOND_CHANCE in wait.cause:
            self.runner.progress.free(row.rid)  # it is silent for longer than anybody would count it
        cause = wait.cause | row.progress.cause & RowCause.SECOND_CHANCE
        if row.rid in self.runner.taken:
            cause |= RowCause.TAKEN_ID
        reason = f"{SECOND_CHANCE}{error}" if RowCause.SECOND_CHANCE in cause else str(error)
        stage = error.stage if isinstance(error, RequestError) else ""
        if await self.journal.run(
            moves.defer,
            row.rid,
            self.wall() + wait.seconds,
            reason,
            max_wait=max(wait.seconds, SOON.cap),
            again=not wait.anew,
            stage=stage,
            cause=cause,
        ):
            self.on_event(RequestDeferred(row.rid, row.kind, stage, reason, wait.seconds, id=row.id))

    async def keep(self, row: Row, answered: Answered) -> None:
        """Make an answer durable: for the transaction manager, or over HTTP for whoever waits or asks again, and that is the end.

        Raises Destroyed where what it is under was destroyed meanwhile.
        """
        self.contexts.refuse_destroyed(answered.request.content.order.under)
        self.runner.passed(row)
        answer, over_http, now = answered.answer, row.over_http, self.wall()
        step = "deliver" if over_http else "answer"
        if answer is None:
            await self.close(row, "finish", "done", "done")
        elif await self.journal.run(
            moves.move, step, row.rid, calldata=answer.calldata, signer=answer.signer, now=now
        ):
            self.on_event(AnswerKept(row.rid, row.kind, now - row.times.recorded, id=row.id))
            if answer.mismatch:
                self.on_event(AnswerMismatch(row.rid, row.kind, answer.mismatch, id=row.id))
            if over_http:
                self._tell(row, State.DONE, "delivered", "delivered")
        if not over_http:  # of what is delivered nothing is sent
            self.txmanager_wake_ups[row.event.chain_id].go_on()

    async def unexpected(self, row: Row, error: Exception) -> None:
        """Quarantine a row for an error that nobody foresaw, and keep its traceback; what is told says only what that ends with.

        That memory is out is a fault of the process, never of a request: it is tried again after a pause. Cancellation: at any time.
        """
        if _is_out_of_memory(error):
            self._alert(row, OUT_OF_MEMORY)
            await trio.sleep(DISK_PAUSE)
            return
        trace = "".join(traceback.format_exception(error))[-LONGEST_TRACE:]
        reason = f"unexpected {traceback.format_exception_only(error)[-1].strip()}"
        self._alert(row, reason)
        cause = RowCause.REPEATABLE if row.over_http else RowCause.NONE
        with suppress(JournalFailed):
            await self.close(row, "quarantine", trace, "unexpected", cause, told=reason)

    def _alert(self, row: Row, reason: str) -> None:
        text = f"request {row.rid}: {reason}"
        self.on_event(AlertRaised("connector", "unexpected-error", text))

    async def end_destroyed(self, row: Row, reason: str) -> None:
        """Reject a row that nobody works on, since what it is under was destroyed. Repeating: it is told once."""
        await self.close(row, "reject", reason, cause=RowCause.DESTROYED)

    async def close(
        self,
        row: Row,
        transition: str,
        reason: str,
        slug: str = "other",
        cause: RowCause = RowCause.NONE,
        *,
        told: str = "",
    ) -> None:
        """End a row; ``slug`` and reason are told, or what is ``told`` instead, and the ``cause`` is kept. Repeating: it is told once."""
        self.runner.forget(row.rid)
        head = self.heads[row.event.chain_id].number if transition == "found_finalized" else None
        if await self.journal.run(moves.move, transition, row.rid, reason=reason, cause=cause, block=head):
            self._tell(row, TRANSITIONS[transition][1], told or reason, slug)

    def _tell(self, row: Row, state: State, reason: str, slug: str) -> None:
        self.on_event(RequestClosed(row.rid, row.kind, state, reason, slug, told=row.over_http, id=row.id))


def _is_out_of_memory(error: Exception) -> bool:
    """Say whether that is all that is wrong."""
    if isinstance(error, ExceptionGroup):
        return error.split(MemoryError)[1] is None
    return isinstance(error, MemoryError)

"""Decides what happens to a row that has failed a stage: it waits, begins again, or ends (outcomes.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from kmsconn.app.http_endings import ending_of, until_next_try
from kmsconn.app.request_tracker import RequestTracker
from kmsconn.app.retrying import DEFERRAL, DENIED, SELDOM
from kmsconn.app.rows import operation_of, request_of
from kmsconn.app.stage_runner import OTHER_CONTENT, LongPollEnded
from kmsconn.errors import (
    Aborted,
    AlreadyDone,
    Broken,
    Denied,
    Destroyed,
    Forgotten,
    Over,
    Refused,
    RejectedByCore,
    RequestError,
    Retryable,
    Terminal,
    Undecodable,
    WindowOver,
    WrongSignature,
    cause_of,
)
from kmsconn.journal import moves
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Row
from kmsconn.model.events import OnEvent, RequestClosed, RequestDeferred
from kmsconn.model.life import TRANSITIONS, RowCause
from kmsconn.model.requests import PoolName
from kmsconn.protocols.profile import Profile
from kmsconn.rpc.heads import HeadTracker

SPREAD = 5.0  # seconds over which those are spread who wait for the same question
LAST_LOOK = 60.0  # seconds after the end of a request's time at which it is looked at once more: chain time is believed at a second look

_FINAL: Mapping[type[RequestError], RowCause] = {
    Destroyed: RowCause.DESTROYED,
    WrongSignature: RowCause.SIGNATURE_REFUSED,
    WindowOver: RowCause.SIGNATURE_REFUSED,
}


def final_cause(error: RequestError) -> RowCause:
    """Return what is kept of an error that ends a request for good, whatever source it has."""
    return next((cause for kind, cause in _FINAL.items() if isinstance(error, kind)), RowCause.NONE)


@attrs.define
class RowOutcomes:
    """Writes what became of rows into the journal, each with its event."""

    profile: Profile
    journal: Journal
    heads: Mapping[int, HeadTracker]
    tracker: RequestTracker
    wall: Callable[[], float]
    random: Callable[[], float]
    on_event: OnEvent

    async def failed(self, row: Row, error: RequestError | Undecodable) -> None:
        """Let a row wait, begin again or end, as the error says. Cancellation: nothing is written. Repeating: it is told once."""
        if row.over_http and isinstance(error, RequestError) and await self._ended_over_http(row, error):
            return
        match error:
            case Forgotten():
                await self._forgotten(row, error)
            case LongPollEnded():
                await self._defer(row, "answer", str(error), 0.0)
            case Retryable():
                await self._wait(row, error)
            case Refused() | RejectedByCore() | Broken():
                await self._said_no(row, error)
            case Terminal():
                await self.close(
                    row, self._ending(row, error), str(error), cause_of(error), final_cause(error)
                )
            case _:
                await self.close(row, "quarantine", str(error), cause_of(error))

    async def _ended_over_http(self, row: Row, error: RequestError) -> bool:
        """End a request over HTTP for what its client is told at once, or has waited for long enough; say whether it ended."""
        cause = ending_of(error, self.wall() - row.times.recorded)
        if cause is None:
            return False
        await self.close(row, "reject", str(error), cause_of(error), cause)
        return True

    def _ending(self, row: Row, error: Terminal) -> str:
        """Return how a request ends; nobody can abort anything but a generation, so that would be a failure (L11)."""
        if isinstance(error, Aborted) and operation_of(self.profile, row).pool is PoolName.KEY_GENERATION:
            return "abort"
        if isinstance(error, AlreadyDone):
            return "found_finalized"
        return "finish" if isinstance(error, Over) else "reject"

    async def _wait(self, row: Row, error: Retryable) -> None:
        if isinstance(error, Denied):
            await self._wait_for_right(row, error)
        elif error.again_in is not None:
            await self._wait_for_others(row, error, error.again_in)
        else:
            longest = operation_of(self.profile, row).longest_wait
            backoff = attrs.evolve(DEFERRAL, cap=max(DEFERRAL.cap, longest))
            seconds = min(backoff.seconds(row.progress.deferred, self.random()), longest)
            await self._defer(row, error.stage, str(error), seconds, max_wait=backoff.cap)

    async def _wait_for_others(self, row: Row, error: Retryable, again_in: float) -> None:
        """Wait until the one question for all is asked again; what never expires looks every minute whether it is over."""
        if not operation_of(self.profile, row).expires:
            again_in = min(again_in, DEFERRAL.cap)
        seconds = self._until_over(row, again_in + self.random() * min(again_in, SPREAD))
        await self._defer(row, error.stage, str(error), seconds, max_wait=max(seconds, DEFERRAL.cap))

    async def _wait_for_right(self, row: Row, error: Denied) -> None:
        """Wait for a right that was not given yet, ever longer; what was waited for before does not count."""
        again = row.progress.reason == _reason(row.progress.cause, str(error))
        seconds = self._until_over(row, DENIED.seconds(row.progress.deferred if again else 0, self.random()))
        longest = max(seconds, DEFERRAL.cap)
        await self._defer(row, error.stage, str(error), seconds, max_wait=longest, again=again)

    def _until_over(self, row: Row, seconds: float) -> float:
        """Return the wait, but no longer than until the request is too late, in chain time."""
        request = request_of(self.profile, row)
        now = self.heads[request.chain_id].timestamp
        if now is None:
            return seconds
        return min(seconds, max(LAST_LOOK, request.answered_until + LAST_LOOK - now))

    async def _forgotten(self, row: Row, error: Forgotten) -> None:
        """Submit again soon; but a Core that forgets what it has just taken is not hurried."""
        self.journal.note_submitted(row.rid, False)
        tries = 0 if row.progress.submitted else row.progress.deferred
        await self._defer(row, "answer", str(error), DEFERRAL.seconds(tries, self.random()))

    async def _defer(
        self,
        row: Row,
        stage: str,
        reason: str,
        seconds: float,
        *,
        max_wait: float = 60.0,
        again: bool = True,
        cause: RowCause = RowCause.NONE,
    ) -> None:
        """Let a row wait, ``again`` or for something else; a second chance is remembered whatever the row waits for."""
        cause |= row.progress.cause & RowCause.SECOND_CHANCE
        if row.rid in self.tracker.taken:
            cause |= RowCause.TAKEN_ID
        reason = _reason(cause, reason)
        if row.over_http:
            seconds = until_next_try(seconds, self.wall() - row.times.recorded)
        if await self.journal.run(
            moves.defer,
            row.rid,
            self.wall() + seconds,
            reason,
            max_wait=max_wait,
            again=again,
            stage=stage,
            cause=cause,
        ):
            self.on_event(RequestDeferred(row.rid, row.kind, stage, reason, seconds, id=row.id))

    async def _said_no(self, row: Row, error: Refused | RejectedByCore | Broken) -> None:
        """Let a decryption wait, whatever the Core says of it: only the chain and an operator end it.

        Key management must go on in the order of the chain, so there a refusal is believed; but of an answer that may be to other
        content under the id nothing is believed before that Core was restarted.
        """
        if operation_of(self.profile, row).expires or error.cause == OTHER_CONTENT:
            await self._wait_for_core(row, error)
        elif isinstance(error, Refused) and RowCause.SECOND_CHANCE not in row.progress.cause:
            self.tracker.progress.free(row.rid)  # it is silent for longer than anybody would count it
            self.journal.note_submitted(row.rid, False)
            seconds = error.second_chance
            await self._defer(
                row, error.stage, str(error), seconds, max_wait=seconds, cause=RowCause.SECOND_CHANCE
            )
        else:
            transition = "quarantine" if isinstance(error, Broken) else "reject"
            await self.close(row, transition, str(error), cause_of(error))

    async def _wait_for_core(self, row: Row, error: RequestError) -> None:
        """Begin again at the Core, ever later; what was waited for before does not count."""
        self.journal.note_submitted(row.rid, False)
        again = RowCause.REFUSED_BY_CORE in row.progress.cause
        seconds = self._until_over(row, SELDOM.seconds(row.progress.deferred if again else 0, self.random()))
        await self._defer(
            row,
            error.stage,
            str(error),
            seconds,
            max_wait=SELDOM.cap,
            again=again,
            cause=RowCause.REFUSED_BY_CORE,
        )

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
    ) -> None:
        """End a row; the ``slug`` of why is told, the ``cause`` kept. Repeating: it is told once."""
        self.tracker.forget(row.rid)
        head = self.heads[row.event.chain_id].number if transition == "found_finalized" else None
        if await self.journal.run(moves.close, row.rid, transition, reason, cause=cause, block=head):
            self.on_event(
                RequestClosed(
                    row.rid, row.kind, TRANSITIONS[transition][1], reason, slug, told=row.over_http, id=row.id
                )
            )


def _reason(cause: RowCause, reason: str) -> str:
    """Return what people read of why a row waits."""
    return f"second chance: {reason}" if RowCause.SECOND_CHANCE in cause else reason

"""Runs one stage of a request under its deadline, and notes what came of it: whether it passed, and if not, at which dependency."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import trio

from kmsconn.app.core_health import CoreHealth
from kmsconn.app.request_tracker import MARK, REMEDY, TAKEN, RequestTracker
from kmsconn.app.rows import operation_of
from kmsconn.errors import (
    Broken,
    ContextInvalid,
    Denied,
    DestroyedOnce,
    Down,
    JournalFailed,
    Misconfigured,
    NotMember,
    NotYet,
    Overloaded,
    Refused,
    RejectedByCore,
    RequestError,
    Retryable,
    SignatureNotTaken,
    StageTimeout,
    Unreachable,
    WindowNotOpen,
    cause_of,
)
from kmsconn.journal.values import Row
from kmsconn.model.events import OnEvent, StageFailed, StageFinished
from kmsconn.model.progress import PATIENCE, WINDOW, Lane, Reason
from kmsconn.protocols.profile import Profile

T = TypeVar("T")

LONG_POLL = (
    5.0  # a "not ready" that took less than this was no long poll: asking again at once would only be noise
)
NEEDED = {"check": "checks", "gather": "buckets"}
"""Which dependencies a stage needs; the others need the Core."""
STEPS = {"check": 0, "gather": 1, "submit": 2, "answer": 3}
"""How far on its way a request is in a stage."""

OTHER_CONTENT = "other-content"
"""The cause of a wrong answer where the journal knows other content under the id: the Core may still hold that until its restart."""

RESULT_LATE_AFTER = 300.0
"""Seconds since the first poll without a result: a decryption takes seconds."""
TAKEN_KEY_ID_AFTER = 3600.0
"""Likewise of an id that the Core had already, for a key or an epoch, which may take that long."""

FAULTS = (Unreachable, Overloaded, StageTimeout, Misconfigured, RejectedByCore, Refused, Broken)
"""Failures that may be the dependency's; what else a stage raises is an answer about the request."""

ANSWERS = (Denied, WindowNotOpen, SignatureNotTaken, ContextInvalid, NotMember, JournalFailed)
"""What holds up a request and is nobody's failure, or has an alert of its own."""

NOT_A_NODE = "not-a-node"


class LongPollEnded(NotYet):
    """The Core is still at work: ask again when nobody else needs the place."""


async def within(seconds: float, stage: str, step: Callable[[], Awaitable[T]]) -> T:
    """Run a stage's pass under its deadline. Raises StageTimeout with the stage's name."""
    with trio.CancelScope(deadline=trio.current_time() + seconds):
        return await step()
    raise StageTimeout(stage, seconds)


@attrs.define
class StageRunner:
    """Runs stages for all requests. ``shards``: of the Core."""

    profile: Profile
    tracker: RequestTracker
    core_health: CoreHealth
    shards: int
    on_event: OnEvent
    note: Callable[[int, str, float], None] = lambda _rid, _stage, _seconds: None
    """Takes the row, the stage and its seconds, whatever came of it."""
    running: dict[int, tuple[str, float]] = attrs.field(factory=dict)
    """The stage that each row is in at present, and since when, in Trio's time."""

    async def run(self, row: Row, stage: str, seconds: float, step: Callable[[], Awaitable[T]]) -> T:
        """Run a stage of a row. Raises what it raises, with the stage's name, and StageTimeout. Cancellation and repeating: as the step."""
        started = trio.current_time()
        least = operation_of(self.profile, row).stages.get(stage, 0.0)
        self.running[row.rid] = stage, started
        try:
            result = await within(max(seconds, least), stage, step)
        except FAULTS as error:
            self._failed(row, stage, error, trio.current_time() - started)
            self._note_call(row, stage, reached=not isinstance(error, (Unreachable, StageTimeout)))
            self.blame(row, stage, error)
            raise
        except RequestError as error:
            self._failed(row, stage, error, trio.current_time() - started)
            self._note_said(row, stage, error)
            raise
        finally:
            del self.running[row.rid]
            took = trio.current_time() - started
            self.note(row.rid, stage, took)
        self._note_call(row, stage, reached=True)
        self.tracker.progress.went_on(row.rid, STEPS[stage])
        self.on_event(StageFinished(row.rid, row.kind, stage, took, id=row.id))
        return result

    def _failed(self, row: Row, stage: str, error: RequestError, seconds: float) -> None:
        error.stage = stage
        self.on_event(StageFailed(row.rid, row.kind, stage, cause_of(error), seconds, id=row.id))

    def _note_call(self, row: Row, stage: str, *, reached: bool) -> None:
        if stage not in NEEDED:
            self.core_health.note_call(self.shard(row), reached=reached)

    def blame(self, row: Row, stage: str, error: RequestError) -> None:
        """Note a failure at a dependency. One that is gone has an alert of its own; of other content only an operator can free the Core."""
        if not isinstance(error, Down):
            dependency, stands = error.dependency or self._needed(row, stage), error.cause == OTHER_CONTENT
            reason = Reason(dependency, error.cause, str(error), error.remedy, critical=stands)
            self._hold(row, stage, reason)

    def _note_said(self, row: Row, stage: str, error: RequestError) -> None:
        """Note what is no failure; but whoever says "not yet" for long fails, whatever is said."""
        reason = self._reason(row, stage, error)
        if reason is not None:
            self._hold(row, stage, reason)
            return
        self.tracker.progress.went_on(row.rid, STEPS[stage])
        if isinstance(error, NotMember) and error.alone:
            lane = Lane(row.kind, error.context)
            reason = Reason(error.context, NOT_A_NODE, str(error), critical=True)
            keep = WINDOW + (error.again_in or 0.0)
            self.tracker.progress.hold(lane, row.rid, reason, now=trio.current_time(), keep=keep)

    def _reason(self, row: Row, stage: str, error: RequestError) -> Reason | None:
        """Return what holds up a request that was told to wait; None where nothing can be said of the dependency.

        A result takes its time, and that of what never expires as long as it likes: of the latter only an id that was taken is told.
        """
        once = isinstance(error, DestroyedOnce)
        if not isinstance(error, Retryable) or (isinstance(error, ANSWERS) and not once):
            return None
        expires, dependency = operation_of(self.profile, row).expires, self._needed(row, stage)
        waits = stage == "answer" and error.again_in is None
        if waits and row.rid in self.tracker.taken:
            text = "returns ALREADY_EXISTS to start calls that this connector has not made, and returns no result"
            after = RESULT_LATE_AFTER if expires else TAKEN_KEY_ID_AFTER
            return Reason(dependency, TAKEN, text, REMEDY, after)
        if not expires:
            return None
        after = RESULT_LATE_AFTER if waits else PATIENCE
        text = f"no result for {after / 60:.0f} minutes: {error}" if waits else str(error)
        return Reason(dependency, StageTimeout.cause, text, after=after)

    def _hold(self, row: Row, stage: str, reason: Reason) -> None:
        operation = operation_of(self.profile, row)
        keep = WINDOW + operation.longest_wait
        self.tracker.progress.hold(
            self.lane(row), row.rid, reason, now=trio.current_time(), step=STEPS[stage], keep=keep
        )

    def passed(self, row: Row) -> None:
        """Note that a row is answered, here or by another process: what comes after it on its way can pass, too."""
        self.tracker.progress.passed(self.lane(row), row.rid)
        self.tracker.forget(row.rid)

    def lane(self, row: Row) -> Lane:
        """Return what a row passes with: its kind, in its form of event, at its shard.

        Key management comes one by one, in order: one request that fails is a kind that does not pass.
        """
        form = row.event.log.topics[0].hex() if row.event.log.topics else ""
        where = f"core[{self.shard(row)}] {form}"
        if operation_of(self.profile, row).expires:
            return Lane(row.kind, where)
        return Lane(row.kind, where, several=1, patience=0.0)

    def no_result(self, row: Row, reason: str, seconds: float) -> NotYet:
        """Return the error for a poll that ended without a result, after so many seconds."""
        if row.rid in self.tracker.taken:
            reason = MARK + reason
        error = NotYet(reason) if seconds < LONG_POLL else LongPollEnded(reason)
        error.stage = "answer"
        return error

    def _needed(self, row: Row, stage: str) -> str:
        """Return whom a stage needs: of several shards of the Core the one that has the request."""
        return NEEDED[stage] if stage in NEEDED else f"core[{self.shard(row)}]"

    def shard(self, row: Row) -> int:
        """Return which shard of the Core has a row."""
        return row.id % self.shards

"""Runs one stage of a request under its deadline, and notes what came of it: whether it passed, and if not, at which dependency."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import trio

from kmsconn.app.core_health import CoreHealth
from kmsconn.app.failure_tracker import SEVERAL, Failure, Gate
from kmsconn.app.request_tracker import MARK, RESULT_LATE_AFTER, RequestTracker
from kmsconn.app.rows import operation_of
from kmsconn.errors import (
    Broken,
    Down,
    Forgotten,
    Misconfigured,
    NotYet,
    Overloaded,
    Refused,
    RejectedByCore,
    RequestError,
    StageTimeout,
    Unreachable,
    cause_of,
)
from kmsconn.journal.values import Row
from kmsconn.model.events import OnEvent, StageFailed, StageFinished
from kmsconn.protocols.port import Profile

T = TypeVar("T")

LONG_POLL = (
    5.0  # a "not ready" that took less than this was no long poll: asking again at once would only be noise
)
FAMILIES = {"check": "checks", "gather": "buckets", "submit": "core", "answer": "core"}
"""Which dependencies a stage needs."""

FAULTS = (Unreachable, Overloaded, StageTimeout, Misconfigured, RejectedByCore, Refused, Broken)
"""Failures that may be the dependency's; what else a stage raises is an answer about the request."""


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
        self.tracker.failures.passed(self._gate(row, stage), row.rid)
        self.tracker.alerts.free(row.rid)
        self.on_event(StageFinished(row.rid, row.kind, stage, took, id=row.id))
        return result

    def _failed(self, row: Row, stage: str, error: RequestError, seconds: float) -> None:
        error.stage = stage
        self.on_event(StageFailed(row.rid, row.kind, stage, cause_of(error), seconds, id=row.id))

    def _note_call(self, row: Row, stage: str, *, reached: bool) -> None:
        if FAMILIES[stage] == "core":
            self.core_health.note_call(self.shard(row), reached=reached)

    def blame(self, row: Row, stage: str, error: RequestError) -> None:
        """Note a failure at a dependency. One that is gone has an alert of its own."""
        if isinstance(error, Down):
            return
        gate = self._gate(row, stage)
        if error.dependency:
            gate = attrs.evolve(gate, dependency=error.dependency)
        failure = Failure(error.cause, str(error), error.remedy)
        self.tracker.failures.failed(gate, row.rid, failure, trio.current_time())

    def _note_said(self, row: Row, stage: str, error: RequestError) -> None:
        """Note what is no failure; but a Core that gives no result for minutes fails, whatever it says."""
        if self._is_late(row, stage, error):
            text = f"no result for {RESULT_LATE_AFTER / 60:.0f} minutes: {error}"
            failure = Failure(StageTimeout.cause, text)
            self.tracker.failures.failed(self._gate(row, stage), row.rid, failure, trio.current_time())
        else:
            self.tracker.failures.answered(FAMILIES[stage], stage, row.rid)

    def _is_late(self, row: Row, stage: str, error: RequestError) -> bool:
        """Say whether the result of a decryption is late; what never expires has an alert of its own."""
        unfinished = isinstance(error, (NotYet, Forgotten)) and error.again_in is None
        if stage != "answer" or not unfinished or not operation_of(self.profile, row).expires:
            return False
        return self.tracker.is_late(row.rid, trio.current_time())

    def no_result(self, row: Row, reason: str, seconds: float) -> NotYet:
        """Return the error for a poll that ended without a result, after so many seconds."""
        self.tracker.taken.polled(
            row.rid, f"core[{self.shard(row)}]", long=not operation_of(self.profile, row).expires
        )
        if row.rid in self.tracker.taken:
            reason = MARK + reason
        error = NotYet(reason) if seconds < LONG_POLL else LongPollEnded(reason)
        error.stage = "answer"
        return error

    def _gate(self, row: Row, stage: str) -> Gate:
        """Return whom a stage needs: of several shards of the Core the one that has the request.

        Key management comes one by one, in order: one request that fails is a kind that does not pass.
        """
        family = FAMILIES[stage]
        dependency = f"core[{self.shard(row)}]" if family == "core" else family
        several = SEVERAL if operation_of(self.profile, row).expires else 1
        return Gate(dependency, family, stage, row.kind, several)

    def shard(self, row: Row) -> int:
        """Return which shard of the Core has a row."""
        return row.id % self.shards

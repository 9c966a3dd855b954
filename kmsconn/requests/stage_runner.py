"""Runs one stage of a request under its deadline, and notes what came of it: whether it passed, and if not, at which dependency."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import trio

from kmsconn.errors import (
    Down,
    JournalFailed,
    LongPollEnded,
    NotMember,
    NotYet,
    RequestError,
    StageTimeout,
    Unreachable,
    cause_of,
)
from kmsconn.journal.rows import Row
from kmsconn.model.alerts import STANDSTILL, WINDOW, Lane, Progress, Reason
from kmsconn.model.events import OnEvent, StageFailed, StageFinished
from kmsconn.protocols.profile import Profile
from kmsconn.requests.core_health import CoreHealth
from kmsconn.requests.failures import NAMED_BY_REQUESTS, NOT_A_NODE, Blames, reason_of, rule_of

T = TypeVar("T")

KEEPING = 10.0
"""Seconds that a received answer may take to become durable while everything else is being cancelled."""
LONG_POLL = 5.0
"""Seconds; a "not ready" that took less was no long poll: asking again at once would only be noise."""
NEEDED = {"check": "checks", "gather": "buckets"}
"""Which dependencies a stage needs; the others need the Core."""
STEPS = {"check": 0, "gather": 1, "submit": 2, "answer": 3}
"""How far on its way a request is in a stage."""

MARK = "ALREADY_EXISTS, and no result yet: "
"""The beginning of the reason of a row whose id is taken."""


@attrs.define
class StageRunner:
    """Runs stages for all requests, and remembers of each that is open what alerts need to know. ``shards``: of the Core.

    *Taken ids.* A Core may say ``ALREADY_EXISTS`` to a start that this connector did not make, and then have no result. Seen on a real
    Core: a start that fails inside it leaves the id taken, and there is no result until that Core is restarted. A request of before,
    whose start this connector forgot, looks the same at first; so an alert waits for some minutes.
    """

    profile: Profile
    core_health: CoreHealth
    shards: int
    on_event: OnEvent
    note: Callable[[int, str, float], None] = lambda _rid, _stage, _seconds: None
    """Takes the row, the stage and its seconds, whatever came of it."""
    running: dict[int, tuple[str, float]] = attrs.field(factory=dict)
    """The stage that each row at work is in, and since when, in Trio's time; between two of them the one before, and when it ended."""
    _rows: dict[int, Row] = attrs.field(factory=dict)
    """The rows that are in a stage."""
    progress: Progress = attrs.field(factory=Progress)
    taken: set[int] = attrs.field(factory=set)
    """The open requests whose ids the Core had already, each until it has a result, is started anew, or ends."""

    async def run(
        self,
        row: Row,
        stage: str,
        seconds: float,
        step: Callable[[], Awaitable[T]],
        keep: Callable[[T], Awaitable[None]] | None = None,
    ) -> T:
        """Run a stage of a row, and ``keep`` what came of it. Raises what they raise, StageTimeout, and JournalFailed for what is not kept.

        Cancellation and repeating: as the step; what has come is still kept while everything else is being cancelled.
        """
        _, started = self.running[row.rid]
        seconds = max(seconds, self.profile.operations[row.kind].stages.get(stage, 0.0))
        self.running[row.rid], self._rows[row.rid] = (stage, started), row
        with trio.CancelScope(deadline=started + seconds) as scope:
            try:
                result = await step()
            except RequestError as error:
                self._failed(row, stage, error, started)
                raise
            finally:
                ended = trio.current_time()
                self.running[row.rid] = stage, ended
                del self._rows[row.rid]
                self.note(row.rid, stage, ended - started)
            if stage not in NEEDED:
                self.core_health.note_call(self.shard(row), reached=True)
            self.progress.went_on(row.rid, STEPS[stage])
            self.progress.worked(self.lane(row), STEPS[stage], ended)
            self.on_event(StageFinished(row.rid, row.kind, stage, ended - started, id=row.id))
            if keep is not None:
                scope.deadline, scope.shield = ended + KEEPING, True
                await keep(result)
            return result
        if scope.shield:
            raise JournalFailed(f"it did not keep an answer within {KEEPING:g} s")
        timeout = StageTimeout(stage, seconds)
        self._failed(row, stage, timeout, started)
        raise timeout

    def _failed(self, row: Row, stage: str, error: RequestError, started: float) -> None:
        error.stage, took = stage, trio.current_time() - started
        self.on_event(StageFailed(row.rid, row.kind, stage, cause_of(error), took, id=row.id))
        self.blame(row, stage, error, started)

    def note_hanging(self, now: float) -> None:
        """Note what holds up decryptions that hang in a stage which none of their lane has passed since.

        A result takes its time: the long poll for it ends by itself.
        """
        for row in self._rows.values():
            stage, since = self.running[row.rid]
            if now - since < STANDSTILL or stage == "answer" or not self.profile.operations[row.kind].expires:
                continue
            if self.progress.stands_still(self.lane(row), STEPS[stage], since):
                text = f"{stage} has taken longer than {STANDSTILL:g} s"
                self._hold(row, stage, Reason(self._needed(row, stage), StageTimeout.cause, text), since)

    def _needed(self, row: Row, stage: str) -> str:
        return NEEDED.get(stage) or f"core[{self.shard(row)}]"

    def started(self, rid: int, *, existed: bool) -> None:
        """Note the outcome of a start call; one that the Core took makes the id ours."""
        if existed:
            self.taken.add(rid)
        elif rid in self.taken:
            self.taken.discard(rid)
            self.progress.free(rid)

    @property
    def remembered(self) -> set[int]:
        """The requests of which something is remembered until they are over."""
        return {*self.progress, *self.taken}

    def forget(self, rid: int) -> None:
        """Forget what was noted of a request that is answered or over."""
        self.progress.free(rid)
        self.taken.discard(rid)

    def blame(self, row: Row, stage: str, error: RequestError, since: float | None = None) -> None:
        """Note what an alert blames a failure on; a dependency that has answered about the request holds it up no more.

        ``since``: when the stage began.
        """
        expires, taken = self.profile.operations[row.kind].expires, row.rid in self.taken
        reason = reason_of(error, stage, self._needed(row, stage), expires=expires, taken=taken)
        if stage not in NEEDED and rule_of(error).blames is Blames.NEEDED:
            reached = not isinstance(error, (Unreachable, StageTimeout))
            self.core_health.note_call(self.shard(row), reached=reached)
        if reason is not None:
            self._hold(row, stage, reason, since)
        elif not isinstance(error, Down):  # which has an alert of its own
            self.progress.went_on(row.rid, STEPS[stage])
            self._note_outsider(row, error)

    def _note_outsider(self, row: Row, error: RequestError) -> None:
        if isinstance(error, NotMember) and error.alone:
            lane = Lane(row.kind, error.context)
            reason = Reason(error.context, NOT_A_NODE, str(error), critical=True)
            keep = WINDOW + (error.again_in or 0.0)
            self.progress.hold(lane, row.rid, reason, now=trio.current_time(), keep=keep)

    def _hold(self, row: Row, stage: str, reason: Reason, since: float | None) -> None:
        operation = self.profile.operations[row.kind]
        keep = WINDOW + operation.longest_wait
        # Whoever asks names the chain: strangers of one that is not served here do not show that nothing passes.
        by_request = reason.cause in NAMED_BY_REQUESTS
        lane = Lane(row.kind, reason.dependency, several=sys.maxsize) if by_request else self.lane(row)
        now, step = trio.current_time(), STEPS[stage]
        self.progress.hold(lane, row.rid, reason, now=now, step=step, keep=keep, since=since)

    def passed(self, row: Row) -> None:
        """Note that a row is answered, here or by another process: what comes after it on its way can pass, too."""
        self.progress.passed(self.lane(row), row.rid)
        self.taken.discard(row.rid)

    def lane(self, row: Row) -> Lane:
        """Return what a row passes with: its kind, in its form of event, at its shard.

        Key management comes one by one, in order: one request that fails is a kind that does not pass.
        """
        where = self.shard(row), row.event.log.topics[:1]
        if self.profile.operations[row.kind].expires:
            return Lane(row.kind, where)
        return Lane(row.kind, where, several=1, patience=0.0)

    def no_result(self, row: Row, reason: str, seconds: float) -> NotYet:
        """Return the error for a poll that ended without a result, after so many seconds."""
        if row.rid in self.taken:
            reason = MARK + reason
        error = NotYet(reason) if seconds < LONG_POLL else LongPollEnded(reason)
        error.stage = "answer"
        return error

    def shard(self, row: Row) -> int:
        """Return which shard of the Core has a row."""
        return row.id % self.shards

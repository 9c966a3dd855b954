"""One request through its stages: the straight line, its deadlines, and what becomes of it when a stage fails (outcomes.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import attrs
import trio

from kmsconn.chain.doorbell import Doorbell
from kmsconn.chain.heads import HeadTracker
from kmsconn.ciphertexts.budget import ByteBudget
from kmsconn.config.settings import Deadlines
from kmsconn.errors import (
    Aborted,
    AlreadyDone,
    Broken,
    Forgotten,
    Misconfigured,
    NotYet,
    Over,
    Overloaded,
    Refused,
    RequestError,
    Retryable,
    StageTimeout,
    Terminal,
    Undecodable,
    Unreachable,
)
from kmsconn.journal.port import Journal, Row
from kmsconn.model.events import (
    AnswerDoubted,
    AnswerKept,
    OnEvent,
    RequestClosed,
    RequestParked,
    Severity,
    StageFinished,
)
from kmsconn.model.life import TRANSITIONS
from kmsconn.model.requests import Place, PoolName, Request
from kmsconn.model.steps import Answered, Seen, Submitted
from kmsconn.protocols.port import Operation, Profile
from kmsconn.service.blame import CORE, DEPENDENCIES, Blame
from kmsconn.service.retrying import PARKING, SECOND_CHANCE
from kmsconn.service.stages import Stages

T = TypeVar("T")

KEEPING = (
    10.0  # seconds that a received answer may take to become durable while everything else is being cancelled
)
LONG_POLL = (
    5.0  # a "not ready" that took less than this was no long poll: asking again at once would only be noise
)
SECOND_CHANCE_MARK = "second chance: "


class LongPollEnded(NotYet):
    """The Core is still at work: ask again when nobody else needs the place."""


class Lost(Misconfigured):
    """The Core has it already and does not know its result: it was restarted before anybody had asked (L10)."""


async def within(seconds: float, stage: str, step: Callable[[], Awaitable[T]]) -> T:
    """Run a stage's pass under its deadline. Raises StageTimeout with the stage's name."""
    with trio.CancelScope(deadline=trio.current_time() + seconds):
        return await step()
    raise StageTimeout(stage, seconds)


@attrs.define
class Pipeline:
    """Takes a due row as far as it goes: to a durable answer, back to the journal, or to its end."""

    profile: Profile
    stages: Stages
    journal: Journal
    heads: Mapping[int, HeadTracker]
    lane_bells: Mapping[int, Doorbell]
    budgets: Sequence[ByteBudget]  # one for each shard of the Core
    deadlines: Deadlines
    blame: Blame
    wall: Callable[[], float]
    random: Callable[[], float]
    on_event: OnEvent

    async def run(self, row: Row) -> bool:
        """Work on a row once. When it returns the row is answered, parked or closed; True: answered, so it is not due again by itself.

        Cancellation: at any time; only an answer that has arrived is still kept. Repeating: every stage may be repeated.
        """
        try:
            request = self.request_of(row)
            if self._is_over(request):
                await self._close(
                    row, "expire", f"expired; what it last waited for: {row.reason or 'its turn'}"
                )
                return False
            return await self._keep(row, await self._line(row, request))
        except Forgotten as error:
            await self._forgotten(row, error)
        except LongPollEnded as error:
            await self._park(row, "answer", str(error), 0.0)
        except Retryable as error:
            await self._wait(row, error)
        except Refused as error:
            await self._second_chance(row, error)
        except Terminal as error:
            await self._close(row, self._ending(row, error), str(error))
        except Broken as error:
            await self._broken(row, error)
        except Undecodable as error:
            await self._close(row, "quarantine", str(error))
        return False

    def _ending(self, row: Row, error: Terminal) -> str:
        """Return how a request ends; nobody can abort anything but a generation, so that would be a failure (L11)."""
        if isinstance(error, Aborted) and self.operation(row).pool is PoolName.KEY_GENERATION:
            return "abort"
        return (
            "found_replied"
            if isinstance(error, AlreadyDone)
            else "finish"
            if isinstance(error, Over)
            else "reject"
        )

    def operation(self, row: Row) -> Operation:
        """Return what is known of requests of a row's kind. Raises Undecodable for a kind of another generation."""
        try:
            return self.profile.operations[row.kind]
        except KeyError as error:
            raise Undecodable(f"{self.profile.name} knows no {row.kind}") from error

    def request_of(self, row: Row) -> Request:
        """Read the request of a row from its stored event. Raises Undecodable (then an older program wrote it)."""
        log = row.log
        content = self.profile.decode(log)
        if content is None:
            raise Undecodable("the event asks for nothing")
        place = Place(log.block_number, log.block_hash, log.transaction_hash, log.log_index)
        return Request(row.rid, row.chain_id, row.contract, content, row.digest, place, row.deadline)

    def _is_over(self, request: Request) -> bool:
        """Say whether it is too late for an answer: in chain time that is sure, since admission or by the request's own window."""
        now = self.heads[request.chain_id].settled_timestamp
        if now is None:
            return False
        until = self.profile.valid_until(request.content)
        return now > (request.deadline if until is None else min(request.deadline, until))

    async def _line(self, row: Row, request: Request) -> Answered:
        if row.submitted:
            return await self._answer(row, Submitted(request))
        checked = await self._timed(
            row, "check", self.deadlines.check, lambda: self.stages.check(Seen(request))
        )
        with self.budgets[self._shard(row)].lease() as lease:
            gathered = await self._timed(
                row, "gather", self.deadlines.gather, partial(self.stages.gather, checked, lease)
            )
            submitted = await self._timed(
                row, "submit", self.deadlines.submit, partial(self.stages.submit, gathered)
            )
        if not submitted.doubt:
            self.journal.note_submitted(row.rid, True)
        return await self._answer(row, submitted)

    async def _answer(self, row: Row, submitted: Submitted) -> Answered:
        started = trio.current_time()
        try:
            return await self._timed(
                row, "answer", self.deadlines.answer, lambda: self.stages.answer(submitted)
            )
        except NotYet as error:
            if trio.current_time() - started < LONG_POLL:
                raise
            raise LongPollEnded(str(error)) from error
        except Forgotten as error:
            if not submitted.doubt:
                raise
            raise self._lost(row, f"{submitted.doubt}, and then {error}") from error

    def _lost(self, row: Row, reason: str) -> Lost:
        """Return the error for a result that nobody can have any more, and tell it: apart from the Core's, whose calls succeed."""
        error = Lost(f"{reason}: the Core was restarted before its result was asked for")
        error.stage = "answer"
        self.blame.say(f"{row.kind} result", row.rid, str(error), Severity.CRITICAL)
        return error

    async def _timed(self, row: Row, stage: str, seconds: float, step: Callable[[], Awaitable[T]]) -> T:
        started = trio.current_time()
        least = self.operation(row).stages.get(stage, 0.0)
        try:
            result = await within(max(seconds, least), stage, step)
        except (Unreachable, Overloaded, StageTimeout, Misconfigured) as error:
            error.stage = stage
            self.blame.failed(self._dependency(stage, row), row.rid, error)
            raise
        except RequestError as error:  # an answer, if not the wanted one: the neighbour works
            error.stage = stage
            self.blame.passed(self._dependency(stage, row), row.rid)
            raise
        self.blame.passed(self._dependency(stage, row), row.rid)
        self.on_event(StageFinished(row.rid, row.kind, stage, trio.current_time() - started))
        return result

    def _shard(self, row: Row) -> int:
        return row.id % len(self.budgets)

    def _dependency(self, stage: str, row: Row) -> str:
        """Return whom a stage needs: of several shards of the Core the one that has the request."""
        dependency = DEPENDENCIES[stage]
        return (
            f"core[{self._shard(row)}] calls" if dependency == CORE and len(self.budgets) > 1 else dependency
        )

    async def _keep(self, row: Row, answered: Answered) -> bool:
        now, kept = self.wall(), False
        self.blame.ended(row.rid)
        with trio.move_on_after(KEEPING, shield=True):
            if answered.answer is None:
                await self._close(row, "finish", "done")
            elif kept := await self.journal.answer(row.rid, answered.answer, now):
                self.on_event(AnswerKept(row.rid, row.kind, now - row.admitted_at))
                if answered.answer.doubt:
                    self.on_event(AnswerDoubted(row.rid, row.kind, answered.answer.doubt))
        self.lane_bells[row.chain_id].ring()
        return kept

    async def _wait(self, row: Row, error: Retryable) -> None:
        operation = self.operation(row)
        if self.wall() - row.admitted_at > operation.patience:
            await self._close(row, "reject", f"given up after {operation.patience:g} s: {error}")
            return
        seconds = min(PARKING.seconds(row.parked, self.random()), operation.longest_wait)
        await self._park(row, error.stage, str(error), seconds)

    async def _forgotten(self, row: Row, error: Forgotten) -> None:
        """Submit again soon; but a Core that forgets what it has just taken is not hurried."""
        self.journal.note_submitted(row.rid, False)
        tries = 0 if row.submitted else row.parked
        await self._park(row, "answer", str(error), PARKING.seconds(tries, self.random()))

    async def _park(
        self, row: Row, stage: str, reason: str, seconds: float, *, max_wait: float = 60.0
    ) -> None:
        """Let a row wait; the mark of a second chance stays on it whatever it waits for."""
        if row.reason.startswith(SECOND_CHANCE_MARK):
            reason = SECOND_CHANCE_MARK + reason
        if await self.journal.park(row.rid, self.wall() + seconds, reason, max_wait=max_wait):
            self.on_event(RequestParked(row.rid, row.kind, stage, reason, seconds))

    async def _second_chance(self, row: Row, error: Refused) -> None:
        if _had_second_chance(row):
            await self._close(row, "reject", str(error))
            return
        self.journal.note_submitted(row.rid, False)
        reason = SECOND_CHANCE_MARK + str(error)
        await self._park(row, error.stage, reason, SECOND_CHANCE, max_wait=SECOND_CHANCE)

    async def _broken(self, row: Row, error: Broken) -> None:
        if await self.journal.has_sibling(row.rid):
            self.blame.say(
                self._dependency("answer", row),
                row.rid,
                f"{error}; it may still hold other content under this id",
                Severity.WARNING,
            )
            self.journal.note_submitted(row.rid, False)
            await self._park(row, "answer", str(error), PARKING.seconds(row.parked, self.random()))
        else:
            await self._close(row, "quarantine", str(error))

    async def _close(self, row: Row, transition: str, reason: str) -> None:
        self.blame.ended(row.rid)
        if await self.journal.close(row.rid, transition, reason):
            self.on_event(RequestClosed(row.rid, row.kind, TRANSITIONS[transition][1], reason))


def _had_second_chance(row: Row) -> bool:
    return row.reason.startswith(SECOND_CHANCE_MARK)

"""One request through its stages: the straight line, its deadlines, and what becomes of it when a stage fails (outcomes.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import trio

from kmsconn.app.destruction import end_answered
from kmsconn.app.held import Held
from kmsconn.app.late import RESULT_LATE_AFTER, LateResults
from kmsconn.app.passage import SEVERAL, Failure, Gate, Passage
from kmsconn.app.retrying import DEFERRAL, DENIED
from kmsconn.app.stages import Stages
from kmsconn.app.taken import MARK, TakenIds
from kmsconn.checks.contexts import Contexts
from kmsconn.ciphertexts.budget import ByteBudget
from kmsconn.config.settings import Deadlines
from kmsconn.errors import (
    Aborted,
    AlreadyDone,
    Broken,
    Denied,
    Down,
    Forgotten,
    Misconfigured,
    NotMember,
    NotYet,
    Over,
    Overloaded,
    Refused,
    RejectedByCore,
    RequestError,
    Retryable,
    StageTimeout,
    Terminal,
    Undecodable,
    Unreachable,
    cause_of,
)
from kmsconn.ethereum.ids import id_name
from kmsconn.journal import moves, queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.values import Row
from kmsconn.model.events import (
    AnswerKept,
    AnswerMismatch,
    OnEvent,
    RequestClosed,
    RequestDeferred,
    Severity,
    StageFailed,
    StageFinished,
)
from kmsconn.model.life import TRANSITIONS
from kmsconn.model.requests import EventPlace, PoolName, Request
from kmsconn.model.steps import Answered, Seen, Submitted
from kmsconn.protocols.port import Operation, Profile
from kmsconn.rpc.heads import HeadTracker
from kmsconn.transport.wake_up import WakeUp

T = TypeVar("T")

KEEPING = (
    10.0  # seconds that a received answer may take to become durable while everything else is being cancelled
)
LONG_POLL = (
    5.0  # a "not ready" that took less than this was no long poll: asking again at once would only be noise
)
NOT_A_NODE = "not-a-node"
ANOTHER_WALLET = (
    "the nodes of the context answer; if this should be one, use the wallet that it was registered with"
)
SPREAD = 5.0  # seconds over which those are spread who wait for the same question
LAST_LOOK = 60.0  # seconds after the end of a request's time at which it is looked at once more: chain time is believed at a second look
SECOND_CHANCE_MARK = "second chance: "


class LongPollEnded(NotYet):
    """The Core is still at work: ask again when nobody else needs the place."""


FAMILIES = {"check": "checks", "gather": "buckets", "submit": "core", "answer": "core"}
"""Which dependencies a stage needs."""

FAULTS = (Unreachable, Overloaded, StageTimeout, Misconfigured, RejectedByCore, Refused, Broken)
"""Failures that may be the dependency's; what else a stage raises is an answer about the request."""


class Lost(Misconfigured):
    """The Core has it already and does not know its result: it was restarted before anybody had asked (L10)."""

    cause = "result-lost"


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
    txmanager_wake_ups: Mapping[int, WakeUp]
    contexts: Contexts
    budgets: Sequence[ByteBudget]  # one for each shard of the Core
    deadlines: Deadlines
    held: Held
    taken: TakenIds
    passage: Passage
    wall: Callable[[], float]
    random: Callable[[], float]
    on_event: OnEvent
    ended: set[int] = attrs.field(factory=set)
    """Contexts and epochs under which every kept answer was ended."""
    late: LateResults = attrs.field(factory=LateResults)

    async def run(self, row: Row) -> bool:
        """Work on a row once. When it returns the row is answered, deferred or closed; True: answered, so it is not due again by itself.

        Cancellation: at any time; only an answer that has arrived is still kept. Repeating: every stage may be repeated.
        """
        try:
            request = self.request_of(row)
            if self._is_over(request):
                reason = f"expired; what it last waited for: {row.reason or 'its turn'}"
                await self._close(row, "expire", reason, "deadline")
                return False
            await self._destroy(request)
            answered = await self._line(row, request)
            self.contexts.refuse_destroyed(request.content.order.under)
            return await self._keep(row, answered)
        except Forgotten as error:
            await self._forgotten(row, error)
        except LongPollEnded as error:
            await self._defer(row, "answer", str(error), 0.0)
        except Retryable as error:
            await self._wait(row, error)
        except (Refused, RejectedByCore, Broken) as error:
            await self._said_no(row, error)
        except Terminal as error:
            await self._close(row, self._ending(row, error), str(error), cause_of(error))
        except Undecodable as error:
            await self._close(row, "quarantine", str(error), cause_of(error))
        return False

    def _ending(self, row: Row, error: Terminal) -> str:
        """Return how a request ends; nobody can abort anything but a generation, so that would be a failure (L11)."""
        if isinstance(error, Aborted) and self.operation(row).pool is PoolName.KEY_GENERATION:
            return "abort"
        return (
            "found_finalized"
            if isinstance(error, AlreadyDone)
            else "finish"
            if isinstance(error, Over)
            else "reject"
        )

    def operation(self, row: Row) -> Operation[Any]:
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
        place = EventPlace(log.block_number, log.block_hash, log.transaction_hash, log.log_index)
        return Request(row.rid, row.chain_id, row.contract, content, row.digest, place, row.deadline)

    def _is_over(self, request: Request) -> bool:
        """Say whether it is too late for an answer: in chain time that is sure, since it was recorded or by the request's own window."""
        now = self.heads[request.chain_id].settled_timestamp
        if now is None:
            return False
        until = request.content.valid_until
        return now > (request.deadline if until is None else min(request.deadline, until))

    async def _destroy(self, request: Request) -> None:
        """Let nothing more be answered under what a request destroys, before its Core is told; what is signed, the contract decides."""
        destroyed = request.content.order.ends
        if destroyed <= self.ended:  # once in a process is enough: nothing is answered under it any more
            return
        self.contexts.note_destroyed(destroyed)
        reason = f"{' and '.join(map(id_name, destroyed))} was destroyed before the answer was sent"
        await end_answered(
            self.journal, self.profile, self.heads, destroyed, lambda row: self.end(row, reason)
        )
        self.ended |= destroyed

    async def _line(self, row: Row, request: Request) -> Answered:
        if row.submitted:
            if MARK in row.reason:
                self.taken.started(row.rid, existed=True)
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
        self.taken.started(row.rid, existed=submitted.existed)
        if not submitted.uncertain:
            self.journal.note_submitted(row.rid, True)
        return await self._answer(row, submitted)

    async def _answer(self, row: Row, submitted: Submitted) -> Answered:
        started = trio.current_time()
        try:
            return await self._timed(
                row, "answer", self.deadlines.answer, lambda: self.stages.answer(submitted)
            )
        except NotYet as error:
            if error.again_in is not None:  # of a chain, not of the Core
                raise
            raise self._no_result(row, str(error), trio.current_time() - started) from error
        except Forgotten as error:
            if not submitted.uncertain:
                raise
            lost = self._lost(f"{submitted.uncertain}, and then {error}")
            self._blame(row, "answer", lost)
            lost.stage = "answer"
            raise lost from error

    def _no_result(self, row: Row, reason: str, seconds: float) -> NotYet:
        """Return the error for a poll that ended without a result, after so many seconds."""
        self.taken.polled(row.rid, f"core[{self._shard(row)}]", long=not self.operation(row).expires)
        if row.rid in self.taken:
            reason = MARK + reason
        error = NotYet(reason) if seconds < LONG_POLL else LongPollEnded(reason)
        error.stage = "answer"
        return error

    def _lost(self, reason: str) -> Lost:
        """Return the error for a result that nobody can have any more."""
        return Lost(f"{reason}: the Core was restarted before its result was asked for")

    def _failed(self, row: Row, stage: str, error: RequestError) -> None:
        error.stage = stage
        self.on_event(StageFailed(row.rid, row.kind, stage, cause_of(error)))

    async def _timed(self, row: Row, stage: str, seconds: float, step: Callable[[], Awaitable[T]]) -> T:
        started = trio.current_time()
        least = self.operation(row).stages.get(stage, 0.0)
        try:
            result = await within(max(seconds, least), stage, step)
        except FAULTS as error:
            self._failed(row, stage, error)
            self._blame(row, stage, error)
            raise
        except RequestError as error:
            self._failed(row, stage, error)
            self._note_said(row, stage, error)
            raise
        self.passage.passed(self._gate(row, stage), row.rid)
        self.held.free(row.rid)
        self.on_event(StageFinished(row.rid, row.kind, stage, trio.current_time() - started))
        return result

    def _blame(self, row: Row, stage: str, error: RequestError) -> None:
        """Note a failure, and on it whose fault it is. A dependency that is gone has an alert of its own."""
        if isinstance(error, Down):
            return
        gate = self._gate(row, stage)
        if error.dependency:
            gate = attrs.evolve(gate, dependency=error.dependency)
        failure = Failure(error.cause, str(error), error.remedy)
        error.own = self.passage.failed(gate, row.rid, failure, trio.current_time())

    def _note_said(self, row: Row, stage: str, error: RequestError) -> None:
        """Note what is no failure; but a Core that gives no result for minutes fails, whatever it says."""
        if self._is_late(row, stage, error):
            text = f"no result for {RESULT_LATE_AFTER / 60:.0f} minutes: {error}"
            failure = Failure(StageTimeout.cause, text)
            self.passage.failed(self._gate(row, stage), row.rid, failure, trio.current_time())
        else:
            self.passage.answered(FAMILIES[stage], stage, row.rid)

    def _is_late(self, row: Row, stage: str, error: RequestError) -> bool:
        """Say whether the result of a decryption is late; what never expires has an alert of its own."""
        unfinished = isinstance(error, (NotYet, Forgotten)) and error.again_in is None
        if stage != "answer" or not unfinished or not self.operation(row).expires:
            return False
        return self.late.polled(row.rid, trio.current_time())

    def _gate(self, row: Row, stage: str) -> Gate:
        """Return whom a stage needs: of several shards of the Core the one that has the request.

        Key management comes one by one, in order: one request that fails is a kind that does not pass.
        """
        family = FAMILIES[stage]
        dependency = f"core[{self._shard(row)}]" if family == "core" else family
        several = SEVERAL if self.operation(row).expires else 1
        return Gate(dependency, family, stage, row.kind, several)

    def _shard(self, row: Row) -> int:
        return row.id % len(self.budgets)

    async def _keep(self, row: Row, answered: Answered) -> bool:
        now, kept = self.wall(), False
        self.passage.ended(row.rid)
        self.held.free(row.rid)
        self.taken.ended(row.rid)
        self.late.ended(row.rid)
        with trio.move_on_after(KEEPING, shield=True):
            if answered.answer is None:
                await self._close(row, "finish", "done", "done")
            elif kept := await self.journal.run(moves.answer, row.rid, answered.answer, now):
                self.on_event(AnswerKept(row.rid, row.kind, now - row.recorded_at))
                if answered.answer.mismatch:
                    self.on_event(AnswerMismatch(row.rid, row.kind, answered.answer.mismatch))
        self.txmanager_wake_ups[row.chain_id].notify()
        return kept

    async def _wait(self, row: Row, error: Retryable) -> None:
        if isinstance(error, NotMember):
            severity = Severity.CRITICAL if error.alone else Severity.WARNING
            self.held.hold((error.context, NOT_A_NODE), row.rid, str(error), severity, ANOTHER_WALLET)
        if isinstance(error, Denied):
            await self._wait_for_right(row, error)
        elif error.again_in is not None:
            await self._wait_for_others(row, error, error.again_in)
        else:
            seconds = min(DEFERRAL.seconds(row.deferred, self.random()), self.operation(row).longest_wait)
            await self._defer(row, error.stage, str(error), seconds)

    async def _wait_for_others(self, row: Row, error: Retryable, again_in: float) -> None:
        """Wait until the one question for all is asked again; what never expires looks every minute whether it is over."""
        if not self.operation(row).expires:
            again_in = min(again_in, DEFERRAL.cap)
        seconds = self._until_over(row, again_in + self.random() * min(again_in, SPREAD))
        await self._defer(row, error.stage, str(error), seconds, max_wait=max(seconds, DEFERRAL.cap))

    async def _wait_for_right(self, row: Row, error: Denied) -> None:
        """Wait for a right that was not given yet, ever longer; what was waited for before does not count."""
        again = row.reason.removeprefix(SECOND_CHANCE_MARK) == str(error)
        seconds = self._until_over(row, DENIED.seconds(row.deferred if again else 0, self.random()))
        longest = max(seconds, DEFERRAL.cap)
        await self._defer(row, error.stage, str(error), seconds, max_wait=longest, again=again)

    def _until_over(self, row: Row, seconds: float) -> float:
        """Return the wait, but no longer than until the request is too late, in chain time."""
        request = self.request_of(row)
        now = self.heads[request.chain_id].timestamp
        if now is None:
            return seconds
        until = request.content.valid_until
        last = request.deadline if until is None else min(request.deadline, until)
        return min(seconds, max(LAST_LOOK, last + LAST_LOOK - now))

    async def _forgotten(self, row: Row, error: Forgotten) -> None:
        """Submit again soon; but a Core that forgets what it has just taken is not hurried."""
        self.journal.note_submitted(row.rid, False)
        tries = 0 if row.submitted else row.deferred
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
    ) -> None:
        """Let a row wait, ``again`` or for something else; the mark of a second chance stays on it whatever it waits for."""
        if row.reason.startswith(SECOND_CHANCE_MARK):
            reason = SECOND_CHANCE_MARK + reason
        if await self.journal.run(
            moves.defer, row.rid, self.wall() + seconds, reason, max_wait=max_wait, again=again
        ):
            self.on_event(RequestDeferred(row.rid, row.kind, stage, reason, seconds))

    async def _said_no(self, row: Row, error: Refused | RejectedByCore | Broken) -> None:
        """End a request for what the Core said of it, unless it may say that of all: then the request waits."""
        if isinstance(error, Broken) and await self.journal.run(queries.has_sibling, row.rid):
            await self._submit_again(row, error, f"{error}; it may still hold other content under this id")
        elif not self._is_own_fault(row, error):
            await self._submit_again(row, error, str(error))
        elif isinstance(error, Refused) and not _had_second_chance(row):
            self.passage.ended(row.rid)  # it is silent for longer than anybody would count it
            self.journal.note_submitted(row.rid, False)
            reason = SECOND_CHANCE_MARK + str(error)
            await self._defer(row, error.stage, reason, error.second_chance, max_wait=error.second_chance)
        else:
            transition = "quarantine" if isinstance(error, Broken) else "reject"
            await self._close(row, transition, str(error), cause_of(error))

    def _is_own_fault(self, row: Row, error: RequestError) -> bool:
        """Say whether others have passed meanwhile where a request fails.

        Key management is no crowd that could pass meanwhile, and what comes behind it in the order of the chain must go on.
        """
        return error.own or not self.operation(row).expires

    async def _submit_again(self, row: Row, error: RequestError, reason: str) -> None:
        self.journal.note_submitted(row.rid, False)
        await self._defer(row, error.stage, reason, DEFERRAL.seconds(row.deferred, self.random()))

    async def end(self, row: Row, reason: str) -> None:
        """Reject a row that nobody works on. Repeating: it is told once."""
        await self._close(row, "reject", reason)

    async def _close(self, row: Row, transition: str, reason: str, cause: str = "other") -> None:
        self.passage.ended(row.rid)
        self.held.free(row.rid)
        self.taken.ended(row.rid)
        self.late.ended(row.rid)
        head = self.heads[row.chain_id].number if transition == "found_finalized" else None
        if await self.journal.run(moves.close, row.rid, transition, reason, block=head):
            self.on_event(RequestClosed(row.rid, row.kind, TRANSITIONS[transition][1], reason, cause))


def _had_second_chance(row: Row) -> bool:
    return row.reason.startswith(SECOND_CHANCE_MARK)

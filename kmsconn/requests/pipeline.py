"""One request through its stages: the straight line, from a due row to a durable answer."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import attrs
import trio

from kmsconn.chain.follower import HeadTracker
from kmsconn.ciphertexts.budget import ByteBudget, Lease
from kmsconn.config.working import Deadlines
from kmsconn.errors import (
    Broken,
    Forgotten,
    Lost,
    NotYet,
    Rejected,
    RequestError,
    StageTimeout,
    Undecodable,
    let_go,
)
from kmsconn.journal import moves, queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.rows import Row
from kmsconn.model.life import Answered, Checked, Gathered, RowCause, Seen, Submitted
from kmsconn.model.requests import IN_ORDER, Request
from kmsconn.protocols.port import Choosing
from kmsconn.protocols.profile import Profile
from kmsconn.requests.checker import DAY, DecryptionExpiry
from kmsconn.requests.contexts import Destruction
from kmsconn.requests.failures import OTHER_CONTENT, expiry_cause
from kmsconn.requests.row_outcomes import RowOutcomes
from kmsconn.requests.rows import request_of
from kmsconn.requests.stage_runner import StageRunner
from kmsconn.requests.stages import Stages

T = TypeVar("T")

CHECK_HOLDS = 30.0
"""Seconds; what is handed over later is checked once more: rights are withdrawn, windows end."""


@attrs.define
class Pipeline:
    """Takes a due row as far as it goes: to a durable answer, back to the journal, or to its end."""

    profile: Profile
    stages: Stages
    journal: Journal
    heads: Mapping[int, HeadTracker]
    destruction: Destruction
    budgets: Sequence[ByteBudget]  # one for each shard of the Core
    deadlines: Deadlines
    runner: StageRunner
    outcomes: RowOutcomes
    expiry: DecryptionExpiry = attrs.field(factory=DecryptionExpiry)

    async def run(self, row: Row) -> bool:
        """Work on a row once. When it returns the row is answered, deferred or closed; True: answered, so it is not due again by itself.

        Cancellation: at any time; only an answer that has arrived is still kept. Repeating: every stage may be repeated.
        """
        running = self.runner.running
        running[row.rid] = "", trio.current_time()
        try:
            request = request_of(self.profile, row)
            if self._is_over(row, request):
                reason = f"expired; last reason for waiting: {row.progress.reason or 'its turn'}"
                cause = expiry_cause(request) if row.over_http else RowCause.NONE
                await self.outcomes.close(row, "expire", reason, "deadline", cause)
                return False
            return (await self._line(row, request)).answer is not None
        except (RequestError, Undecodable) as error:
            let_go(error)
            await self.outcomes.failed(row, error)
        finally:
            del running[row.rid]
        return False

    def _is_over(self, row: Row, request: Request) -> bool:
        """Say whether a request's time is over by two clocks: the chain's, where it is sure, and our own since the record.

        A wrong block time, or a wrong clock of ours, ends nothing alone. A deadline that no right block time has given counts no more
        once our clock has counted a day beyond the longest one.
        """
        now, wall = self.heads[request.chain_id].settled_timestamp, self.outcomes.wall()
        if now is None or math.isinf(request.deadline):
            return False
        expiry, lifetime = self.expiry, self.profile.operations[request.kind].lifetime
        age, until = wall - row.times.recorded, request.answered_until
        longest = min(lifetime, expiry.longest())
        if until < request.deadline:
            return now > until and wall > until
        if now > until:
            return age >= min(lifetime, expiry.shortest())
        return age >= longest + DAY and request.deadline - now > longest

    async def _line(self, row: Row, request: Request) -> Answered:
        if row.progress.submitted:
            await self._end_destroyed(request)
            if RowCause.TAKEN_ID in row.progress.cause:
                self.runner.started(row.rid, existed=True)
            return await self._answer(row, Submitted(request))
        checked = await self._check(row, request)
        await self._end_destroyed(request)
        running = self.runner.running
        _, at = running[row.rid]
        with Lease(self.budgets[self.runner.shard(row)]) as lease:
            gather = partial(self.stages.gather, checked, lease)
            gathered = await self.runner.run(row, "gather", self.deadlines.gather, gather)
            if running[row.rid][1] - at > CHECK_HOLDS:
                await self._check(row, request)
            operation = self.profile.operations[request.kind]
            if isinstance(operation, Choosing):
                gathered = await settle_choice(operation, self.journal, row, gathered)
                running[row.rid] = "gather", trio.current_time()  # what the journal takes is no stage's time
            submit = partial(self.stages.submit, gathered)
            submitted = await self.runner.run(row, "submit", self.deadlines.submit, submit)
        self.runner.started(row.rid, existed=submitted.existed)
        if submitted.over:
            self.destruction.contexts.note_destroyed(submitted.over)
        if not submitted.uncertain:
            if operation.expires:
                self.journal.note_submitted(row.rid, True)
            else:  # its id would pass for a stranger's if it was started anew
                await self.journal.run(moves.note_submitted, row.rid)
                running[row.rid] = "submit", trio.current_time()
        return await self._answer(row, submitted)

    async def _end_destroyed(self, request: Request) -> None:
        """End what is under a context or epoch that is over, once that is checked."""
        if self.profile.operations[request.kind].pool in IN_ORDER:
            await self.destruction.apply(request)

    def _check(self, row: Row, request: Request) -> Awaitable[Checked]:
        return self.runner.run(row, "check", self.deadlines.check, partial(self.stages.check, Seen(request)))

    async def _answer(self, row: Row, submitted: Submitted) -> Answered:
        _, started = self.runner.running[row.rid]
        try:
            answer, keep = partial(self._believable, row, submitted), partial(self.outcomes.keep, row)
            return await self.runner.run(row, "answer", self.deadlines.answer, answer, keep)
        except NotYet as error:
            if error.again_in is not None:  # of a chain, not of the Core
                raise
            raise self.runner.no_result(row, str(error), trio.current_time() - started) from error
        except Forgotten as error:
            if not submitted.uncertain:
                raise
            what = f"{submitted.uncertain}, and then {error}"
            lost = Lost(f"{what}: the Core refused it, or was restarted before its result was asked for")
            self.runner.blame(row, "answer", lost)
            lost.stage = "answer"
            raise lost from error

    async def _believable(self, row: Row, submitted: Submitted) -> Answered:
        try:
            return await self.stages.answer(submitted)
        except Broken as error:
            broken = error  # which ``run`` lets go of
        if await self.journal.run(queries.has_sibling, row.rid):
            broken.of(cause=OTHER_CONTENT)
        raise broken


async def settle_choice(operation: Choosing[Any], journal: Journal, row: Row, gathered: Gathered) -> Gathered:
    """Return a request that is about to be started with what was chosen for it when it was first started, or is now.

    Raises JournalFailed. Cancellation: at any time; a choice that was kept holds. Repeating: the first choice holds.
    """
    request = gathered.request
    kept = row.progress.choice or await _choose(journal, operation, request)
    chosen = attrs.evolve(request, content=operation.chosen(request.content, kept))
    return attrs.evolve(gathered, request=chosen)


async def _choose(journal: Journal, operation: Choosing[Any], request: Request) -> str:
    earlier, before = operation.continues(request.content), ""
    if earlier is not None:
        known = await journal.run(queries.of_request, request.chain_id, request.contract, *earlier)
        before = known[-1].progress.choice if known else ""
        if not before:  # a guess, which an operator can correct by the option
            return operation.choose(request.content, "")
    return await journal.run(moves.keep_choice, request.rid, operation.choose(request.content, before))


async def answer_again(pipeline: Pipeline, row: Row) -> Answered:
    """Return what the Core answers to the request of a row now; one that it has forgotten is handed to it again.

    Key management is refused: handing over would begin a generation. Raises as the stages do, and Rejected, StageTimeout.
    Cancellation: at any time. Repeating: the Core gives a finished answer any number of times.
    """
    operation = pipeline.profile.operations.get(row.kind)
    if operation is None or not operation.expires:
        raise Rejected(f"only decryptions are asked for again, and this is {row.kind}")
    request, stages, deadlines = request_of(pipeline.profile, row), pipeline.stages, pipeline.deadlines
    with suppress(Forgotten):
        return await _within(deadlines.answer, "answer", stages.answer(Submitted(request)))
    # handed over without the checks: the contract has its answer by now and would say so
    checked = Checked(request, *request.content.context)
    with Lease(pipeline.budgets[pipeline.runner.shard(row)]) as lease:
        gathered = await _within(deadlines.gather, "gather", stages.gather(checked, lease))
        submitted = await _within(deadlines.submit, "submit", stages.submit(gathered))
    return await _within(deadlines.answer, "answer", stages.answer(submitted))


async def _within(seconds: float, stage: str, step: Awaitable[T]) -> T:
    with trio.move_on_after(seconds):
        return await step
    raise StageTimeout(stage, seconds)

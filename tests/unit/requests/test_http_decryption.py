"""The second source of requests: who asks over HTTP waits for a row, and has what comes of it, whoever leaves meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from kmsconn.connector.event_hook import EventHook
from kmsconn.errors import Denied, Destroyed, JournalFailed, NoCiphertext, NotMember, WindowOver
from kmsconn.journal import inspecting, moves, queries
from kmsconn.journal.rows import Row
from kmsconn.model.events import AnswerKept, RequestClosed, RequestRecorded, ignore
from kmsconn.model.http_answers import FailureCode, HttpFailure, HttpResult
from kmsconn.model.life import Answer, State
from kmsconn.model.requests import DECRYPTION_KINDS, Kind, PoolName
from kmsconn.protocols.fhevm.decryptions import RESPONSE
from kmsconn.protocols.fhevm.http_decryption import (
    HTTP_LIFETIME,
    HTTP_PATIENCE,
    HttpPublicDecryption,
    HttpUserDecryption,
)
from kmsconn.requests.checker import DecryptionExpiry
from kmsconn.requests.http_decryption import JOURNAL_FAILS, STOPPING, WAITER_LOOK, HttpIntake, HttpWaiters
from tests import vectors
from tests.unit.journal.samples import keep
from tests.unit.protocols.test_fhevm_http_decryption import PUBLIC, USER
from tests.unit.requests.bench import CHAIN_TIME, EXPIRY, PROFILE, Bench, wall

RESULT = {"decryptedResult": b"word", "signature": b"signed", "extraData": b""}
ANSWER = Answer(RESPONSE.encode(PUBLIC.id, b"word", b"signed", b""), None)


@attrs.define(eq=False)
class Counter:
    """What stands at the counter: the port that is tested, over a pipeline whose stages do what a test says."""

    bench: Bench
    port: HttpIntake
    dispatched: list[PoolName]
    nursery: trio.Nursery
    results: list[HttpResult | HttpFailure] = attrs.field(factory=list)

    async def ask(self, content: Any = PUBLIC) -> trio.CancelScope:
        """Let a client ask and wait; return the scope that lets it leave."""
        scope = trio.CancelScope()

        async def client() -> None:
            with scope:
                try:
                    self.results.append(await self.port.decrypt(content))
                except HttpFailure as failure:
                    self.results.append(failure)

        self.nursery.start_soon(client)
        await trio.testing.wait_all_tasks_blocked()
        return scope

    async def rows(self) -> tuple[Row, ...]:
        """Return the rows that are due."""
        due = await self.bench.journal.run(queries.due, sorted(DECRYPTION_KINDS), wall() + 1e6, 10)
        return due.rows

    async def work(self) -> Row:
        """Let the one row that is due go through the pipeline once."""
        [row] = await self.rows()
        row = await self.bench.run(row)
        await trio.testing.wait_all_tasks_blocked()
        return row

    @property
    def failure(self) -> HttpFailure:
        """The one failure that came out."""
        [failure] = self.results
        assert isinstance(failure, HttpFailure)
        return failure


@pytest.fixture
async def at(bench: Bench) -> AsyncIterator[Counter]:
    waiters, dispatched = HttpWaiters(), list[PoolName]()
    tell = EventHook(bench.events.append, waiters)
    bench.pipeline.outcomes.on_event = tell
    bench.stages.kept = ANSWER
    port = HttpIntake(
        PROFILE, bench.journal, bench.head, wall, DecryptionExpiry(EXPIRY), dispatched.append, tell, waiters
    )
    async with trio.open_nursery() as nursery:
        yield Counter(bench, port, dispatched, nursery)
        nursery.cancel_scope.cancel()
    assert not len(waiters)


async def test_a_request_is_recorded_dispatched_and_answered(at: Counter) -> None:
    await at.ask()
    assert at.dispatched == [PoolName.HTTP_PUBLIC_DECRYPTION]
    [recorded] = at.bench.told(RequestRecorded)
    assert (recorded.kind, recorded.id) == (Kind.HTTP_PUBLIC_DECRYPTION, PUBLIC.id)
    row = await at.work()
    assert row.progress.deadline == CHAIN_TIME + HTTP_LIFETIME, "an hour of chain time"
    assert (row.state, row.answer) == (State.DONE, ANSWER)
    assert at.results == [HttpResult(PUBLIC.id, RESULT)]
    with pytest.raises(trio.TooSlowError), trio.fail_after(1):  # the transaction manager is left in peace
        await at.bench.pipeline.outcomes.txmanager_wake_ups[row.event.chain_id].wait()
    assert [type(one) for one in at.bench.events if isinstance(one, (AnswerKept, RequestClosed))] == [
        AnswerKept,
        RequestClosed,
    ]


async def test_two_clients_with_one_content_have_one_row_and_an_answer_each(at: Counter) -> None:
    await at.ask()
    await at.ask()
    await at.work()
    assert at.results == [HttpResult(PUBLIC.id, RESULT)] * 2
    assert len(at.bench.told(RequestRecorded)) == 1
    assert at.bench.stages.took == ["check", "gather", "submit", "answer"]


async def test_the_same_request_later_has_the_answer_at_once(at: Counter) -> None:
    await at.ask()
    await at.work()
    await at.ask()
    assert at.results == [HttpResult(PUBLIC.id, RESULT)] * 2
    assert len(at.dispatched) == 1


async def test_a_client_that_leaves_takes_nothing_with_it(at: Counter) -> None:
    leaving = await at.ask()
    await at.ask()
    leaving.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert len(at.port.waiters) == 1
    await at.work()
    assert at.results == [HttpResult(PUBLIC.id, RESULT)]


async def test_a_client_waits_only_for_its_own_request(at: Counter) -> None:
    await at.ask(USER)
    await at.ask()
    row = next(row for row in await at.rows() if row.id == PUBLIC.id)
    await at.bench.run(row)
    await trio.testing.wait_all_tasks_blocked()
    assert at.results == [HttpResult(PUBLIC.id, RESULT)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Denied("no right"), FailureCode.ACL_DENIED),
        (NotMember("others answer it", "context 0x07"), FailureCode.KMS_CONTEXT_INVALID),
    ],
)
async def test_a_no_ends_the_request_and_asking_again_begins_it_again(
    error: Any, code: FailureCode, at: Counter
) -> None:
    at.bench.let(check=error)
    await at.ask()
    row = await at.work()
    assert row.state is State.REJECTED
    assert (at.failure.code, at.failure.retryable, at.failure.decryption_id) == (code, True, PUBLIC.id)
    at.bench.stages.does.clear()
    await at.ask()
    row = await at.work()
    assert row.state is State.DONE
    assert at.results[1:] == [HttpResult(PUBLIC.id, RESULT)]
    assert len(at.bench.told(RequestRecorded)) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Destroyed("context 0x07", 7), FailureCode.KMS_CONTEXT_DESTROYED),
        (WindowOver("yesterday"), FailureCode.USER_SIGNATURE_REJECTED),
    ],
)
async def test_what_is_final_is_said_again_without_work(error: Any, code: FailureCode, at: Counter) -> None:
    at.bench.let(check=error)
    await at.ask()
    await at.work()
    assert (at.failure.code, at.failure.retryable) == (code, False)
    await at.ask()
    assert [one.code for one in at.results if isinstance(one, HttpFailure)] == [code, code]
    assert await at.rows() == ()


async def test_a_ciphertext_that_nobody_has_is_looked_for_for_a_while(at: Counter) -> None:
    at.bench.let(gather=NoCiphertext("nobody has it"))
    await at.ask()
    assert (await at.work()).state is State.PENDING
    await trio.sleep(HTTP_PATIENCE)
    assert (await at.work()).state is State.REJECTED
    assert (at.failure.code, at.failure.retryable) == (FailureCode.CIPHERTEXT_NOT_FOUND, True)


async def test_a_request_whose_time_is_over_says_so_and_may_be_asked_again(at: Counter) -> None:
    await at.ask()
    await at.bench.chain_time(int(CHAIN_TIME + HTTP_LIFETIME) + 1)
    assert (await at.work()).state is State.EXPIRED
    assert (at.failure.code, at.failure.retryable) == (FailureCode.TIMEOUT, True)
    await at.ask()
    assert (await at.work()).state is State.DONE


async def test_a_window_that_ends_meanwhile_is_final(at: Counter) -> None:
    content = _user(start=CHAIN_TIME, duration=10)
    await at.ask(content)
    await at.bench.chain_time(CHAIN_TIME + 11)
    assert (await at.work()).state is State.EXPIRED
    assert (at.failure.code, at.failure.retryable) == (FailureCode.USER_SIGNATURE_REJECTED, False)


def _user(**changes: Any) -> HttpUserDecryption:
    names = ("user", "public_key", "allowed_contracts", "start", "duration", "extra_data", "signature")
    return HttpUserDecryption.of(USER.handles, **{name: getattr(USER, name) for name in names} | changes)


async def test_what_an_operator_skips_is_told(at: Counter) -> None:
    await at.ask()
    [row] = await at.rows()
    await at.bench.journal.run(inspecting.skip, row.rid, "no")
    at.port.on_event(RequestClosed(row.rid, row.kind, State.REJECTED, "no", "skipped", told=True, id=row.id))
    await trio.testing.wait_all_tasks_blocked()
    assert (at.failure.code, at.failure.retryable) == (FailureCode.UNPROCESSABLE, False)


async def test_what_nobody_tells_is_found_by_looking(at: Counter) -> None:
    """Another program may have ended the row: it tells no event of this process."""
    await at.ask()
    [row] = await at.rows()
    await at.bench.journal.run(keep, row.rid, ANSWER, wall(), transition="deliver")
    assert not at.results
    await trio.sleep(WAITER_LOOK + 1)
    assert at.results == [HttpResult(PUBLIC.id, RESULT)]


async def test_an_answer_that_cannot_be_read_is_none(at: Counter) -> None:
    at.bench.stages.kept = Answer(b"nonsense", None)
    await at.ask()
    await at.work()
    assert at.failure.code is FailureCode.UNKNOWN


async def test_a_connector_that_stops_sends_its_clients_away(at: Counter) -> None:
    await at.ask()
    at.port.close()
    await trio.testing.wait_all_tasks_blocked()
    assert (at.failure.code, at.failure.message) == (FailureCode.UPSTREAM_TRANSIENT, STOPPING)
    [row] = await at.rows()
    assert row.state is State.PENDING, "the next process goes on with it"
    await at.ask()
    assert [one.message for one in at.results if isinstance(one, HttpFailure)] == [STOPPING] * 2


async def test_an_answer_that_came_before_the_stop_is_given(at: Counter) -> None:
    await at.ask()
    [row] = await at.rows()
    await at.bench.journal.run(keep, row.rid, ANSWER, wall(), transition="deliver")
    at.port.close()
    await trio.testing.wait_all_tasks_blocked()
    assert at.results == [HttpResult(PUBLIC.id, RESULT)]


async def test_a_journal_that_cannot_be_written_is_told(at: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise JournalFailed("the disk is full")

    monkeypatch.setattr(moves, "take", full)
    await at.ask()
    assert (at.failure.code, at.failure.message) == (FailureCode.UPSTREAM_TRANSIENT, JOURNAL_FAILS)


async def test_too_many_requests_in_work_are_refused(at: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "MOST_PENDING", 1)
    await at.ask()
    await at.ask(HttpPublicDecryption.of([b"\x09" * 32], b""))
    assert (at.failure.code, at.failure.retryable) == (FailureCode.OVERLOADED, True)


async def test_before_the_first_head_the_wall_clock_stands_for_the_chains(at: Counter) -> None:
    at.bench.head.timestamp = None
    await at.ask()
    [row] = await at.rows()
    assert row.progress.deadline == pytest.approx(wall() + HTTP_LIFETIME)


async def test_a_request_from_the_chain_is_none_of_these(at: Counter) -> None:
    content = PROFILE.decode(vectors.log_of(vectors.request("public_one_v0")))
    with pytest.raises(ValueError, match="public_decryption over HTTP"):
        await at.port.decrypt(content)  # type: ignore[arg-type]


@pytest.mark.parametrize("moment", range(4))
async def test_a_cancellation_at_any_wait_leaves_a_row_that_is_worked_on(moment: int, at: Counter) -> None:
    with trio.CancelScope() as scope:

        async def leave() -> None:
            for _ in range(moment):
                await trio.lowlevel.checkpoint()
            scope.cancel()

        at.nursery.start_soon(leave)
        await at.port.decrypt(PUBLIC)
    await at.ask()
    await at.work()
    assert at.results == [HttpResult(PUBLIC.id, RESULT)]


async def test_waiters_hear_only_of_ends_over_http() -> None:
    waiters = HttpWaiters()
    tell = EventHook(ignore, waiters)
    with waiters.waiter(5) as wake_up:
        tell(RequestClosed(1, Kind.PUBLIC_DECRYPTION, State.REJECTED, "no", id=5))
        with trio.move_on_after(1) as scope:
            await wake_up.wait()
        assert scope.cancelled_caught
        tell(RequestClosed(1, Kind.PUBLIC_DECRYPTION, State.REJECTED, "no", told=True, id=5))
        await wake_up.wait()

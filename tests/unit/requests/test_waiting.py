"""Waiting that ends and questions that are not asked in vain: how long a row is put off, and what ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.errors import Denied, Forgotten, NotMember, NotYet, Refused, Unreachable
from kmsconn.journal import moves, queries
from kmsconn.journal.recording import Arrival
from kmsconn.journal.rows import Row
from kmsconn.model.alerts import PATIENCE
from kmsconn.model.events import AlertRaised, RequestClosed, RequestDeferred
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import PoolName
from kmsconn.protocols.fhevm.user_decryption import UnifiedUserDecryption
from kmsconn.requests.contexts import PAGE
from kmsconn.requests.dispatcher import WorkerPool
from kmsconn.requests.failures import DENIED, LAST_LOOK, NOT_A_NODE, SOON, SPREAD
from kmsconn.requests.row_outcomes import LONGEST_TRACE
from kmsconn.transport.waiting import WakeUp
from tests.unit.journal.samples import keep
from tests.unit.requests.bench import ANSWER, CHAIN_TIME, EXPIRY, PROFILE, Bench, open_bench, wall
from tests.vectors import keys, log_of, requests

DAY = 86_400.0
NO = Denied("handle aa is not allowed")


def context_of(row: Row) -> int | None:
    content = PROFILE.decode(row.event.log)
    assert content is not None
    return content.context[0]


def waits(bench: Bench) -> list[float]:
    return [one.seconds for one in bench.told(RequestDeferred)]


async def run_when_due(bench: Bench, row: Row, seconds: float) -> int:
    """Work on a row whenever it is due, for so long; return how often that was."""
    end, times = trio.current_time() + seconds, 0
    while trio.current_time() < end:
        row, times = await bench.run(row), times + 1
        await trio.sleep(max(0.0, row.progress.next_attempt - wall()))
    return times


@pytest.mark.parametrize("random", [0.0, 0.5, 0.999])
async def test_a_denied_request_is_tried_39_times_in_a_day_at_most(random: float, bench: Bench) -> None:
    """Whatever the jitter; a right that is given within minutes is noticed within minutes."""
    bench.let(check=NO)
    bench.pipeline.outcomes.random = lambda: random
    times = await run_when_due(bench, await bench.record(), DAY)
    assert 30 <= times <= 39
    assert waits(bench)[:4] == pytest.approx([DENIED.first * 2**n * (0.9 + random / 10) for n in range(4)])
    assert max(waits(bench)) <= DENIED.cap


async def test_what_was_waited_for_before_a_denial_does_not_make_it_rarer(bench: Bench) -> None:
    """A host chain that was down for an hour comes back, and lags."""
    bench.let(check=Unreachable("down"))
    row = await bench.record()
    for _ in range(12):
        row = await bench.run(row)
    bench.stages.does["check"] = NO
    for _ in range(3):
        row = await bench.run(row)
    assert waits(bench)[-3:] == pytest.approx([0.5 * 0.95, 0.95, 2 * 0.95])


async def test_a_denial_after_a_second_chance_is_asked_ever_more_rarely_too(bench: Bench) -> None:
    bench.let(check=NO)
    row = await bench.record()
    await bench.journal.run(moves.defer, row.rid, wall(), "INTERNAL", cause=RowCause.SECOND_CHANCE)
    row = await bench.row(row.rid)
    for _ in range(3):
        row = await bench.run(row)
    assert waits(bench) == pytest.approx([0.5 * 0.95, 0.95, 2 * 0.95])


async def test_nothing_waits_far_beyond_the_end_of_its_time(bench: Bench) -> None:
    """Else it would be told as expired up to an hour late."""
    bench.let(check=NO)
    row = await bench.record()
    for _ in range(20):
        row = await bench.run(row)
    await bench.chain_time(int(CHAIN_TIME + EXPIRY) - 100)
    await bench.run(row)
    assert waits(bench)[-1] == pytest.approx(100 + LAST_LOOK)


def outsider(alone: bool = False, again_in: float = 40.0) -> NotMember:
    error = NotMember("tx sender 0x0a is not a node of context 0x07", "context 0x07", alone=alone)
    error.again_in = again_in
    return error


async def test_requests_of_another_context_wait_until_the_question_is_asked_again(bench: Bench) -> None:
    bench.let(check=outsider(again_in=3600.0))
    row = await bench.run(await bench.record())
    assert 3600.0 <= waits(bench)[-1] <= 3600.0 + SPREAD
    assert not (await bench.journal.run(queries.due, (row.kind,), wall() + 3000, 9, frozenset())).rows


async def test_a_generation_of_another_context_looks_every_minute_whether_it_is_over(bench: Bench) -> None:
    bench.let(check=outsider(again_in=3600.0))
    await bench.run(await bench.record_key_request("keygen_default"))
    assert SOON.cap <= waits(bench)[-1] <= SOON.cap + SPREAD


async def test_who_is_in_no_valid_context_is_told_once_with_the_number_of_requests(bench: Bench) -> None:
    names = ["public_one_v0", "public_three_v0", "public_one_v1", "public_one_v2"]
    bench.let(check=outsider(alone=True))
    rows = [await bench.record(name, block=10 + n) for n, name in enumerate(names)]
    for row in rows:
        await bench.run(row)
    [found] = bench.holdups()
    assert (found.reason.dependency, found.reason.cause, found.count) == ("context 0x07", NOT_A_NODE, 4)
    assert found.reason.critical
    bench.stages.does.clear()
    for row in rows:
        await bench.run(await bench.row(row.rid))
    assert bench.holdups() == ()


async def test_requests_of_another_context_are_no_concern_of_a_node_that_has_its_own(bench: Bench) -> None:
    bench.let(check=outsider())
    for n, name in enumerate(["public_one_v0", "public_three_v0", "public_one_v1"]):
        await bench.run(await bench.record(name, block=10 + n))
    await trio.sleep(PATIENCE)
    assert bench.holdups() == ()


# --- destroyed


def end_of(identifier: int) -> Arrival:
    """Return the end of a context."""
    log = keys.log("context_1_destroyed")
    return Arrival(
        identifier,
        keys.content("context_1_destroyed").kind,
        identifier.to_bytes(32),
        attrs.evolve(log, topics=(log.topics[0], identifier.to_bytes(32))),
        expires=False,
    )


async def answered(bench: Bench, name: str, block: int) -> Row:
    row = await bench.record(name, block=block)
    await bench.journal.run(keep, row.rid, ANSWER, wall())
    return row


async def test_an_end_ends_every_kept_answer_under_it_and_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kmsconn.requests.contexts.PAGE", 1)
    assert PAGE > 1
    under = [await answered(bench, name, 10 + n) for n, name in enumerate(["public_one_v1", "public_one_v2"])]
    other = await answered(bench, "public_one_v0", 20)
    [context] = {context_of(row) for row in under}
    assert context is not None
    bench.stages.kept = None
    end = await bench.run(await bench.record_arrival(end_of(context)))
    assert end.state is State.DONE
    for row in under:
        found = await bench.row(row.rid)
        assert (found.state, found.progress.cause) == (State.REJECTED, RowCause.DESTROYED)
        assert "was destroyed" in found.progress.reason
    assert (await bench.row(other.rid)).state is State.ANSWERED
    assert {one.rid for one in bench.told(RequestClosed)} == {end.rid, *(row.rid for row in under)}


async def test_an_answer_that_comes_after_the_end_is_not_kept(bench: Bench) -> None:
    row = await bench.record("public_one_v1")
    context = context_of(row)
    bench.stages.does["answer"] = lambda: note(bench, context)
    found = await bench.run(row)
    assert (found.state, found.answer) == (State.REJECTED, None)
    assert found.progress.reason == f"context 0x{context:064x} was destroyed"
    assert found.progress.cause is RowCause.DESTROYED


async def note(bench: Bench, context: Any) -> None:
    await trio.lowlevel.checkpoint()
    bench.pipeline.destruction.contexts.note_destroyed([context])


async def test_the_next_process_goes_on_with_a_destruction(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        end = await bench.record_arrival(end_of(7 << 248 | 1))
        row = await answered(bench, "public_one_v1", 30)
    async with open_bench(tmp_path, submit=NotYet("INTERNAL")) as bench:
        assert (await bench.run(end)).state is State.PENDING
        assert (await bench.row(row.rid)).state is State.REJECTED


async def test_kept_answers_are_looked_through_once_however_long_the_core_refuses(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Core that cannot destroy anything is told every minute; tens of thousands of answers may wait for the Gateway meanwhile."""
    looks = []
    honest = queries.answered_after

    def counted(db: Any, *asked: Any) -> Any:
        looks.append(asked)
        return honest(db, *asked)

    monkeypatch.setattr(queries, "answered_after", counted)
    bench.let(submit=NotYet("INTERNAL"))
    end = await bench.record_arrival(end_of(7 << 248 | 1))
    for _ in range(5):
        await bench.run(end)
    assert len(looks) == 2  # one for each chain


UNIFIED = requests("unified")[0]


async def test_a_unified_request_that_the_core_has_ends_with_its_own_window(bench: Bench) -> None:
    """outcomes, deadlines: 24 h from its record, and the end of validity; also where the checks are behind it."""
    content = PROFILE.decode(log_of(UNIFIED))
    assert isinstance(content, UnifiedUserDecryption)
    end = content.start + content.duration
    bench.let(answer=NotYet("still computing"))
    row = await bench.record(UNIFIED["name"])
    assert row.progress.deadline == CHAIN_TIME + 86_400
    row = attrs.evolve(row, progress=attrs.evolve(row.progress, deadline=float(end + 1000), submitted=True))
    await bench.chain_time(end)
    assert (await bench.run(row)).state is State.PENDING
    await bench.chain_time(end + 1)
    assert (await bench.run(row)).state is State.EXPIRED


@pytest.mark.parametrize("stage", ["check", "gather", "submit", "answer"])
@pytest.mark.parametrize("error", [Unreachable("x"), NotYet("x"), Refused("x")])
async def test_a_deferral_names_its_stage(tmp_path: Path, stage: str, error: Exception) -> None:
    """The metrics of 0.14 count what waits by stage."""
    failing: dict[str, Any] = {stage: type(error)("x")}
    async with open_bench(tmp_path, **failing) as bench:
        await bench.run(await bench.record())
    assert [event.stage for event in bench.told(RequestDeferred)] == [stage]


async def test_a_core_that_forgets_at_once_what_it_took_is_asked_less_and_less(bench: Bench) -> None:
    """Each try downloads every ciphertext again."""
    bench.let(answer=Forgotten("who?"))
    row = await bench.record()
    for _ in range(6):
        row = await bench.run(row)
    waits = [event.seconds for event in bench.told(RequestDeferred)]
    assert waits == [SOON.seconds(tries, 0.5) for tries in range(6)]


async def test_nothing_is_told_of_a_deferral_that_did_not_happen(bench: Bench) -> None:
    row = await bench.record()

    async def closed_meanwhile() -> None:
        await bench.journal.run(moves.move, "reject", row.rid, reason="by the operator")
        raise NotYet("not now")

    bench.stages.does["check"] = closed_meanwhile
    await bench.run(row)
    assert bench.told(RequestDeferred) == []


async def test_an_unexpected_error_keeps_its_traceback_and_tells_its_last_line(bench: Bench) -> None:
    row = await bench.record()

    async def work(_row: Row) -> bool:
        raise ZeroDivisionError("oops" * LONGEST_TRACE)

    pool = WorkerPool(PoolName.PUBLIC_DECRYPTION, (row.kind,), 1, WakeUp())
    pool.dispatch(row)
    with trio.move_on_after(1):
        await pool.run(work, bench.pipeline.outcomes.unexpected)
    kept = await bench.row(row.rid)
    assert kept.state is State.QUARANTINED
    assert len(kept.progress.reason) == LONGEST_TRACE
    [closed], [trouble] = bench.told(RequestClosed), bench.told(AlertRaised)
    assert closed.reason.startswith("unexpected ZeroDivisionError")
    assert trouble.critical
    assert pool.free == 1

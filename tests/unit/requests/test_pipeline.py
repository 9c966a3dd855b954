"""What becomes of a request when a stage succeeds, fails in each way, takes too long or is cancelled (outcomes.md)."""

from __future__ import annotations

import itertools
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.port import RpcError
from kmsconn.config.working import Deadlines
from kmsconn.errors import (
    Aborted,
    AbortedByCore,
    AlreadyDone,
    Broken,
    Denied,
    Destroyed,
    Forgotten,
    Misconfigured,
    NotYet,
    Over,
    Refused,
    RejectedByCore,
    RequestError,
    Undecodable,
    Unreachable,
    WindowOver,
    WrongSignature,
)
from kmsconn.ethereum.abi import Log
from kmsconn.journal import moves
from kmsconn.journal.recording import Arrival
from kmsconn.journal.rows import Row
from kmsconn.model.alerts import alert_of
from kmsconn.model.events import AnswerKept, RequestClosed, RequestDeferred, StageFailed, StageFinished
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import Kind
from kmsconn.requests.failures import SELDOM, rule_of
from kmsconn.requests.pipeline import CHECK_HOLDS
from kmsconn.requests.stage_runner import KEEPING, LONG_POLL
from kmsconn.requests.stages import retrying
from kmsconn.testing.endings import cancel_everywhere
from tests.faults.mutations import the_arrived_answer_is_not_shielded
from tests.left_behind import left_behind
from tests.unit.requests.bench import ANSWER, CHAIN_TIME, EXPIRY, Bench, open_bench, other_data, wall
from tests.vectors import keys

STAGES = ("check", "gather", "submit", "answer")

# What a stage may raise → the state it leaves the request in; ``test_failures`` has the whole table.
CASES = [
    pytest.param(error, state, id=type(error).__name__)
    for error, state in {
        Unreachable("nobody"): State.PENDING,
        AlreadyDone("it is there"): State.FINALIZED,
        Over("nobody waits"): State.DONE,
        WindowOver("yesterday"): State.REJECTED,
        Undecodable("no such form"): State.QUARANTINED,
    }.items()
]


def bench_whose(folder: Path, stage: str, does: Any) -> AbstractAsyncContextManager[Bench]:
    """Return a bench, one stage of which raises or does this."""
    stages: dict[str, Any] = {stage: does}
    return open_bench(folder, **stages)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("error", "state"), CASES)
async def test_every_error_of_every_stage_has_its_outcome(
    error: Exception, state: State, stage: str, tmp_path: Path
) -> None:
    async with bench_whose(tmp_path, stage, error) as bench:
        row = await bench.run(await bench.record())
    assert row.state is state
    assert str(error) in row.progress.reason
    assert bench.stages.took == list(STAGES[: STAGES.index(stage) + 1])
    told = bench.told(RequestDeferred if state is State.PENDING else RequestClosed)
    assert [str(error) in event.reason for event in told] == [True]
    assert row.reply.included_block == (bench.head.number if state is State.FINALIZED else None)


async def test_what_ended_with_a_context_is_refused_without_a_question(bench: Bench) -> None:
    epoch_id = 8 << 248 | 5
    bench.stages.kept, bench.stages.over = None, frozenset({epoch_id})
    await bench.run(await bench.record_key_request("context_1_destroyed"))
    with pytest.raises(Destroyed):
        bench.pipeline.destruction.contexts.recall(7 << 248 | 9, epoch_id)


async def test_an_end_waits_ten_minutes_at_the_most_and_others_one(bench: Bench) -> None:
    bench.let(submit=NotYet("INTERNAL"))
    waits = {}
    for name in ("context_1_destroyed", "context_2_new"):
        row = await bench.record_key_request(name)
        for _ in range(14):
            row = await bench.run(row)
        waits[name] = row.progress.next_attempt - wall()
    assert 300 <= waits["context_1_destroyed"] <= 600
    assert 30 <= waits["context_2_new"] <= 60


@pytest.mark.parametrize("withdrawn", [False, True])
async def test_what_is_handed_over_late_is_checked_once_more(withdrawn: bool, bench: Bench) -> None:
    async def slowly() -> None:
        await trio.sleep(CHECK_HOLDS + 1)
        if withdrawn:
            bench.stages.does["check"] = Denied("no right any more")

    bench.stages.does["gather"] = slowly
    row = await bench.run(await bench.record())
    assert bench.stages.took == ["check", "gather", "check"] + ["submit", "answer"] * (not withdrawn)
    assert row.state is (State.PENDING if withdrawn else State.ANSWERED)
    assert row.progress.reason == ("no right any more" if withdrawn else "")


@pytest.mark.parametrize("error", [RpcError(1, "x"), KeyError("x"), ZeroDivisionError()])
async def test_an_unexpected_error_is_left_to_the_worker(error: Exception, bench: Bench) -> None:
    bench.let(gather=error)
    row = await bench.record()
    with pytest.raises(type(error)):
        await bench.pipeline.run(row)
    assert (await bench.row(row.rid)).state is State.PENDING
    assert bench.pipeline.budgets[0].used == 0


# The straight line.


async def test_a_request_goes_through_all_stages_and_its_answer_is_kept(bench: Bench) -> None:
    row = await bench.run(await bench.record())
    with trio.fail_after(1):
        await bench.pipeline.outcomes.txmanager_wake_ups[
            row.event.chain_id
        ].wait()  # the transaction manager was notified
    assert (row.state, row.answer, row.progress.reason) == (State.ANSWERED, ANSWER, "")
    assert [event.stage for event in bench.told(StageFinished)] == list(STAGES)
    assert {event.id for event in (*bench.told(StageFinished), *bench.told(AnswerKept))} == {row.id}
    assert len(bench.told(AnswerKept)) == 1


async def test_a_row_is_done_only_once_its_answer_is_kept(bench: Bench) -> None:
    row = await bench.record()
    bench.let(answer=NotYet("not yet"))
    assert not await bench.pipeline.run(row)
    bench.stages.does.clear()
    assert await bench.pipeline.run(row)


async def test_what_the_core_has_goes_straight_to_its_answer_and_what_it_forgot_is_submitted_again(
    bench: Bench,
) -> None:
    bench.let(answer=Unreachable("gone"))
    row = await bench.run(await bench.record())
    assert row.progress.submitted
    bench.stages.took.clear()
    bench.let(answer=Forgotten("restarted"))
    row = await bench.run(row)
    assert (row.progress.submitted, bench.stages.took) == (False, ["answer"])
    bench.stages.does.clear()
    bench.stages.took.clear()
    assert (await bench.run(row)).state is State.ANSWERED
    assert bench.stages.took == list(STAGES)


async def test_ciphertexts_are_held_in_the_budget_of_their_shard_until_the_answer_is_waited_for(
    tmp_path: Path,
) -> None:
    held = []
    async with open_bench(tmp_path, shards=3) as bench:
        row = await bench.record()

        async def look() -> None:
            await trio.lowlevel.checkpoint()
            held.append([budget.used for budget in bench.pipeline.budgets])

        bench.stages.does.update(submit=look, answer=look)
        await bench.run(row)
    assert held == [[bench.stages.bytes if shard == row.id % 3 else 0 for shard in range(3)], [0, 0, 0]]


async def test_a_trouble_of_the_core_names_the_shard_that_has_the_request(tmp_path: Path) -> None:
    async with open_bench(tmp_path, shards=3, submit=Unreachable("down")) as bench:
        row = await bench.record()
        await bench.run(row)
    [reason] = bench.reasons()
    assert (reason.dependency, reason.cause) == (f"core[{row.id % 3}]", "calls-fail")


async def test_an_answer_to_a_row_that_moved_meanwhile_changes_nothing(bench: Bench) -> None:
    row = await bench.record()
    bench.stages.does["answer"] = partial(
        bench.journal.run, moves.move, "reject", row.rid, reason="by the operator"
    )
    assert (await bench.run(row)).state is State.REJECTED
    assert bench.told(AnswerKept) == []


# Waiting.


async def test_misconfiguration_is_named_with_its_dependency(bench: Bench) -> None:
    error = Misconfigured("it is not configured").of("host chain 5", "not-configured", "add it")
    bench.let(check=error)
    await bench.run(await bench.record())
    [reason] = bench.reasons()
    assert (reason.dependency, reason.cause, reason.text, reason.remedy) == (
        "host chain 5", "not-configured", "it is not configured", "add it",
    )  # fmt: skip


@pytest.mark.parametrize(("late", "state"), [(0, State.PENDING), (1, State.EXPIRED)])
async def test_a_deadline_is_in_chain_time_and_tells_what_was_waited_for(
    late: int, state: State, bench: Bench
) -> None:
    bench.let(check=NotYet("not allowed"))
    row = await bench.run(await bench.record())
    await bench.chain_time(CHAIN_TIME + int(EXPIRY) + late)
    row = await bench.run(row)
    assert row.state is state
    assert "not allowed" in row.progress.reason


async def test_one_node_that_dreams_of_the_future_expires_nothing(bench: Bench) -> None:
    bench.let(check=NotYet("not allowed"))
    row = await bench.record()
    await bench.chain_time(CHAIN_TIME)
    bench.head.note(1 << 40, CHAIN_TIME + 10 * int(EXPIRY))
    assert (await bench.run(row)).state is State.PENDING


async def test_an_answer_that_comes_after_the_deadline_is_kept(bench: Bench) -> None:
    async def late() -> None:
        bench.head.note(200, CHAIN_TIME + 10 * int(EXPIRY))

    bench.stages.does["answer"] = late
    assert (await bench.run(await bench.record())).state is State.ANSWERED


@pytest.mark.parametrize("stage", STAGES)
async def test_a_stage_that_hangs_is_ended_by_its_deadline(stage: str, tmp_path: Path) -> None:
    async with bench_whose(tmp_path, stage, trio.sleep_forever) as bench:
        row = await bench.run(await bench.record())
    seconds = getattr(Deadlines(), stage)
    assert trio.current_time() == pytest.approx(seconds)
    assert (row.state, row.progress.reason) == (State.PENDING, f"{stage} took longer than {seconds:g} s")


@pytest.mark.parametrize(("seconds", "at_once"), [(0, False), (LONG_POLL, True)])
async def test_a_long_poll_without_an_answer_is_due_again_at_once_and_a_quick_no_is_not(
    seconds: float, at_once: bool, bench: Bench
) -> None:
    bench.let(answer=partial(later, seconds, NotYet("still computing")))
    row = await bench.run(await bench.record())
    assert row.progress.submitted
    assert (row.progress.next_attempt == pytest.approx(wall(), rel=0, abs=0.01)) is at_once
    assert (row.progress.next_attempt > wall()) is not at_once


async def later(seconds: float, error: Exception) -> None:
    await trio.sleep(seconds)
    raise error


# What the Core says of a request.

CORE_SAYS = [
    RejectedByCore("INVALID_ARGUMENT"),
    Refused("INTERNAL"),
    AbortedByCore("ABORTED"),
    Broken("core", "a lie"),
]
named = pytest.mark.parametrize("error", CORE_SAYS, ids=lambda one: type(one).__name__)


async def refused(bench: Bench, row: Row, times: int) -> tuple[Row, list[float]]:
    """Let a row be refused so often; return it and how long it waited each time."""
    before = len(bench.told(RequestDeferred))
    for _ in range(times):
        row = await bench.run(row)
    return row, [one.seconds for one in bench.told(RequestDeferred)[before:]]


@pytest.mark.parametrize("stage", ["submit", "answer"])
@named
async def test_nothing_that_the_core_says_ends_a_decryption_and_it_is_asked_ever_more_rarely(
    error: RequestError, stage: str, tmp_path: Path
) -> None:
    async with bench_whose(tmp_path, stage, error) as bench:
        row, waits = await refused(bench, await bench.record(), 6)
        del bench.stages.does[stage]
        await bench.run(await bench.record("public_one_v1"))  # another passes meanwhile
        bench.stages.does[stage] = error
        row, later = await refused(bench, row, 6)
        assert (row.state, row.progress.reason, row.progress.submitted) == (State.PENDING, str(error), False)
        assert row.progress.cause is RowCause.REFUSED_BY_CORE
        assert [*waits, *later] == [SELDOM.seconds(tries, 0.5) for tries in range(12)]
        assert later[-1] == SELDOM.cap * 0.75
        del bench.stages.does[stage]
        assert (await bench.run(row)).state is State.ANSWERED


@pytest.mark.parametrize("stage", ["submit", "answer"])
@pytest.mark.parametrize("shards", [1, 2])
async def test_a_call_that_does_not_reach_the_core_is_noted_for_its_shard(
    shards: int, stage: str, tmp_path: Path
) -> None:
    does: dict[str, Any] = {stage: Unreachable("refused")}
    async with open_bench(tmp_path, shards=shards, **does) as bench:
        row = await bench.run(await bench.record())
        assert bench.core_health._unreached.keys() == {row.id % shards}
        bench.stages.does[stage] = Refused("INTERNAL")
        await bench.run(row)
        assert bench.core_health._unreached == {}


@named
async def test_key_management_must_go_on_and_believes_its_core(error: RequestError, bench: Bench) -> None:
    """With a second chance after INTERNAL, in an hour, and after ABORTED, in two seconds, once the chain was asked."""
    bench.let(answer=error)
    row, waits = await refused(bench, await bench.record_key_request("keygen_default"), 1)
    if isinstance(error, Refused):
        assert (row.state, row.progress.submitted) == (State.PENDING, False)
        row = await bench.run(row)
    assert waits == ([rule_of(error).chance] if isinstance(error, Refused) else [])
    assert row.state is (State.QUARANTINED if isinstance(error, Broken) else State.REJECTED)


@pytest.mark.parametrize(
    "between",
    [
        Unreachable("down"),
        NotYet("no"),
        Misconfigured("m"),
        Forgotten("restarted"),
        partial(later, LONG_POLL, NotYet("still computing")),
    ],
    ids=["unreachable", "not yet", "misconfigured", "forgotten", "long poll"],
)
async def test_there_is_no_third_chance_whatever_comes_between(between: Any, bench: Bench) -> None:
    bench.let(answer=Refused("INTERNAL"))
    row = await bench.run(await bench.record_key_request("keygen_default"))
    bench.stages.does["answer"] = between
    row = await bench.run(row)
    bench.stages.does["answer"] = Refused("INTERNAL")
    row = await bench.run(row)
    assert row.state is State.REJECTED


async def test_an_answer_for_content_that_was_replaced_names_the_restart_that_helps(bench: Bench) -> None:
    """The Core may still hold the other content under the id; nothing else frees it."""
    bench.let(answer=Broken("core", "not ours"))
    first = await bench.record("public_one_v0", block=10)
    row = await bench.run(await bench.record("public_one_v0", block=20, data=other_data(first)))
    assert (row.state, row.progress.submitted) == (State.PENDING, False)
    [found] = bench.holdups()
    alert = alert_of(found, "request", "requests")
    assert (alert.dependency, alert.cause, alert.critical) == ("core[0]", "other-content", True)
    assert "restart" in alert.remedy


class _SlowJournal:
    """Takes days for each thing that the pipeline itself asks of it."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal

    async def run(self, *work: Any) -> Any:
        await trio.sleep(30 * 86_400)
        return await self._journal.run(*work)


async def test_what_the_journal_takes_between_two_stages_is_no_stages_time(bench: Bench) -> None:
    bench.pipeline.journal = _SlowJournal(bench.journal)  # type: ignore[assignment]
    row = await bench.run(await bench.record_key_request("keygen_default"))
    assert (row.state, bench.told(StageFailed)) == (State.ANSWERED, [])


# Cancellation.


async def after_a_cancelled_answer(folder: Path) -> tuple[State, int]:
    """Let an answer arrive as everything is cancelled; return the row's state, and how often it was said to be kept."""
    async with open_bench(folder) as bench:
        row = await bench.record()
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                scope.cancel()

            bench.stages.does["answer"] = cancel
            await bench.pipeline.run(row)
        return (await bench.row(row.rid)).state, len(bench.told(AnswerKept))


async def test_an_answer_that_has_arrived_is_kept_though_everything_is_cancelled(tmp_path: Path) -> None:
    assert await after_a_cancelled_answer(tmp_path) == (State.ANSWERED, 1)


async def test_it_would_be_kept_without_a_word_if_it_were_not_shielded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal has it in its queue by then; nobody would wake the transaction manager. Mutation S1 (docs/testing.md)."""
    the_arrived_answer_is_not_shielded(monkeypatch)
    assert await after_a_cancelled_answer(tmp_path) == (State.ANSWERED, 0)


async def test_keeping_an_answer_has_a_deadline_of_its_own(bench: Bench) -> None:
    """A journal that hangs must not make the program deaf to its own end."""
    row = await bench.record()

    class Hanging:
        async def run(self, *_: Any, **_more: Any) -> bool:
            await trio.sleep_forever()
            return True

    bench.pipeline.outcomes.journal = Hanging()  # type: ignore[assignment]
    with trio.CancelScope() as scope:

        async def cancel() -> None:
            scope.cancel()

        bench.stages.does["answer"] = cancel
        await bench.pipeline.run(row)
    assert trio.current_time() == pytest.approx(KEEPING)


async def test_a_pipeline_cancelled_at_any_step_leaves_the_row_whole_and_goes_on(bench: Bench) -> None:
    row = await bench.record()

    async def look() -> None:
        nonlocal row
        assert bench.pipeline.budgets[0].used == 0
        row = await bench.row(row.rid)
        assert row.state in {State.PENDING, State.ANSWERED}
        if row.state is State.PENDING:
            assert (await bench.run(row)).state is State.ANSWERED
        row = await bench.record(block=row.event.log.block_number + 1, data=other_data(row))

    steps = await cancel_everywhere(lambda: bench.pipeline.run(row), look)
    assert steps >= 5  # one in each stage, and one for the answer


# Key management.


async def test_what_nobody_replies_to_is_done(bench: Bench) -> None:
    bench.stages.kept = None
    row = await bench.run(await bench.record_key_request("abort_keygen"))
    assert row.state is State.DONE
    assert [event.state for event in bench.told(RequestClosed)] == [State.DONE]


@pytest.mark.parametrize(
    ("stage", "name", "state"),
    [
        ("answer", "prep_keygen_default", State.ABORTED),
        ("check", "prep_keygen_default", State.ABORTED),
        ("answer", "epoch_2_context_switch", State.REJECTED),
    ],
)
async def test_an_abort_is_a_quiet_end_of_what_can_be_aborted(
    stage: str, name: str, state: State, bench: Bench
) -> None:
    """Nobody aborts a decryption, or an epoch: there it is a failure (L11)."""
    bench.let(**{stage: Aborted("by the owner, or on chain")})
    assert (await bench.run(await bench.record_key_request(name))).state is state


async def test_an_abort_that_only_the_core_tells_of_is_asked_of_the_chain_and_is_no_quiet_end(
    bench: Bench,
) -> None:
    bench.let(answer=AbortedByCore("core[0] GetKeyGenResult: ABORTED"))
    row = await bench.run(await bench.record_key_request("prep_keygen_default"))
    assert (row.state, row.progress.submitted) == (State.PENDING, False)
    assert row.progress.next_attempt == pytest.approx(wall() + 2.0)
    assert (await bench.run(row)).state is State.REJECTED


@pytest.mark.parametrize(
    ("kind", "log"),
    [
        pytest.param(Kind.NEW_KMS_CONTEXT, keys.log("context_1_first"), id="an event that asks for nothing"),
        pytest.param(Kind.KSKGEN, keys.log("keygen_default"), id="a kind of another generation"),
        pytest.param(
            Kind.KEYGEN, attrs.evolve(keys.log("keygen_default"), data=b"no event"), id="what nobody can read"
        ),
    ],
)
async def test_what_no_program_of_ours_records_is_quarantined(kind: Kind, log: Log, bench: Bench) -> None:
    assert (
        await bench.run(await bench.record_arrival(Arrival(1, kind, bytes(32), log)))
    ).state is State.QUARANTINED
    assert bench.stages.took == []


async def test_the_core_may_hold_a_long_poll_longer_than_the_deadline_of_decryptions(bench: Bench) -> None:
    async def hold() -> None:
        await trio.sleep(300)

    bench.let(answer=hold)
    assert (await bench.run(await bench.record_key_request("keygen_default"))).state is State.ANSWERED


async def test_between_two_polls_no_more_than_seconds_pass(bench: Bench) -> None:
    """The Core keeps the result of an epoch in memory only (L10)."""
    bench.let(answer=Unreachable("gone"))
    row = await bench.record_key_request("epoch_2_context_switch")
    for _ in range(12):
        row = await bench.run(row)
    assert max(event.seconds for event in bench.told(RequestDeferred)) == 5.0


async def test_a_context_is_known_as_destroyed_before_its_core_is_told(bench: Bench) -> None:
    """Nothing is answered under it in the meantime, whatever its node is asked."""
    content = keys.content("context_1_destroyed")
    bench.let(submit=Unreachable("connection lost"))
    assert not bench.pipeline.outcomes.contexts.is_destroyed(content.id)
    await bench.run(await bench.record_key_request("context_1_destroyed"))
    assert bench.pipeline.outcomes.contexts.is_destroyed(content.id)


@pytest.mark.parametrize("error", [Unreachable("connection lost"), NotYet("INTERNAL")])
async def test_an_end_is_told_until_a_core_takes_it_however_long_that_lasts(
    error: Exception, bench: Bench
) -> None:
    """Shares of what was destroyed must not stay on the node, and a connector that was down for long has not even tried."""
    bench.let(submit=error)
    row = await bench.record_key_request("context_1_destroyed")
    for _ in range(3):
        await trio.sleep(7 * 86_400)
        row = await bench.run(row)
        assert row.state is State.PENDING
    del bench.stages.does["submit"]
    bench.stages.kept = None
    assert (await bench.run(row)).state is State.DONE


async def test_an_uncertain_start_is_not_noted_as_submitted_and_with_a_result_it_is_a_success(
    bench: Bench,
) -> None:
    """Each pass begins again, so that it is not forgotten that the start is uncertain while its result is waited for."""
    bench.let(answer=Unreachable("gone"))
    bench.stages.uncertain = "INVALID_ARGUMENT"
    row = await bench.run(await bench.record_key_request("epoch_2_context_switch"))
    assert not row.progress.submitted
    bench.stages.does.clear()
    assert (await bench.run(row)).state is State.ANSWERED


async def test_an_uncertain_start_without_a_result_is_alerted_once_and_waited_for(bench: Bench) -> None:
    bench.let(answer=Forgotten("NOT_FOUND"))
    bench.stages.uncertain = "INVALID_ARGUMENT"
    row = await bench.record_key_request("epoch_2_context_switch")
    for _ in range(3):
        row = await bench.run(row)
    assert row.state is State.PENDING
    [found] = bench.holdups()
    assert (found.reason.cause, found.stopped) == ("result-lost", ("new_kms_epoch",))
    assert "INVALID_ARGUMENT" in found.reason.text
    assert "NOT_FOUND" in found.reason.text
    bench.stages.does.clear()
    assert (await bench.run(row)).state is State.ANSWERED
    assert bench.holdups() == ()


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
async def test_a_stage_that_fails_says_why_and_a_request_that_ends_too(stage: str, tmp_path: Path) -> None:
    async with bench_whose(tmp_path, stage, WrongSignature("not the user's")) as bench:
        row = await bench.run(await bench.record())
        [failed] = bench.told(StageFailed)
        [closed] = bench.told(RequestClosed)
        assert (failed.stage, failed.cause) == (stage, "wrong-signature")
        assert (row.state, closed.cause) == (State.REJECTED, "wrong-signature")


@pytest.mark.parametrize("tries", [2, 1000])
async def test_what_a_failed_request_held_is_let_go_of_at_once(bench: Bench, tries: int) -> None:
    """An error that is a variable of the frame that raises it holds that frame, and so the ciphertexts of a request."""
    asked = itertools.count(1)

    async def submit() -> None:
        message = bytes(bytearray(1 << 20))
        await trio.lowlevel.checkpoint()
        if next(asked) % tries:
            failure = Unreachable(f"no connection for {len(message)} bytes")
            raise failure

    bench.let(submit=lambda: retrying(submit, lambda: 0.5))
    row = await bench.record()
    assert await left_behind(partial(bench.run, row)) < 1 << 20

"""The table of failures: what becomes of a request for each class of error, and what its client over HTTP is told (fhevm-0.15.md, 5.6)."""

from __future__ import annotations

import inspect
from typing import Any

import attrs
import pytest
import trio

from kmsconn import errors
from kmsconn.errors import (
    Aborted,
    AbortedByCore,
    AlreadyDone,
    Broken,
    ContextInvalid,
    Denied,
    Destroyed,
    DestroyedOnce,
    Down,
    Forgotten,
    JournalFailed,
    LongPollEnded,
    Lost,
    Misconfigured,
    NoCiphertext,
    NotAttested,
    NotMember,
    NotYet,
    Over,
    Overloaded,
    Refused,
    Rejected,
    RejectedByCore,
    SignatureNotTaken,
    StageTimeout,
    Undecodable,
    Unreachable,
    WindowNotOpen,
    WindowOver,
    WrongSignature,
)
from kmsconn.journal import moves
from kmsconn.journal.rows import Row, RowEvent, RowProgress, RowReply, RowTimes
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import EventPlace, Kind, Request
from kmsconn.protocols.fhevm.http_decryption import read_public, read_user
from kmsconn.requests.failures import (
    DENIED,
    FOR_ALL_AFTER,
    OTHER_CONTENT,
    RESULT_LATE_AFTER,
    RULES,
    SELDOM,
    SOON,
    TAKEN,
    TAKEN_KEY_ID_AFTER,
    UNEXPECTED,
    Blames,
    Circumstances,
    Ends,
    Waits,
    decide,
    expiry_cause,
    failure_of,
    reason_of,
    rule_of,
)
from kmsconn.requests.stage_runner import MARK
from tests.unit.journal.samples import CHAIN, CONTRACT, arrival
from tests.unit.protocols.test_fhevm_http_decryption import LIMITS, public, user
from tests.unit.requests.bench import Bench, wall

PATIENCE = 3.0
FRESH = RowProgress(0.0, 0.0, False, 0, "")
CHAINED = Circumstances(FRESH)
IN_ORDER = Circumstances(FRESH, expires=False)
POSTED = Circumstances(FRESH, patience=PATIENCE)
# Each error → how long a decryption waits first, or how it ends; how key management ends, where it does; when a client over HTTP is told,
# and by which code ("": never, as it waits).
TABLE: dict[Any, tuple[Any, str, str, str]] = {
    Unreachable("nobody"): (SOON, "", "", ""),
    Down("gateway: refused"): (SOON, "", "", ""),
    Overloaded("less, please"): (SOON, "", "", ""),
    StageTimeout("check", 1.0): (SOON, "", "", ""),
    JournalFailed("disk full"): (SOON, "", "", ""),
    Misconfigured("a chain is not configured"): (SOON, "", "late", "upstream_transient"),
    Lost("the Core was restarted"): (SOON, "", "late", "upstream_transient"),
    NotAttested("they do not agree"): (SOON, "", "late", "copro_consensus_failed"),
    NoCiphertext("nobody has it"): (SOON, "", "late", "ciphertext_not_found"),
    RejectedByCore("INVALID_ARGUMENT"): (SELDOM, "reject", "late", "upstream_transient"),
    Refused("INTERNAL"): (SELDOM, "reject", "late", "upstream_transient"),
    AbortedByCore("ABORTED"): (SELDOM, "reject", "late", "upstream_transient"),
    Broken("core", "a lie"): (SELDOM, "quarantine", "late", "upstream_transient"),
    Forgotten("who?"): (SOON, "", "", ""),
    NotYet("not now"): (SOON, "", "", ""),
    LongPollEnded("still computing"): (0.0, "", "", ""),
    DestroyedOnce("a node says"): (SOON, "", "", ""),
    Denied("no right"): (DENIED, "", "at once", "acl_denied"),
    SignatureNotTaken("the wallet says no"): (SOON, "", "at once", "user_signature_rejected"),
    WindowNotOpen("tomorrow"): (SOON, "", "at once", "user_signature_rejected"),
    ContextInvalid("not valid"): (SOON, "", "at once", "kms_context_invalid"),
    NotMember("others answer it"): (SOON, "", "at once", "kms_context_invalid"),
    Rejected("never"): ("reject", "reject", "final", "unprocessable"),
    WrongSignature("not the user's"): ("reject", "reject", "final", "user_signature_rejected"),
    WindowOver("yesterday"): ("reject", "reject", "final", "user_signature_rejected"),
    Destroyed("context", 7): ("reject", "reject", "final", "kms_context_destroyed"),
    Aborted("on purpose"): ("reject", "reject", "final", "unprocessable"),
    AlreadyDone("it is there"): ("found_finalized", "found_finalized", "", ""),
    Over("nobody waits"): ("finish", "finish", "", ""),
    Undecodable("no such form"): ("quarantine", "quarantine", "again", "unknown"),
    ZeroDivisionError("a bug"): ("quarantine", "quarantine", "again", "unknown"),
}
rows = pytest.mark.parametrize(
    ("error", "then", "in_order", "told", "code"),
    [pytest.param(error, *row, id=type(error).__name__) for error, row in TABLE.items()],
)


def row(state: State, cause: RowCause, reason: str = "why") -> Row:
    return Row(
        rid=1,
        id=5,
        kind=Kind.HTTP_USER_DECRYPTION,
        state=state,
        on_chain=True,
        event=RowEvent(CHAIN, CONTRACT, b"", arrival(1, 10).log),
        progress=RowProgress(0.0, 0.0, False, 0, reason, cause),
        answer=None,
        reply=RowReply(),
        times=RowTimes(0.0),
    )


def test_every_class_of_error_has_a_row() -> None:
    bases = {errors.RequestError, errors.Retryable, errors.Terminal}
    classes = {
        c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.RequestError)
    }
    assert classes - bases <= {type(error) for error in TABLE}


@rows
def test_a_decryption_ends_only_for_what_the_chain_says(
    error: Exception, then: Any, in_order: str, told: str, code: str
) -> None:
    found = decide(error, CHAINED)
    if isinstance(then, str):
        assert isinstance(found, Ends)
        assert found.transition == then
        assert RowCause.REPEATABLE not in found.cause
    else:
        expected = then if isinstance(then, float) else then.seconds(0, CHAINED.random)
        assert isinstance(found, Waits)
        assert (found.seconds, found.again) == (expected, then is SELDOM or isinstance(error, Forgotten))


@rows
def test_key_management_believes_its_core_since_it_must_go_on(
    error: Exception, then: Any, in_order: str, told: str, code: str
) -> None:
    found = decide(error, IN_ORDER)
    chance = RULES.get(type(error), RULES[BaseException]).chance
    if chance:
        assert found == Waits(chance, RowCause.SECOND_CHANCE, again=True)
        found = decide(error, progressed(IN_ORDER, cause=RowCause.SECOND_CHANCE))
    assert (found.transition if isinstance(found, Ends) else "") == in_order


@rows
def test_a_client_over_http_is_told(error: Exception, then: Any, in_order: str, told: str, code: str) -> None:
    """At once what is an answer about its request; what may be a dependency's fault once its patience is over."""
    early = decide(error, attrs.evolve(POSTED, age=PATIENCE - 0.1))
    late = decide(error, attrs.evolve(POSTED, age=PATIENCE))
    assert isinstance(early, Ends) == (isinstance(then, str) or told == "at once")
    assert isinstance(late, Ends) == (isinstance(then, str) or told in {"at once", "late"})
    if isinstance(late, Ends) and code:
        state = State.QUARANTINED if late.transition == "quarantine" else State.REJECTED
        failure = failure_of(row(state, late.cause))
        assert (failure.code.value, failure.retryable) == (code, told in {"late", "at once", "again"})


def progressed(at: Circumstances, **changes: Any) -> Circumstances:
    return attrs.evolve(at, progress=attrs.evolve(at.progress, **changes))


@pytest.mark.parametrize("error", [Unreachable("x"), Denied("x"), Refused("x")])
def test_a_wait_grows_to_its_cap(error: errors.RequestError) -> None:
    cap: dict[type, float] = {Unreachable: SOON.cap, Denied: DENIED.cap, Refused: SELDOM.cap}
    again = progressed(CHAINED, deferred=30, reason="x", cause=RowCause.REFUSED_BY_CORE)
    found = decide(error, attrs.evolve(again, random=1.0))
    assert isinstance(found, Waits)
    assert found.seconds == cap[type(error)]


@pytest.mark.parametrize("error", [Denied("no right"), Refused("INTERNAL")])
def test_what_was_waited_for_before_makes_a_rare_question_no_rarer(error: Exception) -> None:
    found = decide(error, progressed(CHAINED, deferred=30, reason="down"))
    assert isinstance(found, Waits)
    assert found.anew
    assert found.seconds < SOON.first


@pytest.mark.parametrize("cause", ["not-configured", "not-served"])
def test_what_names_a_chain_that_is_not_served_is_counted_apart(cause: str) -> None:
    for error, expected in [
        (Misconfigured("x").of("host chain 5", cause), RowCause.CHAIN_NOT_SERVED),
        (Misconfigured("x").of("host chain 5"), RowCause.NONE),
    ]:
        found = decide(error, CHAINED)
        assert isinstance(found, Waits)
        assert found.cause is expected


def test_nothing_waits_far_beyond_its_time_nor_a_client_beyond_its_patience() -> None:
    at = attrs.evolve(progressed(CHAINED, deferred=30, reason="no"), left=100.0)
    assert decide(Denied("no"), at) == Waits(160.0)
    posted = attrs.evolve(progressed(POSTED, deferred=30), age=1.0)
    assert decide(NoCiphertext("nobody"), posted) == Waits(PATIENCE - 1.0)


def test_of_an_answer_to_other_content_key_management_believes_nothing() -> None:
    found = decide(Broken("core", "a lie").of(cause=OTHER_CONTENT), IN_ORDER)
    assert isinstance(found, Waits)
    assert found.again


@pytest.mark.parametrize(("generates", "transition"), [(True, "abort"), (False, "reject")])
def test_only_a_generation_can_be_aborted(generates: bool, transition: str) -> None:
    found = decide(Aborted("by the owner"), attrs.evolve(IN_ORDER, generates=generates))
    assert found == Ends(transition)


# --- whom an alert blames


@rows
def test_an_alert_blames_a_dependency_for_its_failures_and_for_what_takes_long(
    error: Exception, then: Any, in_order: str, told: str, code: str
) -> None:
    """Not for an answer about the request; and a chain that is down has an alert of its own."""
    if not isinstance(error, errors.RequestError):
        return
    found = reason_of(error, "answer", "core[0]", expires=True, taken=False)
    if rule_of(error).blames is Blames.NOBODY:
        assert found is None
    else:
        assert found is not None
        assert found.dependency == "core[0]"
        assert found.cause == (error.cause or StageTimeout.cause)
        assert str(error) in found.text


def test_what_holds_up_every_request_is_critical_after_some_seconds() -> None:
    error = NotAttested("one of two buckets is silent")
    error.for_all = True
    found = reason_of(error, "gather", "buckets", expires=True, taken=False)
    assert found is not None
    assert (found.critical, found.after) == (True, FOR_ALL_AFTER)


# --- clients


UNFORESEEN = row(State.QUARANTINED, RowCause.REPEATABLE, "Traceback …")
SKIPPED = row(State.REJECTED, RowCause.SKIPPED, "skipped by an operator: no")


def expired(content: Any, deadline: float) -> Row:
    at = EventPlace(-1, b"", b"", 0)
    return row(State.EXPIRED, expiry_cause(Request(1, CHAIN, CONTRACT, content, b"", at, deadline)))


WINDOW = read_user(user(), LIMITS)
CLIENTS = {
    "what was unforeseen without its traceback": (UNFORESEEN, ("unknown", True), UNEXPECTED),
    "what an operator has ended is final": (SKIPPED, ("unprocessable", False), "skipped by an operator: no"),
    "worked on for long enough": (expired(read_public(public(), LIMITS), 100.0), ("timeout", True), "why"),
    "a window that ended first is final": (
        expired(WINDOW, WINDOW.valid_until + 1.0), ("user_signature_rejected", False), "why",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("ended", "code", "message"), CLIENTS.values(), ids=CLIENTS)
def test_a_client_is_told_its_request_the_reason_and_whether_it_may_ask_again(
    ended: Row, code: tuple[str, bool], message: str
) -> None:
    failure = failure_of(ended)
    assert (failure.code.value, failure.retryable) == code
    assert (failure.decryption_id, failure.message) == (5, message)


def named(bench: Bench) -> list[tuple[str, str, int]]:
    return [(one.reason.dependency, one.reason.cause, one.count) for one in bench.holdups()]


@pytest.mark.parametrize(
    "said", [NotYet("UNAVAILABLE"), Forgotten("NOT_FOUND")], ids=lambda one: type(one).__name__
)
async def test_a_result_that_is_late_is_named_until_it_is_there(said: Exception, bench: Bench) -> None:
    bench.let(answer=said)
    row = await bench.run(await bench.record())
    await trio.sleep(RESULT_LATE_AFTER - 1)
    row = await bench.run(row)
    assert named(bench) == []
    await trio.sleep(1)
    row = await bench.run(row)
    assert named(bench) == [("core[0]", "too-slow", 1)]
    del bench.stages.does["answer"]
    await bench.run(row)
    assert named(bench) == []


async def test_key_management_may_take_its_time(bench: Bench) -> None:
    bench.let(answer=NotYet("UNAVAILABLE"))
    row = await bench.run(await bench.record_key_request("crsgen_test_2048"))
    await trio.sleep(2 * RESULT_LATE_AFTER)
    await bench.run(row)
    assert named(bench) == []


def counts(bench: Bench) -> list[int]:
    return [one.count for one in bench.holdups() if one.reason.cause == TAKEN]


async def taken_row(bench: Bench, name: str = "") -> Any:
    """Return a row whose start said ALREADY_EXISTS."""
    bench.stages.existed = True
    row = await (bench.record_key_request(name) if name else bench.record())
    return await bench.run(row)


@pytest.mark.parametrize(
    ("name", "patience"), [("", RESULT_LATE_AFTER), ("crsgen_test_2048", TAKEN_KEY_ID_AFTER)]
)
async def test_the_row_says_what_it_waits_for_and_the_alert_how_many(
    name: str, patience: float, bench: Bench
) -> None:
    bench.let(answer=NotYet("UNAVAILABLE"))
    row = await taken_row(bench, name)
    assert (row.progress.reason, row.progress.cause) == (MARK + "UNAVAILABLE", RowCause.TAKEN_ID)
    await trio.sleep(patience - 1)
    row = await bench.run(row)
    assert counts(bench) == []
    await trio.sleep(2)
    await bench.run(row)
    assert counts(bench) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("then", ["answer", "forgotten"])
async def test_the_alert_is_over_with_a_result_or_a_new_start(then: str, bench: Bench) -> None:
    bench.let(answer=NotYet("UNAVAILABLE"))
    row = await taken_row(bench)
    await trio.sleep(RESULT_LATE_AFTER)
    row = await bench.run(row)
    assert counts(bench) == [1]
    bench.stages.existed = False
    if then == "answer":
        del bench.stages.does["answer"]
    else:
        bench.stages.does["answer"] = Forgotten("NOT_FOUND")
        row = await bench.run(row)
        bench.stages.does["answer"] = NotYet("UNAVAILABLE")
    row = await bench.run(row)
    assert counts(bench) == []
    assert RowCause.TAKEN_ID not in row.progress.cause


async def test_the_next_process_knows_a_taken_id_by_its_row(bench: Bench) -> None:
    bench.let(answer=NotYet("UNAVAILABLE"))
    row = await bench.record()
    bench.journal.note_submitted(row.rid, True)
    await bench.journal.run(moves.defer, row.rid, wall(), "whatever", cause=RowCause.TAKEN_ID)
    await bench.run(await bench.row(row.rid))
    assert row.rid in bench.pipeline.runner.taken


async def test_a_row_with_a_taken_id_can_have_its_second_chance_too(bench: Bench) -> None:
    bench.let(answer=NotYet("UNAVAILABLE"))
    bench.stages.existed = True
    row = await bench.record()
    await bench.journal.run(moves.defer, row.rid, wall(), "INTERNAL", cause=RowCause.SECOND_CHANCE)
    row = await bench.run(await bench.row(row.rid))
    assert row.progress.cause == RowCause.SECOND_CHANCE | RowCause.TAKEN_ID
    assert row.progress.reason == f"second chance: {MARK}UNAVAILABLE"

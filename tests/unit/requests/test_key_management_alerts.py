"""Key management that ended undone, and what has waited for an hour, is named as long as its rows say so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from kmsconn.connector.upkeep import (
    LONG,
    OVERDUE_INTERVAL,
    UNDONE_INTERVAL,
    keep_looking,
    name_overdue,
    name_undone,
    undone,
)
from kmsconn.ethereum.ids import id_name
from kmsconn.journal import inspecting, moves, recording
from kmsconn.journal.rows import Row
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.model.life import Answer, RowCause, State
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import keep
from tests.unit.requests.bench import PROFILE, Bench, wall
from tests.vectors import keys

CONTEXT, KEY = "context_2_new", "keygen_default"


@pytest.fixture
async def told(bench: Bench) -> AsyncIterator[list[Event]]:
    """What is said while both watchers look."""
    told = list[Event]()
    board = Board(told.append, trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_looking, partial(name_undone, bench.journal, board))
        nursery.start_soon(keep_looking, partial(name_overdue, PROFILE, bench.journal, wall, board))
        yield told
        nursery.cancel_scope.cancel()


async def closed(
    bench: Bench,
    name: str,
    transition: str = "reject",
    reason: str = "INVALID_ARGUMENT",
    cause: RowCause = RowCause.NONE,
) -> int:
    rid = (await bench.record_key_request(name)).rid
    assert await bench.journal.run(moves.move, transition, rid, reason=reason, cause=cause)
    await trio.sleep(2 * UNDONE_INTERVAL)
    return rid


def raised(told: list[Event]) -> list[tuple[str, str, int, bool]]:
    found = [one for one in told if isinstance(one, AlertRaised)]
    assert len(found) == len(told)
    return [(one.dependency, one.cause, one.count, one.critical) for one in found]


@pytest.mark.parametrize("transition", ["reject", "quarantine"])
@pytest.mark.parametrize("case", [(CONTEXT, "new_kms_context", True), (KEY, "keygen", False)])
async def test_what_ended_undone_is_named_once_critical_where_nothing_can_be_answered_later(
    transition: str, case: tuple[str, str, bool], bench: Bench, told: list[Event]
) -> None:
    name, kind, critical = case
    await closed(bench, name, transition)
    await trio.sleep(10 * UNDONE_INTERVAL)
    assert raised(told) == [(kind, "undone", 1, critical)]
    text = told[0].text  # type: ignore[attr-defined]
    assert id_name(keys.content(name).id) in text
    assert "INVALID_ARGUMENT" in text


async def test_it_is_over_when_an_operator_lets_it_begin_again(bench: Bench, told: list[Event]) -> None:
    rid = await closed(bench, CONTEXT)
    await bench.journal.run(inspecting.retry, rid, 0.0, 1e9)
    await trio.sleep(2 * UNDONE_INTERVAL)
    assert told[1:] == [AlertCleared("new_kms_context", "undone")]


@pytest.mark.parametrize(
    ("name", "transition", "cause"),
    [(KEY, "finish", RowCause.NONE), (KEY, "abort", RowCause.NONE), (CONTEXT, "reject", RowCause.DESTROYED)],
)
async def test_what_is_done_or_was_aborted_or_destroyed_meanwhile_is_not_undone(
    name: str, transition: str, cause: RowCause, bench: Bench, told: list[Event]
) -> None:
    await closed(bench, name, transition, cause=cause)
    assert told == []


async def test_what_failed_with_a_text_about_destruction_is_undone(bench: Bench, told: list[Event]) -> None:
    """The Core, or an operator, may write anything."""
    await closed(bench, CONTEXT, reason="INTERNAL: the context was destroyed")
    assert raised(told) == [("new_kms_context", "undone", 1, True)]


async def test_what_left_the_chain_is_not_undone(bench: Bench, told: list[Event]) -> None:
    rid = await closed(bench, CONTEXT)
    gone = await bench.journal.run(recording.record, bench.read((await bench.row(rid)).event.log))
    assert gone.gone == 1
    await trio.sleep(2 * UNDONE_INTERVAL)
    assert isinstance(told[-1], AlertCleared)


async def test_a_rejected_decryption_is_not_of_key_management(bench: Bench, told: list[Event]) -> None:
    await bench.journal.run(moves.move, "reject", (await bench.record()).rid, reason="malformed")
    await trio.sleep(2 * UNDONE_INTERVAL)
    assert told == []


def ended(*states: State) -> list[Row]:
    progress = SimpleNamespace(cause=RowCause.NONE)
    return [cast("Row", SimpleNamespace(state=state, progress=progress)) for state in states]


@pytest.mark.parametrize("done", [State.INCLUDED, State.FINALIZED, State.DONE])
def test_a_later_one_that_is_done_ends_it_and_an_earlier_one_does_not(done: State) -> None:
    assert undone(ended(done, State.REJECTED)) == []
    assert len(undone(ended(State.REJECTED, State.QUARANTINED, done, State.REJECTED))) == 2


async def record(bench: Bench, name: str = "keygen_default") -> int:
    return (await bench.record_key_request(name)).rid


@pytest.mark.slow
async def test_after_an_hour_it_is_named_once_with_what_it_waits_for_until_it_has_ended(
    bench: Bench, told: list[Event]
) -> None:
    rid = await record(bench)
    await trio.sleep(LONG - OVERDUE_INTERVAL)
    assert told == []
    await trio.sleep(10 * OVERDUE_INTERVAL)
    await bench.journal.run(moves.defer, rid, 1e9, "core[0] GetKeyGenResult: UNAVAILABLE")
    await trio.sleep(10 * OVERDUE_INTERVAL)
    alerts = [event for event in told if isinstance(event, AlertRaised)]
    assert alerts == told
    name = f"keygen 0x{keys.content('keygen_default').id:064x}"
    assert [(one.dependency, one.critical) for one in alerts] == [(name, False)] * 2
    assert [one.text.split("; reason: ")[1] for one in alerts] == [
        "its turn",
        "core[0] GetKeyGenResult: UNAVAILABLE",
    ]
    await bench.journal.run(moves.move, "finish", rid, reason="done")
    await trio.sleep(2 * OVERDUE_INTERVAL)
    assert isinstance(told[-1], AlertCleared)
    assert told[-1].dependency == name


async def test_a_reply_that_does_not_are_included_is_named_too(bench: Bench, told: list[Event]) -> None:
    rid = await record(bench, "crsgen_test_2048")
    await bench.journal.run(keep, rid, Answer(b"calldata", None), wall())
    await trio.sleep(LONG + 2 * OVERDUE_INTERVAL)
    assert [type(event) for event in told] == [AlertRaised]


async def test_a_decryption_is_none_of_its_business(bench: Bench, told: list[Event]) -> None:
    row = await bench.record()
    assert row.kind is Kind.PUBLIC_DECRYPTION
    await trio.sleep(LONG + 2 * OVERDUE_INTERVAL)
    assert told == []


async def test_what_left_the_chain_waits_for_nobody(bench: Bench, told: list[Event]) -> None:
    rid = await record(bench)
    gone = await bench.journal.run(recording.record, bench.read((await bench.row(rid)).event.log))
    assert gone.gone == 1
    await trio.sleep(LONG + 2 * OVERDUE_INTERVAL)
    assert told == []

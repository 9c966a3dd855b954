"""Key management that ended undone is an alert as long as its rows say so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from kmsconn.connector.upkeep import UNDONE_INTERVAL, keep_looking, name_undone, undone
from kmsconn.ethereum.ids import id_name
from kmsconn.journal import inspecting, moves, recording
from kmsconn.journal.values import RowEnding
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.model.life import RowCause, State
from tests.unit.requests.bench import Bench, open_bench
from tests.vectors import keys

CONTEXT, KEY = "context_2_new", "keygen_default"


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[tuple[Bench, list[Event]]]:
    async with open_bench(folder) as bench, trio.open_nursery() as nursery:
        told: list[Event] = []
        board = Board(told.append, trio.current_time)
        nursery.start_soon(keep_looking, partial(name_undone, bench.journal, board))
        yield bench, told
        nursery.cancel_scope.cancel()


async def closed(
    bench: Bench,
    name: str,
    transition: str = "reject",
    reason: str = "INVALID_ARGUMENT",
    cause: RowCause = RowCause.NONE,
) -> int:
    rid = (await bench.record_key_request(name)).rid
    assert await bench.journal.run(moves.close, rid, transition, reason, cause=cause)
    await trio.sleep(2 * UNDONE_INTERVAL)
    return rid


def raised(told: list[Event]) -> list[tuple[str, str, int, bool]]:
    found = [one for one in told if isinstance(one, AlertRaised)]
    assert len(found) == len(told)
    return [(one.dependency, one.cause, one.count, one.critical) for one in found]


@pytest.mark.parametrize("transition", ["reject", "quarantine"])
@pytest.mark.parametrize("case", [(CONTEXT, "new_kms_context", True), (KEY, "keygen", False)])
async def test_what_ended_undone_is_named_once_critical_where_nothing_can_be_answered_later(
    transition: str, case: tuple[str, str, bool], tmp_path: Path
) -> None:
    name, kind, critical = case
    async with watching(tmp_path) as (bench, told):
        await closed(bench, name, transition)
        await trio.sleep(10 * UNDONE_INTERVAL)
        assert raised(told) == [(kind, "undone", 1, critical)]
        text = told[0].text  # type: ignore[union-attr]
        assert id_name(keys.content(name).id) in text
        assert "INVALID_ARGUMENT" in text


async def test_it_is_over_when_an_operator_lets_it_begin_again(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        rid = await closed(bench, CONTEXT)
        await bench.journal.run(inspecting.retry, rid, 0.0, 1e9)
        await trio.sleep(2 * UNDONE_INTERVAL)
        assert told[1:] == [AlertCleared("new_kms_context", "undone")]


@pytest.mark.parametrize("transition", ["finish", "abort"])
async def test_what_is_done_or_was_aborted_is_not_undone(transition: str, tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        await closed(bench, KEY, transition)
        assert told == []


async def test_what_was_destroyed_meanwhile_is_not_undone(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        await closed(bench, CONTEXT, cause=RowCause.DESTROYED)
        assert told == []


async def test_what_failed_with_a_text_about_destruction_is_undone(tmp_path: Path) -> None:
    """The Core, or an operator, may write anything."""
    async with watching(tmp_path) as (bench, told):
        await closed(bench, CONTEXT, reason="INTERNAL: the context was destroyed")
        assert raised(told) == [("new_kms_context", "undone", 1, True)]


async def test_what_left_the_chain_is_not_undone(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        rid = await closed(bench, CONTEXT)
        gone = await bench.journal.run(recording.record, bench.read((await bench.row(rid)).event.log))
        assert gone.gone == 1
        await trio.sleep(2 * UNDONE_INTERVAL)
        assert isinstance(told[-1], AlertCleared)


async def test_a_rejected_decryption_is_not_of_key_management(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        await bench.journal.run(moves.close, (await bench.record()).rid, "reject", "malformed")
        await trio.sleep(2 * UNDONE_INTERVAL)
        assert told == []


def ended(*states: State) -> list[RowEnding]:
    return [RowEnding(rid, rid, state, "") for rid, state in enumerate(states)]


@pytest.mark.parametrize("done", [State.INCLUDED, State.FINALIZED, State.DONE])
def test_a_later_one_that_is_done_ends_it_and_an_earlier_one_does_not(done: State) -> None:
    assert undone(ended(done, State.REJECTED)) == []
    assert len(undone(ended(State.REJECTED, State.QUARANTINED, done, State.REJECTED))) == 2

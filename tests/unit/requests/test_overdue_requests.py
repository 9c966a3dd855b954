"""What never expires is named once it has waited for an hour, until it waits no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from kmsconn.connector.upkeep import LONG, OVERDUE_INTERVAL, keep_looking, name_overdue
from kmsconn.journal import moves, recording
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.model.requests import Kind
from kmsconn.model.steps import Answer
from tests.unit.requests.bench import PROFILE, Bench, open_bench, wall
from tests.vectors import keys


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[tuple[Bench, list[Event]]]:
    async with open_bench(folder) as bench, trio.open_nursery() as nursery:
        told: list[Event] = []
        board = Board(told.append, trio.current_time)
        nursery.start_soon(keep_looking, partial(name_overdue, PROFILE, bench.journal, wall, board))
        yield bench, told
        nursery.cancel_scope.cancel()


async def record(bench: Bench, name: str = "keygen_default") -> int:
    return (await bench.record_key_request(name)).rid


async def test_nothing_is_said_for_an_hour(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        await record(bench)
        await trio.sleep(LONG - OVERDUE_INTERVAL)
        assert told == []


@pytest.mark.slow
async def test_after_an_hour_it_is_named_once_with_what_it_waits_for(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        rid = await record(bench)
        await bench.journal.run(moves.defer, rid, 1e9, "core[0] GetKeyGenResult: UNAVAILABLE")
        await trio.sleep(LONG + 10 * OVERDUE_INTERVAL)
        [trouble] = told
        assert isinstance(trouble, AlertRaised)
        assert trouble.dependency == f"keygen 0x{keys.content('keygen_default').id:064x}"
        assert "GetKeyGenResult: UNAVAILABLE" in trouble.text
        assert not trouble.critical


@pytest.mark.slow
async def test_another_reason_is_told_again(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        rid = await record(bench)
        await trio.sleep(LONG + 2 * OVERDUE_INTERVAL)
        await bench.journal.run(moves.defer, rid, 1e9, "something else")
        await trio.sleep(2 * OVERDUE_INTERVAL)
        assert [event.text.split("; reason: ")[1] for event in told if isinstance(event, AlertRaised)] == [
            "its turn",
            "something else",
        ]


async def test_it_is_over_when_the_request_has_ended(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        rid = await record(bench)
        await trio.sleep(LONG + 2 * OVERDUE_INTERVAL)
        await bench.journal.run(moves.close, rid, "finish", "done")
        await trio.sleep(2 * OVERDUE_INTERVAL)
        assert isinstance(told[-1], AlertCleared)
        assert told[-1].dependency == told[0].dependency  # type: ignore[union-attr]


async def test_a_reply_that_does_not_are_included_is_named_too(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        rid = await record(bench, "crsgen_test_2048")
        await bench.journal.run(moves.answer, rid, Answer(b"calldata", None), wall())
        await trio.sleep(LONG + 2 * OVERDUE_INTERVAL)
        assert [type(event) for event in told] == [AlertRaised]


async def test_a_decryption_is_none_of_its_business(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        row = await bench.record()
        assert row.kind is Kind.PUBLIC_DECRYPTION
        await trio.sleep(LONG + 2 * OVERDUE_INTERVAL)
        assert told == []


async def test_what_left_the_chain_waits_for_nobody(tmp_path: Path) -> None:
    async with watching(tmp_path) as (bench, told):
        rid = await record(bench)
        gone = await bench.journal.run(recording.record, bench.read((await bench.row(rid)).event.log))
        assert gone.gone == 1
        await trio.sleep(LONG + 2 * OVERDUE_INTERVAL)
        assert told == []

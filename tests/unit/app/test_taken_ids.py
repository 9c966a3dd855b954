"""Ids that a Core says to have: told after several polls and some minutes, and over with a result, a new start or an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.app.request_tracker import (
    CAUSE,
    MARK,
    POLLS,
    TAKEN_ID_AFTER,
    TAKEN_KEY_ID_AFTER,
    GroupedAlerts,
    TakenIds,
)
from kmsconn.errors import Forgotten, NotYet
from kmsconn.journal import moves
from kmsconn.model.events import AlertCleared, AlertRaised
from kmsconn.model.life import RowCause
from tests.unit.app.bench import Bench, open_bench, wall


def raised(bench: Bench) -> list[AlertRaised]:
    return [one for one in bench.told(AlertRaised) if one.cause == CAUSE]


async def test_neither_polls_alone_nor_minutes_alone_are_enough(autojump_clock: Any) -> None:
    events: list[Any] = []
    taken = TakenIds(GroupedAlerts(events.append))
    taken.started(1, existed=True)
    for _ in range(POLLS + 2):
        taken.polled(1, "core[0]", long=False)
    taken.started(2, existed=True)
    await trio.sleep(TAKEN_ID_AFTER)
    taken.polled(2, "core[0]", long=False)
    assert events == []
    taken.polled(1, "core[0]", long=True)
    assert events == []
    taken.polled(1, "core[0]", long=False)
    assert [(one.dependency, one.cause, one.count) for one in events] == [("core[0]", CAUSE, 1)]


async def test_an_id_that_was_started_here_is_not_taken(autojump_clock: Any) -> None:
    taken = TakenIds(GroupedAlerts(lambda _: pytest.fail("told")))
    for existed in (True, False):
        taken.started(1, existed=existed)
    await trio.sleep(TAKEN_KEY_ID_AFTER)
    for _ in range(POLLS):
        taken.polled(1, "core[0]", long=False)
    assert 1 not in taken


async def taken_row(bench: Bench, name: str = "") -> Any:
    """Return a row whose start said ALREADY_EXISTS, after several polls and as long as is needed."""
    bench.stages.existed = True
    row = await (bench.record_key_request(name) if name else bench.record())
    for _ in range(POLLS):
        row = await bench.run(row)
    return row


@pytest.mark.parametrize(
    ("name", "patience"), [("", TAKEN_ID_AFTER), ("crsgen_test_2048", TAKEN_KEY_ID_AFTER)]
)
async def test_the_row_says_what_it_waits_for_and_the_alert_how_many(
    name: str, patience: float, tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_bench(tmp_path, answer=NotYet("UNAVAILABLE")) as bench:
        row = await taken_row(bench, name)
        assert (row.progress.reason, row.progress.cause) == (MARK + "UNAVAILABLE", RowCause.TAKEN_ID)
        await trio.sleep(patience - 1)
        row = await bench.run(row)
        assert raised(bench) == []
        await trio.sleep(2)
        await bench.run(row)
        [alert] = raised(bench)
        assert alert.count == 1


@pytest.mark.slow
@pytest.mark.parametrize("then", ["answer", "forgotten"])
async def test_the_alert_is_over_with_a_result_or_a_new_start(
    then: str, tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_bench(tmp_path, answer=NotYet("UNAVAILABLE")) as bench:
        row = await taken_row(bench)
        await trio.sleep(TAKEN_ID_AFTER)
        row = await bench.run(row)
        bench.stages.existed = False
        if then == "answer":
            del bench.stages.does["answer"]
        else:
            bench.stages.does["answer"] = Forgotten("NOT_FOUND")
            row = await bench.run(row)
            bench.stages.does["answer"] = NotYet("UNAVAILABLE")
        row = await bench.run(row)
        assert AlertCleared("core[0]", CAUSE) in bench.events
        assert RowCause.TAKEN_ID not in row.progress.cause


async def test_the_next_process_knows_a_taken_id_by_its_row(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_bench(tmp_path, answer=NotYet("UNAVAILABLE")) as bench:
        row = await bench.record()
        bench.journal.note_submitted(row.rid, True)
        await bench.journal.run(moves.defer, row.rid, wall(), "whatever", cause=RowCause.TAKEN_ID)
        await bench.run(await bench.row(row.rid))
        assert row.rid in bench.pipeline.tracker.taken


async def test_a_row_with_a_taken_id_can_have_its_second_chance_too(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_bench(tmp_path, answer=NotYet("UNAVAILABLE")) as bench:
        bench.stages.existed = True
        row = await bench.record()
        await bench.journal.run(moves.defer, row.rid, wall(), "INTERNAL", cause=RowCause.SECOND_CHANCE)
        row = await bench.run(await bench.row(row.rid))
        assert row.progress.cause == RowCause.SECOND_CHANCE | RowCause.TAKEN_ID
        assert row.progress.reason == f"second chance: {MARK}UNAVAILABLE"

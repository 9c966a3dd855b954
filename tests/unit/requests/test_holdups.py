"""What holds up requests is named: a Core that gives no result for minutes, and one that has an id and no result."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn.errors import Forgotten, NotYet
from kmsconn.journal import moves
from kmsconn.model.life import RowCause
from kmsconn.requests.failures import RESULT_LATE_AFTER, TAKEN, TAKEN_KEY_ID_AFTER
from kmsconn.requests.stage_runner import MARK
from tests.unit.requests.bench import Bench, wall


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

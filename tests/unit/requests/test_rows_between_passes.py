"""What stands in a row between two passes: how late it may be, what it waited for, and how often it was tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.errors import Forgotten, NotYet, Refused, Unreachable
from kmsconn.journal import moves
from kmsconn.journal.values import Row
from kmsconn.model.events import AlertRaised, RequestClosed, RequestDeferred
from kmsconn.model.life import State
from kmsconn.model.requests import PoolName
from kmsconn.protocols.fhevm.user_decryption import UnifiedUserDecryption
from kmsconn.requests.dispatcher import WorkerPool
from kmsconn.requests.failures import SOON
from kmsconn.requests.row_outcomes import LONGEST_TRACE
from kmsconn.transport.waiting import WakeUp
from tests.unit.requests.bench import CHAIN_TIME, PROFILE, open_bench
from tests.vectors import log_of, requests

UNIFIED = requests("unified")[0]


async def test_a_unified_request_that_the_core_has_ends_with_its_own_window(tmp_path: Path) -> None:
    """outcomes, deadlines: 24 h from its record, and the end of validity; also where the checks are behind it."""
    content = PROFILE.decode(log_of(UNIFIED))
    assert isinstance(content, UnifiedUserDecryption)
    end = content.start + content.duration
    async with open_bench(tmp_path, answer=NotYet("still computing")) as bench:
        row = await bench.record(UNIFIED["name"])
        assert row.progress.deadline == CHAIN_TIME + 86_400
        row = attrs.evolve(
            row, progress=attrs.evolve(row.progress, deadline=float(end + 1000), submitted=True)
        )
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


async def test_a_core_that_forgets_at_once_what_it_took_is_asked_less_and_less(tmp_path: Path) -> None:
    """Each try downloads every ciphertext again."""
    async with open_bench(tmp_path, answer=Forgotten("who?")) as bench:
        row = await bench.record()
        for _ in range(6):
            row = await bench.run(row)
    waits = [event.seconds for event in bench.told(RequestDeferred)]
    assert waits == [SOON.seconds(tries, 0.5) for tries in range(6)]


async def test_nothing_is_told_of_a_deferral_that_did_not_happen(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        row = await bench.record()

        async def closed_meanwhile() -> None:
            await bench.journal.run(moves.close, row.rid, "reject", "by the operator")
            raise NotYet("not now")

        bench.stages.does["check"] = closed_meanwhile
        await bench.run(row)
    assert bench.told(RequestDeferred) == []


async def test_an_unexpected_error_keeps_its_traceback_and_tells_its_last_line(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
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

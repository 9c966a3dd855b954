"""What other processes change and nobody tells: ends of requests that are remembered here, and pauses."""

from __future__ import annotations

from pathlib import Path

import trio

from kmsconn.connector.following import FORGET_INTERVAL, follow_pauses, forget_ended
from kmsconn.errors import Unreachable
from kmsconn.journal import moves, pausing
from kmsconn.journal.pausing import PausedKind
from kmsconn.model.progress import PATIENCE
from kmsconn.model.requests import Kind
from tests.faults.scene import open_scene
from tests.unit.requests.bench import ANSWER, open_bench, wall
from tests.unit.requests.test_pools import rows_of


async def test_requests_that_another_process_ended_are_forgotten_and_its_answers_are_passes(
    tmp_path: Path,
) -> None:
    async with open_bench(tmp_path, check=Unreachable("gone")) as bench, trio.open_nursery() as nursery:
        rows = await rows_of(bench, 4)
        for row in rows:
            await bench.run(row)
        await trio.sleep(PATIENCE)
        [before] = bench.holdups()
        nursery.start_soon(forget_ended, bench.pipeline.runner, bench.journal)
        await bench.journal.run(moves.close, rows[0].rid, "reject", "by another process")
        await trio.sleep(FORGET_INTERVAL + 1)
        [ended] = bench.holdups()
        await bench.journal.run(moves.answer, rows[1].rid, ANSWER, wall())
        await trio.sleep(FORGET_INTERVAL)
        [answered] = bench.holdups()
        nursery.cancel_scope.cancel()
    assert [one.count for one in (before, ended, answered)] == [4, 3, 2]
    assert [bool(one.stopped) for one in (before, ended, answered)] == [True, True, False]


async def test_a_pause_that_came_into_the_journal_holds_and_ends(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene, scene.connected() as connector, trio.open_nursery() as nursery:
        components = connector.components
        pool = components.pool_for(Kind.PUBLIC_DECRYPTION)
        nursery.start_soon(follow_pauses, components)
        await components.journal.run(pausing.pause, PausedKind(Kind.PUBLIC_DECRYPTION, 0.0))
        await scene.wait(lambda: pool.paused)
        await components.journal.run(pausing.resume, Kind.PUBLIC_DECRYPTION)
        await scene.wait(lambda: not pool.paused)
        nursery.cancel_scope.cancel()

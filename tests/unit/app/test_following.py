"""What other processes change and nobody tells: ends of requests that are remembered here, and pauses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from kmsconn.app.following import FORGET_INTERVAL, follow_pauses, forget_ended
from kmsconn.app.request_tracker import GroupedAlerts, RequestTracker
from kmsconn.journal import moves, pausing
from kmsconn.journal.pausing import PausedKind
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.model.requests import Kind
from tests.faults.scene import open_scene
from tests.unit.app.bench import open_bench, wall
from tests.unit.app.test_pools import rows_of


async def test_the_alert_about_a_request_that_another_process_ended_is_cleared(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with open_bench(tmp_path) as bench, trio.open_nursery() as nursery:
        ended, waits = await rows_of(bench, 2)
        events: list[Event] = []
        tracker = RequestTracker(GroupedAlerts(events.append))
        for row in (ended, waits):
            tracker.alerts.hold((f"context {row.rid}", "not-a-node"), row.rid, "waits", Severity.WARNING, "")
            tracker.is_late(row.rid, wall())
        nursery.start_soon(forget_ended, tracker, bench.journal)
        await bench.journal.run(moves.close, ended.rid, "reject", "by another process")
        await trio.sleep(FORGET_INTERVAL + 1)
        assert [event.dependency for event in events if isinstance(event, AlertCleared)] == [
            f"context {ended.rid}"
        ]
        assert tracker.remembered == {waits.rid}
        nursery.cancel_scope.cancel()
    assert sum(isinstance(event, AlertRaised) for event in events) == 2


async def test_a_pause_that_came_into_the_journal_holds_and_ends(tmp_path: Path, autojump_clock: Any) -> None:
    async with open_scene(tmp_path) as scene, scene.connected() as connector, trio.open_nursery() as nursery:
        components = connector.components
        pool = components.pool_for(Kind.PUBLIC_DECRYPTION)
        nursery.start_soon(follow_pauses, components)
        await components.journal.run(pausing.pause, PausedKind(Kind.PUBLIC_DECRYPTION, 0.0))
        await scene.wait(lambda: pool.paused)
        await components.journal.run(pausing.resume, Kind.PUBLIC_DECRYPTION)
        await scene.wait(lambda: not pool.paused)
        nursery.cancel_scope.cancel()

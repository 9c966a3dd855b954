"""Looks each second at what alerts follow from the state of the connector, and shows them on the board."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Never

import trio

from kmsconn.model.events import AlertRaised
from kmsconn.service.board import CONNECTION, Board, alert_of
from kmsconn.service.house import House

LOOKING = 1.0  # seconds between looks


async def show_alerts(house: House) -> Never:
    """Look for ever. Cancellation: at any time; what was raised is not cleared."""
    board = Board(house.on_event)
    while True:
        now = trio.current_time()
        board.show([*house.core_health.alerts(now), *_verdicts(house, now)], now)
        await trio.sleep(LOOKING)


def _verdicts(house: House, now: float) -> Iterator[AlertRaised]:
    """Return what requests meet; that calls to a Core fail only where its health check says otherwise."""
    health, verdicts = house.core_health, house.pipeline.passage.verdicts(now)
    failing = {one.dependency for one in verdicts if one.cause in CONNECTION}
    serving = health.suspect(failing & set(health.core.endpoints), now)
    for verdict in verdicts:
        known = verdict.cause in CONNECTION and verdict.dependency in health.core.endpoints
        if not known or verdict.dependency in serving:
            yield alert_of(verdict)

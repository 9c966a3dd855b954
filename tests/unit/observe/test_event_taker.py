"""Events go to those who take their type, and to nobody else."""

from __future__ import annotations

from typing import Any

from kmsconn.model.events import AlertCleared, Event, RequestsMoved
from kmsconn.observe.event_taker import EventTaker, EventTakers

CLEARED, MOVED = AlertCleared("gateway", "logs"), RequestsMoved(1, 2, 3, 4)


def recording(name: str, into: list[Any], *kinds: type[Event]) -> EventTaker:
    return EventTaker({kind: lambda event: into.append((name, event)) for kind in kinds})


def test_an_event_of_another_type_changes_nothing() -> None:
    taken: list[Any] = []
    taker = recording("one", taken, AlertCleared)
    taker.on_event(MOVED)
    taker.on_event(CLEARED)
    assert taken == [("one", CLEARED)]


def test_several_take_an_event_in_their_order() -> None:
    taken: list[Any] = []
    takers = EventTakers(
        recording("first", taken, AlertCleared, RequestsMoved), recording("second", taken, AlertCleared)
    )
    takers.on_event(MOVED)
    takers.on_event(CLEARED)
    assert taken == [("first", MOVED), ("first", CLEARED), ("second", CLEARED)]

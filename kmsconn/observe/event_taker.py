"""Hands events to those who take their type, by a table made once. Knows no type of event itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kmsconn.model.events import Event

Takes = Mapping[type, Callable[[Any], None]]
"""How an event is taken, by its type."""


class EventTaker:
    """Takes events of the types that ``takes`` names; others change nothing."""

    def __init__(self, takes: Takes) -> None:
        self.takes = takes

    def on_event(self, event: Event) -> None:
        """Take an event."""
        take = self.takes.get(type(event))
        if take is not None:
            take(event)


class EventTakers:
    """Hands each event to several takers, in their order."""

    def __init__(self, *takers: EventTaker) -> None:
        self._by_type: dict[type, list[Callable[[Any], None]]] = {}
        for taker in takers:
            for kind, take in taker.takes.items():
                self._by_type.setdefault(kind, []).append(take)

    def on_event(self, event: Event) -> None:
        """Hand an event over."""
        for take in self._by_type.get(type(event), ()):
            take(event)

"""Is it healthy, and why not: decided from events and the connector's statistics. Pure; probes nobody.

Readiness is latched: once every neighbour has answered, only a red trouble or the drain makes it unready. A yellow trouble is named
in the details and changes nothing else: the connector waits it out by itself, and a restart would not help.
"""

from __future__ import annotations

import attrs

from kmsconn.model.events import Event, Recovered, Trouble


@attrs.frozen
class Report:
    """The health object (fhevm-0.14.md, 10.2) with the state it was decided from."""

    healthy: bool
    database_connected: bool
    gateway_connected: bool
    ethereum_connected: bool
    kms_core_connected: bool
    details: str
    ready: bool
    draining: bool
    troubles: tuple[Trouble, ...]


class Health:
    """Remembers the present trouble of each neighbour."""

    def __init__(self) -> None:
        self._troubles: dict[str, Trouble] = {}
        self._ready = False

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """The present troubles, red ones first."""
        return tuple(
            sorted(self._troubles.values(), key=lambda trouble: (not trouble.red, trouble.neighbour))
        )

    def on_event(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Trouble):
            self._troubles[event.neighbour] = event
        elif isinstance(event, Recovered):
            self._troubles.pop(event.neighbour, None)

    def report(self, *, ready: bool, draining: bool) -> Report:
        """Say how it is; ``ready`` that every neighbour has answered once, now or ever before."""
        self._ready = self._ready or ready
        red = any(trouble.red for trouble in self.troubles)
        return Report(
            healthy=self._ready and not draining and not red,
            database_connected=self._is_well("journal"),
            gateway_connected=self._is_well("gateway"),
            ethereum_connected=self._is_well("ethereum"),
            kms_core_connected=self._is_well("core"),
            details="; ".join(self._details(draining)),
            ready=self._ready,
            draining=draining,
            troubles=self.troubles,
        )

    def _is_well(self, neighbour: str) -> bool:
        return not any(name == neighbour or name.startswith(f"{neighbour}[") for name in self._troubles)

    def _details(self, draining: bool) -> list[str]:
        state = (
            ["draining"]
            if draining
            else []
            if self._ready
            else ["not ready: not every neighbour has answered yet"]
        )
        return state + [f"{trouble.neighbour}: {trouble.reason}" for trouble in self.troubles]

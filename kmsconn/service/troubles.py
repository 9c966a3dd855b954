"""Who stands in the way of requests, told once when it begins, when its reason changes, and when it is over.

A neighbour works again when it served any request. A trouble of the checks (a chain that is not configured) is over when the
last request that met it went on or ended.
"""

from __future__ import annotations

import attrs
import trio

from kmsconn.errors import Misconfigured, Retryable
from kmsconn.model.events import OnEvent, Recovered, Trouble

CORE = "core"
NEIGHBOURS = {"check": "checks", "gather": "buckets", "submit": CORE, "answer": CORE}


@attrs.define
class Troubles:
    """The present troubles of the stages."""

    on_event: OnEvent
    _reasons: dict[str, str] = attrs.field(factory=dict)
    _blamed: dict[str, set[int]] = attrs.field(factory=dict)

    def failed(self, neighbour: str, rid: int, error: Retryable) -> None:
        """A request could not get through a stage: its neighbour's fault. Without the Core no request can be finished."""
        self.say(
            neighbour, rid, str(error), red=neighbour.startswith(CORE) or isinstance(error, Misconfigured)
        )

    def say(self, neighbour: str, rid: int, reason: str, *, red: bool) -> None:
        """Tell of a trouble, unless just that has been told."""
        self._blamed.setdefault(neighbour, set()).add(rid)
        if self._reasons.get(neighbour) != reason:
            self._reasons[neighbour] = reason
            self.on_event(Trouble(neighbour, reason, red=red))

    def passed(self, neighbour: str, rid: int) -> None:
        """A request got through a stage: its neighbour works."""
        if neighbour not in self._reasons:
            return
        self._blamed[neighbour].discard(rid)
        if neighbour != "checks" or not self._blamed[neighbour]:
            self._over(neighbour)

    def ended(self, rid: int) -> None:
        """A request is no longer worked on, whatever its end."""
        for neighbour, rids in tuple(self._blamed.items()):
            rids.discard(rid)
            if not rids:
                self._over(neighbour)

    def _over(self, neighbour: str) -> None:
        del self._reasons[neighbour], self._blamed[neighbour]
        self.on_event(Recovered(neighbour))


STANDSTILL = 10.0  # seconds for which something may fail before it is said: nodes lag and connections break all the time


@attrs.define
class Standstill:
    """Says once that something has not worked for a while, and once that it works again."""

    name: str
    on_event: OnEvent
    _since: float | None = None
    _told: bool = False

    def worked(self) -> None:
        """It worked."""
        self._since = None
        if self._told:
            self._told = False
            self.on_event(Recovered(self.name))

    def failed(self, reason: str) -> None:
        """It failed once more."""
        now = trio.current_time()
        self._since = now if self._since is None else self._since
        if not self._told and now - self._since >= STANDSTILL:
            self._told = True
            self.on_event(Trouble(self.name, reason, red=True))

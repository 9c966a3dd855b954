"""The dependencies that stand in the way of requests: raised when it begins, when the reason changes, and cleared when it is over.

A dependency works again when it served any request. An alert of the checks (a chain that is not configured) is over when the
last request that met it went on or ended.
"""

from __future__ import annotations

import attrs
import trio

from kmsconn.errors import Misconfigured, Retryable
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent, Severity

CORE = "core"
FAILING = "failing"
DEPENDENCIES = {"check": "checks", "gather": "buckets", "submit": CORE, "answer": CORE}


@attrs.define
class Blame:
    """The requests that each dependency holds up."""

    on_event: OnEvent
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.on_event), takes_self=True), init=False
    )
    _blamed: dict[str, set[int]] = attrs.field(factory=dict)

    def failed(self, dependency: str, rid: int, error: Retryable) -> None:
        """A request could not get through a stage: its dependency's fault. Without the Core no request can be finished."""
        bad = dependency.startswith(CORE) or isinstance(error, Misconfigured)
        self.say(dependency, rid, str(error), Severity.CRITICAL if bad else Severity.WARNING)

    def say(self, dependency: str, rid: int, text: str, severity: Severity) -> None:
        """Raise an alert, unless just that has been raised."""
        self._blamed.setdefault(dependency, set()).add(rid)
        self._alerts.raise_(dependency, FAILING, text, severity)

    def passed(self, dependency: str, rid: int) -> None:
        """A request got through a stage: its dependency works."""
        if dependency not in self._blamed:
            return
        self._blamed[dependency].discard(rid)
        if dependency != "checks" or not self._blamed[dependency]:
            self._over(dependency)

    def ended(self, rid: int) -> None:
        """A request is no longer worked on, whatever its end."""
        for dependency, rids in tuple(self._blamed.items()):
            rids.discard(rid)
            if not rids:
                self._over(dependency)

    def _over(self, dependency: str) -> None:
        del self._blamed[dependency]
        self._alerts.clear(dependency, FAILING)


STANDSTILL = 10.0  # seconds for which something may fail before it is said: nodes lag and connections break all the time


@attrs.define
class Standstill:
    """Raises one alert when something has not worked for a while, and clears it when it works again."""

    dependency: str
    cause: str
    on_event: OnEvent
    _since: float | None = None
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.on_event), takes_self=True), init=False
    )

    def worked(self) -> None:
        """It worked."""
        self._since = None
        self._alerts.clear(self.dependency, self.cause)

    def failed(self, text: str) -> None:
        """It failed once more."""
        now = trio.current_time()
        self._since = now if self._since is None else self._since
        if now - self._since >= STANDSTILL and (self.dependency, self.cause) not in self._alerts:
            self._alerts.raise_(self.dependency, self.cause, text, Severity.CRITICAL)

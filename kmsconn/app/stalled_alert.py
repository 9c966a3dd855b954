"""An alert for work that has not succeeded for a while, such as reading the logs of a contract: raised once, cleared on success."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent, Severity

STALLED_AFTER = 10.0  # seconds for which something may fail before it is said: nodes lag and connections break all the time


@attrs.define
class StalledAlert:
    """Raises one alert when something has not worked for a while, and clears it when it works again.

    ``is_excused`` says whether another alert tells why already.
    """

    dependency: str
    cause: str
    on_event: OnEvent
    is_excused: Callable[[], bool] = lambda: False
    _since: float | None = None
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.on_event), takes_self=True), init=False
    )

    def worked(self) -> None:
        """Note a success, and clear the alert."""
        self._since = None
        self._alerts.clear(self.dependency, self.cause)

    def failed(self, text: str) -> None:
        """Note a failure, and raise the alert when nothing has worked for ``STALLED_AFTER`` seconds."""
        if self.is_excused():
            return
        now = trio.current_time()
        self._since = now if self._since is None else self._since
        if now - self._since >= STALLED_AFTER and (self.dependency, self.cause) not in self._alerts:
            self._alerts.raise_(self.dependency, self.cause, text, Severity.CRITICAL)

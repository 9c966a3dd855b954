"""Remembers open requests between their passes: what holds them up, and ids that a Core reports as taken.

*Taken ids.* A Core may say ``ALREADY_EXISTS`` to a start that this connector did not make, and then have no result. Seen on a real Core:
a start that fails inside it leaves the id taken, and there is no result until that Core is restarted. A request of before, whose start
this connector forgot, looks the same at first; so an alert waits for some minutes.
"""

from __future__ import annotations

import attrs

from kmsconn.model.progress import Progress

TAKEN = "taken-ids"
REMEDY = "restart this Core: a start that failed inside it leaves the id taken until then"
MARK = "ALREADY_EXISTS, and no result yet: "
"""The beginning of the reason of such a row."""


@attrs.define
class RequestTracker:
    """The memory about open requests that stages and row outcomes share. A request that is over is forgotten by ``forget``."""

    progress: Progress = attrs.field(factory=Progress)
    taken: set[int] = attrs.field(factory=set)
    """The open requests whose ids the Core had already, each until it has a result, is started anew, or ends."""

    def started(self, rid: int, *, existed: bool) -> None:
        """Note the outcome of a start call; one that the Core took makes the id ours."""
        if existed:
            self.taken.add(rid)
        elif rid in self.taken:
            self.taken.discard(rid)
            self.progress.free(rid)

    @property
    def remembered(self) -> set[int]:
        """The requests of which something is remembered until they are over."""
        return {*self.progress, *self.taken}

    def forget(self, rid: int) -> None:
        """Forget what was noted of a request that is answered or over."""
        self.progress.free(rid)
        self.taken.discard(rid)

"""Tracks request ids that a Core reports as taken (``ALREADY_EXISTS``) although this connector did not start them, without a result.

Seen on a real Core: a start that fails inside it leaves the id taken, and there is no result until that Core is restarted. A request
of before, whose start this connector forgot, looks the same at first; so an alert waits for several polls and some minutes.
"""

from __future__ import annotations

import attrs
import trio

from kmsconn.app.held import Held
from kmsconn.model.events import Severity

CAUSE = "taken-ids"
REMEDY = "restart this Core: a start that failed inside it leaves the id taken until then"
MARK = "ALREADY_EXISTS, and no result yet: "
"""What the reason of such a row begins with, so that the next process knows it too."""

POLLS = 3  # without a result
TAKEN_ID_AFTER = 300.0  # seconds since it said so, for a decryption, which takes seconds
TAKEN_KEY_ID_AFTER = 3600.0  # for a key or an epoch, which may take that long


@attrs.define
class _Taken:
    since: float
    polls: int = 0


@attrs.define
class TakenIds:
    """The open requests whose ids were taken, each until it has a result, is started anew, or ends."""

    held: Held
    _taken: dict[int, _Taken] = attrs.field(factory=dict)

    def __contains__(self, rid: int) -> bool:
        return rid in self._taken

    def started(self, rid: int, *, existed: bool) -> None:
        """Note what a start call came to; one that the Core took makes the id ours."""
        if existed:
            self._taken.setdefault(rid, _Taken(trio.current_time()))
        else:
            self._taken.pop(rid, None)

    def polled(self, rid: int, core: str, *, long: bool) -> None:
        """Note a poll of a taken id without a result, and raise the alert of its ``core`` when there were enough of them."""
        taken = self._taken.get(rid)
        if taken is None:
            return
        taken.polls += 1
        patience = TAKEN_KEY_ID_AFTER if long else TAKEN_ID_AFTER
        if taken.polls >= POLLS and trio.current_time() - taken.since >= patience:
            text = "says ALREADY_EXISTS to starts that this connector has not made, and has no result of them"
            self.held.hold((core, CAUSE), rid, text, Severity.WARNING, REMEDY)

    def ended(self, rid: int) -> None:
        """Note that a request ended, or is to be started anew."""
        self._taken.pop(rid, None)

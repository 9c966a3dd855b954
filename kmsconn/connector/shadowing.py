"""The shadow of a connector: turns what shadow mode found into alerts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import ClassVar

import attrs

from kmsconn.ethereum.ids import id_hex
from kmsconn.model.events import (
    AlertRaised,
    Event,
    ReplyCompared,
    ReplyMissing,
    ReplyUnmatched,
)
from kmsconn.replies.shadow import Likeness

MEMORY = 3600.0  # seconds for which a finding counts
MOST_REMEMBERED = 10_000  # findings of one cause; further ones take the place of the oldest
SHADOW = "shadow"
DIFFER, UNMATCHED, MISSING = "replies-differ", "replies-unmatched", "replies-missing"


@attrs.define
class ShadowFindings:
    """What shadow mode found in the last hour, by cause: each with its time and what is said of it."""

    takes: ClassVar = (ReplyCompared, ReplyUnmatched, ReplyMissing)

    _found: dict[str, deque[tuple[float, str]]] = attrs.field(factory=dict)

    def note(self, event: Event, now: float) -> None:
        """Take an event."""
        match event:
            case ReplyCompared(likeness=Likeness.DIFFERENT):
                self._add(DIFFER, now, _difference(event))
            case ReplyUnmatched():
                self._add(UNMATCHED, now, f"request {_name(event.id)} is {event.state} here: {event.reason}")
            case ReplyMissing():
                self._add(MISSING, now, f"request {_name(event.id)}")
            case _:
                pass

    def _add(self, cause: str, now: float, text: str) -> None:
        self._found.setdefault(cause, deque(maxlen=MOST_REMEMBERED)).append((now, text))

    def alerts(self, now: float) -> Iterator[AlertRaised]:
        """Return the alerts that follow."""
        for cause, found in self._found.items():
            while found and now - found[0][0] > MEMORY:
                found.popleft()
            if found:
                text = f"{_TEXTS[cause].format(len(found))}, the last one: {found[-1][1]}"
                yield AlertRaised(SHADOW, cause, text, count=len(found))


_TEXTS = {
    DIFFER: "{} replies of the other connector differ from those prepared here",
    UNMATCHED: "{} requests were answered by the other connector and have no answer here",
    MISSING: "{} requests are answered here and were not answered by the other connector until their deadline",
}


def _difference(event: ReplyCompared) -> str:
    where = f"byte {event.at} in {event.field}"
    return f"request {_name(event.id)} at {where}, {event.ours} here and {event.theirs} there"


def _name(identifier: int | None) -> str:
    return "of unknown id" if identifier is None else f"0x{id_hex(identifier)}"

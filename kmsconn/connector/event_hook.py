"""Hands each event to the parts of the connector that take its type, then to the caller's hook; keeps what the hook raises.

No boundary of the connector handles an exception of the hook: it ends the connector. A hook that raised where it was called would leave
a change half done there, and a stage or the worker boundary could swallow the exception.

One part is here: another connector that uses this node's key, of which the transaction managers saw transactions in blocks. In shadow mode
another part takes its place, which turns what the shadow found into alerts.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import ClassVar, Never

import attrs
import trio

from kmsconn.config.options import OptionTable
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.events import (
    AlertRaised,
    Event,
    ForeignTransaction,
    OnEvent,
    ReplyCompared,
    ReplyMissing,
    ReplyUnmatched,
    ignore,
)
from kmsconn.protocols.comparing import Likeness
from kmsconn.requests.http_decryption import HttpWaiters

SEVERAL = 2  # foreign transactions before it is said: one could be an operator's, or of a former journal
MEMORY = 3600.0  # seconds for which a foreign transaction counts, and what a shadow found
MOST_REMEMBERED = (
    10_000  # foreign transactions, or findings of one cause; further ones take the place of the oldest
)


def in_words_of(table: OptionTable, on_event: OnEvent) -> OnEvent:
    """Return a hook whose alerts name options as a generation does."""

    def tell(event: Event) -> None:
        if isinstance(event, AlertRaised):
            text, remedy = table.in_own_words(event.text), table.in_own_words(event.remedy)
            event = attrs.evolve(event, text=text, remedy=remedy)
        on_event(event)

    return tell if table.names else on_event


class EventHook:
    """Tells each taker of the events that it takes, with Trio's time, then calls the hook; after its first exception never again."""

    def __init__(
        self, on_event: OnEvent, *takers: ForeignTransactions | ShadowFindings | HttpWaiters
    ) -> None:
        self._on_event = on_event
        self._notes: dict[type, list[Callable[[Event, float], object]]] = {}
        self._error: Exception | None = None
        self._failed = trio.Event()
        for taker in takers:
            for kind in taker.takes:
                self._notes.setdefault(kind, []).append(taker.note)

    def __call__(self, event: Event) -> None:
        """Tell an event."""
        for note in self._notes.get(type(event), ()):
            note(event, trio.current_time())
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001 - not taken: ``watch`` raises it in the middle of the tree
            self._error, self._on_event = error, ignore
            self._failed.set()

    async def watch(self) -> Never:
        """Wait for ever. Raises what the hook raised, as soon as it did."""
        await self._failed.wait()
        assert self._error is not None
        raise self._error


@attrs.define
class ForeignTransactions:
    """Keeps what may become an alert. Pure."""

    takes: ClassVar = (ForeignTransaction,)

    _seen: deque[tuple[float, ForeignTransaction]] = attrs.field(
        factory=lambda: deque(maxlen=MOST_REMEMBERED)
    )

    def note(self, event: Event, now: float) -> None:
        """Take an event."""
        if isinstance(event, ForeignTransaction):
            self._seen.append((now, event))

    def alerts(self, now: float) -> Iterator[AlertRaised]:
        """Return the alerts that follow."""
        while self._seen and now - self._seen[0][0] > MEMORY:
            self._seen.popleft()
        if len(self._seen) >= SEVERAL:
            count, (_, last) = len(self._seen), self._seen[-1]
            text = (
                f"{count} transactions of this node's account were included that this connector did not sign, the last one "
                f"{to_hex(last.transaction_hash)} with nonce {last.nonce} in block {last.block} of {last.chain}: "
                "another connector uses the same key"
            )
            yield AlertRaised("wallet", "used-by-another", text, count=count)


FINDINGS = {
    "replies-differ": "replies of the other connector differ from those prepared here",
    "replies-unmatched": "requests were answered by the other connector and have no answer here",
    "replies-missing": "requests are answered here and were not answered by the other connector until their deadline",
}


@attrs.define
class ShadowFindings:
    """What shadow mode found in the last hour, by cause: each with its time and what is said of it."""

    takes: ClassVar = (ReplyCompared, ReplyUnmatched, ReplyMissing)

    _found: defaultdict[str, deque[tuple[float, str]]] = attrs.field(
        factory=lambda: defaultdict(lambda: deque(maxlen=MOST_REMEMBERED))
    )

    def note(self, event: Event, now: float) -> None:
        """Take an event."""
        identifier = getattr(event, "id", None)
        request = "a request" if identifier is None else f"request 0x{id_hex(identifier)}"
        match event:
            case ReplyCompared(likeness=Likeness.DIFFERENT):
                where = f"byte {event.at} in {event.field}, {event.ours} here and {event.theirs} there"
                self._found["replies-differ"].append((now, f"{request} at {where}"))
            case ReplyUnmatched():
                why = f"{request} is {event.state} here: {event.reason}"
                self._found["replies-unmatched"].append((now, why))
            case ReplyMissing():
                self._found["replies-missing"].append((now, request))
            case _:
                pass

    def alerts(self, now: float) -> Iterator[AlertRaised]:
        """Return the alerts that follow."""
        for cause, found in self._found.items():
            while found and now - found[0][0] > MEMORY:
                found.popleft()
            if found:
                text = f"{len(found)} {FINDINGS[cause]}, the last one: {found[-1][1]}"
                yield AlertRaised("shadow", cause, text, count=len(found))

"""Hands each event to the parts of the connector that take its type, then to the caller's hook; keeps what the hook raises.

No boundary of the connector handles an exception of the hook: it ends the connector. A hook that raised where it was called would leave
a change half done there, and a stage or the worker boundary could swallow the exception.

One part is here: another connector that uses this node's key, detected from the order of events. A request that came while this process
ran, and whose reply is in the contract under this node's signer although this process never signed it, was answered by somebody else; so
was one whose nonce a foreign transaction took, and whose reply is there, and one that the transaction manager found in the contract while
its own bytes were not in the chain. In shadow mode another part takes its place, which turns what the shadow found into alerts.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import ClassVar, Never

import attrs
import trio

from kmsconn.config.options import OptionTable
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.events import (
    AlertRaised,
    CursorMoved,
    Event,
    OnEvent,
    ReplyCompared,
    ReplyIncluded,
    ReplyMissing,
    ReplyReturned,
    ReplySigned,
    ReplyUnmatched,
    RequestClosed,
    RequestRecorded,
    ignore,
)
from kmsconn.model.life import State
from kmsconn.protocols.comparing import Likeness
from kmsconn.requests.http_decryption import HttpWaiters

SEVERAL = 2  # foreign replies before it is said: one could be a reply of a former journal that came late
MEMORY = 3600.0  # seconds for which a foreign reply counts, and what a shadow found
WATCHED_REPLIES = 100_000  # requests whose reply is awaited; beyond it none is watched


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

    def __init__(self, on_event: OnEvent, *takers: ForeignReplies | ShadowFindings | HttpWaiters) -> None:
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
class ForeignReplies:
    """Keeps what may become an alert. Pure."""

    takes: ClassVar = (CursorMoved, RequestRecorded, ReplySigned, ReplyReturned, ReplyIncluded, RequestClosed)

    _began: dict[int, int] = attrs.field(factory=dict)
    """The head of each chain when this process first read it; the lowest that was told, since one node's first may be wild."""
    _live: dict[int, int] = attrs.field(factory=dict)
    """The ids of requests that came since, and are neither signed nor over."""
    _collided: set[int] = attrs.field(factory=set)
    _foreign: list[tuple[float, int]] = attrs.field(factory=list)

    def note(self, event: Event, now: float) -> None:
        """Take an event."""
        match event:
            case RequestRecorded(rid=rid, chain_id=chain_id, block=block):
                began = self._began.get(chain_id)
                if began is not None and block > began and len(self._live) < WATCHED_REPLIES:
                    self._live[rid] = event.id
            case ReplySigned(rid=rid):
                self._over(rid, now, foreign=False)
            case ReplyIncluded(rid=rid):
                self._over(rid, now, foreign=event.found)
                if event.foreign:
                    self._foreign.append((now, 0))
            case ReplyReturned(rid=rid, nonce_taken=True):
                if len(self._collided) < WATCHED_REPLIES:
                    self._collided.add(rid)
            case RequestClosed(rid=rid):
                self._over(rid, now, foreign=event.state is State.FINALIZED)
            case CursorMoved(chain_id=chain_id, head=head):
                self._began[chain_id] = min(head, self._began.get(chain_id, head))
            case _:
                pass

    def _over(self, rid: int, now: float, *, foreign: bool) -> None:
        identifier = self._live.pop(rid, None)
        collided = rid in self._collided
        self._collided.discard(rid)
        if foreign and (identifier is not None or collided):
            self._foreign.append((now, identifier or 0))

    def alerts(self, now: float) -> Iterator[AlertRaised]:
        """Return the alerts that follow."""
        self._foreign = [(at, identifier) for at, identifier in self._foreign if now - at <= MEMORY]
        if len(self._foreign) >= SEVERAL:
            count, (_, last) = len(self._foreign), self._foreign[-1]
            which = f", the last one to request 0x{last:064x}" if last else ""
            text = (
                f"{count} replies under this node's key were included that this connector did not send{which}: "
                "another connector uses the same key"
            )
            yield AlertRaised("wallet", "used-by-another", text, count=count)


FINDINGS = {
    "replies-differ": "replies of the other connector differ from those prepared here",
    "replies-unmatched": "requests were answered by the other connector and have no answer here",
    "replies-missing": "requests are answered here and were not answered by the other connector until their deadline",
}
MOST_REMEMBERED = 10_000  # findings of one cause; further ones take the place of the oldest


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

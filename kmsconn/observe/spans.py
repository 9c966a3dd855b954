"""Events as spans of OpenTelemetry: one trace for each request, whose ids follow from the request. Pure: exports nothing, knows no library.

Each span is made when what it is about has ended, so a process that is killed loses no more than the stage it was in. The span of the
request itself, the parent of all others, is made when its reply is in the chain, or the request ends without one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from kmsconn.config.settings import Settings, TracingSettings
from kmsconn.model import events
from kmsconn.model.life import State
from kmsconn.model.requests import Kind, TraceContext, trace_of
from kmsconn.transport.urls import hide_urls

MOST_REQUESTS: Final = 65_536  # that are remembered between two events: some 20 MiB; of an older one the next span begins where it ends
LONGEST_TEXT: Final = 256  # characters of a reason in a span
_SPAN_BITS: Final = 64
_WELL: Final = frozenset({State.DONE, State.ABORTED, State.FINALIZED, State.INCLUDED})

Value = str | int | float | bool


@attrs.frozen
class Span:
    """Something that was done for a request, from ``start`` to ``end`` in Unix seconds. ``error`` is empty where it succeeded."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    start: float
    end: float
    attributes: Mapping[str, Value]
    error: str = ""


@attrs.define
class _Known:
    """What is remembered of a request: its trace, when it was recorded, when its last step ended, and since when it waits for what."""

    trace: TraceContext
    common: Mapping[str, Value]
    recorded: float | None = None
    last: float | None = None
    waits: tuple[float, str, str] | None = None


@attrs.define
class SpanMaker:
    """Makes the spans of one connector. ``wall`` is in Unix seconds, ``random`` in [0, 1)."""

    settings: Settings
    tracing: TracingSettings
    wall: Callable[[], float]
    random: Callable[[], float]
    _known: OrderedDict[tuple[int, Kind, int | None], _Known] = attrs.field(factory=OrderedDict, init=False)
    _latest: tuple[events.Event, Span] | None = attrs.field(default=None, init=False)

    def take(self, event: events.Event) -> tuple[Span, ...]:
        """Return the spans that an event ends, none where its trace is not exported."""
        known = self._of(event)
        if known is None or not self.tracing.samples(known.trace.trace_id):
            return ()
        spans = tuple(self._spans(event, known, self.wall()))
        if spans:
            self._latest = event, spans[-1]
        if isinstance(event, (events.RequestClosed, events.ReplyFinalized)):
            self._known.pop((event.rid, event.kind, event.id), None)
        return spans

    def context(self, event: events.Event) -> Mapping[str, str]:
        """Return what a log line about an event says of its trace: the span that it ended, or that of the request."""
        if self._latest is not None and self._latest[0] is event:
            span = self._latest[1]
            return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        known = self._of(event)
        if known is None:
            return {}
        return {"trace_id": known.trace.trace_hex, "span_id": f"{known.trace.span_id:016x}"}

    def _of(self, event: events.Event) -> _Known | None:
        if not isinstance(event, events.EventOfRequest) or event.id is None:
            return None
        key = event.rid, event.kind, event.id
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._begin(*key)
            if len(self._known) > MOST_REQUESTS:
                self._known.popitem(last=False)
        return known

    def _begin(self, rid: int, kind: Kind, identifier: int) -> _Known:
        trace = trace_of(self.settings.chains.gateway.chain_id, kind, identifier)
        common = {
            "kmsconn.request.kind": kind.value,
            "kmsconn.request.id": f"0x{identifier:064x}",
            "kmsconn.request.row": rid,
        }
        return _Known(trace, common)

    def _spans(self, event: events.Event, known: _Known, now: float) -> Iterable[Span]:
        match event:
            case events.RequestRecorded():
                known.recorded = known.last = now
                yield self._span(known, "record", (now, now), _place(event))
            case events.StageFinished() | events.StageFailed():
                yield from self._stage(event, known, now)
            case events.RequestDeferred():
                known.waits = now, event.stage, event.reason
            case events.AnswerKept():
                known.recorded, known.last = now - event.seconds, now
            case events.RequestClosed():
                yield self._closed(event, known, now)
            case _:
                yield from self._reply(event, known, now)

    def _stage(
        self, event: events.StageFinished | events.StageFailed, known: _Known, now: float
    ) -> Iterable[Span]:
        start = now - event.seconds
        yield from self._wait(known, start)
        failed = event.cause if isinstance(event, events.StageFailed) else ""
        more: dict[str, Value] = {}
        if event.stage in _OF_THE_CORE and event.id is not None:
            more["kmsconn.core"] = f"core[{event.id % len(self.settings.core.core_endpoints)}]"
        yield self._span(known, event.stage, (start, now), more, failed)
        known.last = now

    def _wait(self, known: _Known, until: float) -> Iterable[Span]:
        """Return the time for which a request waited before what begins now."""
        if known.waits is None:
            return
        since, stage, reason = known.waits
        known.waits = None
        more = {"kmsconn.stage": stage, "kmsconn.reason": _text(reason)}
        yield self._span(known, "wait", (since, max(since, until)), more)

    def _reply(self, event: events.Event, known: _Known, now: float) -> Iterable[Span]:
        if (told := _OF_REPLIES.get(type(event))) is None:
            return
        name, more = told
        start, attributes = now if known.last is None else known.last, more(event)
        error = _text(event.reason) if isinstance(event, events.ReplyReturned) else ""
        yield self._span(known, name, (start, now), attributes, error)
        if isinstance(event, events.ReplyIncluded):
            yield self._root(known, now - event.seconds, now, attributes)
        known.last = now

    def _closed(self, event: events.RequestClosed, known: _Known, now: float) -> Span:
        since = known.recorded if known.recorded is not None else known.last
        error = "" if event.state in _WELL else _text(f"{event.state}: {event.reason}")
        more = {"kmsconn.state": event.state.value, "kmsconn.cause": event.cause}
        return self._root(known, now if since is None else since, now, more, error)

    def _root(
        self, known: _Known, start: float, end: float, more: Mapping[str, Value], error: str = ""
    ) -> Span:
        """Return the span of the request itself, whose id is the one that the Core was told."""
        kind = str(known.common["kmsconn.request.kind"])
        trace = known.trace
        return Span(kind, trace.trace_id, trace.span_id, None, start, end, {**known.common, **more}, error)

    def _span(
        self, known: _Known, name: str, when: tuple[float, float], more: Mapping[str, Value], error: str = ""
    ) -> Span:
        attributes = {**known.common, **more}
        span_id = max(1, int(self.random() * (1 << _SPAN_BITS)))
        trace = known.trace
        return Span(name, trace.trace_id, span_id, trace.span_id, *when, attributes, error)


_OF_THE_CORE: Final = frozenset({"submit", "answer"})


def _place(event: events.RequestRecorded) -> Mapping[str, Value]:
    if event.over_http:
        return {"kmsconn.source": "http"}
    return {
        "kmsconn.chain.id": event.chain_id,
        "kmsconn.block": event.block,
        "kmsconn.transaction": f"0x{event.transaction_hash.hex()}",
        "kmsconn.log_index": event.log_index,
    }


def _inclusion(event: events.ReplyIncluded) -> Mapping[str, Value]:
    more: dict[str, Value] = {"kmsconn.reply.block": event.block, "kmsconn.reply.found": event.found}
    if event.transaction_hash is not None:
        more["kmsconn.reply.transaction"] = f"0x{event.transaction_hash.hex()}"
    return more


def _text(reason: str) -> str:
    """Return a reason without the secret parts of URLs, cut to a length."""
    return hide_urls(reason)[:LONGEST_TEXT]


_OF_REPLIES: Final[Mapping[type, tuple[str, Callable[[Any], Mapping[str, Value]]]]] = {
    events.ReplySigned: (
        "sign",
        lambda one: {"kmsconn.nonce": one.nonce, "kmsconn.transaction": f"0x{one.transaction_hash.hex()}"},
    ),
    events.ReplySent: ("broadcast", lambda one: {"kmsconn.nonce": one.nonce, "kmsconn.chain": one.chain}),
    events.ReplyIncluded: ("include", _inclusion),
    events.ReplyFinalized: ("finalize", lambda _: {}),
    events.ReplyReturned: ("return", lambda one: {"kmsconn.chain": one.chain}),
}
"""The span that an event about a reply ends, and what it says."""

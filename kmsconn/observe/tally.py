"""What has happened so far, as numbers, fed by ``on_event``: counters, gauges, histograms; and who takes which events. Asks nobody."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from typing import Any, Final

from kmsconn.ethereum.addresses import checksum
from kmsconn.model import events
from kmsconn.model.events import Event
from kmsconn.model.requests import DECRYPTION_KINDS
from kmsconn.observe import families
from kmsconn.observe.families import Family, Shape

Takes = Mapping[type, Callable[[Any], None]]
"""How an event is taken, by its type."""


class EventTaker:
    """Takes events of the types that ``takes`` names; others change nothing."""

    def __init__(self, takes: Takes) -> None:
        self.takes = takes

    def on_event(self, event: Event) -> None:
        """Take an event."""
        take = self.takes.get(type(event))
        if take is not None:
            take(event)


class EventTakers:
    """Hands each event to several takers, in their order."""

    def __init__(self, *takers: EventTaker) -> None:
        self._by_type: dict[type, list[Callable[[Any], None]]] = {}
        for taker in takers:
            for kind, take in taker.takes.items():
                self._by_type.setdefault(kind, []).append(take)

    def on_event(self, event: Event) -> None:
        """Hand an event over."""
        for take in self._by_type.get(type(event), ()):
            take(event)


_REMEMBERED: Final = (
    100_000  # answers whose inclusion is awaited; beyond that the forwarding latency is left out
)


_REFUSALS: Final = frozenset({"rejected-by-core", "refused", "aborted-by-core", "broken"})

GATEWAY: Final = "gateway"
DIFFERENT: Final = "different"
"""The likeness of replies that are told as a difference."""


class Histogram:
    """Observations sorted into buckets."""

    def __init__(self, limits: tuple[float, ...]) -> None:
        self._limits = limits
        self._counts = [0] * (len(limits) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Take one observation."""
        self._counts[bisect_left(self._limits, value)] += 1
        self.sum += value

    @property
    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Return each upper limit with the number of observations not above it."""
        names = [*(f"{limit:g}" for limit in self._limits), "+Inf"]
        return zip(names, accumulate(self._counts), strict=True)


Labels = tuple[str, ...]
Value = float | Histogram


def _zero(family: Family) -> Value:
    return Histogram(family.buckets) if family.shape is Shape.HISTOGRAM else 0


class EventTally(EventTaker):
    """Takes every event and keeps the numbers. Memory is bounded by kinds, stages, chains and dependencies, not by requests."""

    def __init__(self) -> None:
        super().__init__({kind: partial(count, self) for kind, count in COUNTING.items()})
        self.families: dict[Family, dict[Labels, Value]] = {
            family: {labels: _zero(family) for labels in series}
            for family, series in families.FROM_THE_START.items()
        }
        self.answered: dict[int, float] = {}
        self.refused: set[int] = set()
        """Open decryptions that the Core has refused or answered wrongly: an alert counts them, no objective of latency does."""

    def add(self, family: Family, *labels: str, amount: float = 1) -> None:
        """Count up."""
        series: dict[Labels, Any] = self.families.setdefault(family, {})
        series[labels] = series.get(labels, 0) + amount

    def set(self, family: Family, *labels: str, value: float) -> None:
        """Put a gauge."""
        self.families.setdefault(family, {})[labels] = value

    def observe(self, family: Family, *labels: str, value: float) -> None:
        """Take an observation into a histogram."""
        series: dict[Labels, Any] = self.families.setdefault(family, {})
        if labels not in series:
            series[labels] = Histogram(family.buckets)
        series[labels].observe(value)


def _recorded(tally: EventTally, event: events.RequestRecorded) -> None:
    tally.add(families.RECEIVED, families.event_type(event.kind))


def _moved(tally: EventTally, event: events.RequestsMoved) -> None:
    for change, amount in (("moved", event.moved), ("gone", event.gone), ("back", event.back)):
        if amount:
            tally.add(families.REORGANISED, str(event.chain_id), change, amount=amount)


def _reorganised(tally: EventTally, event: events.ChainReorganised) -> None:
    tally.add(families.REORGANISATIONS, str(event.chain_id))
    tally.set(families.REORGANISATION_DEPTH, str(event.chain_id), value=event.depth)


def _log_quarantined(tally: EventTally, event: events.LogQuarantined) -> None:
    tally.add(families.LOGS_QUARANTINED, str(event.chain_id))


def _cursor(tally: EventTally, event: events.CursorMoved) -> None:
    labels = (str(event.chain_id), checksum(event.contract))
    tally.set(families.CURSOR, *labels, value=event.block)
    tally.set(families.HEAD, *labels, value=event.head)
    tally.set(families.LAG, *labels, value=max(0, event.head + 1 - event.block))


def _stage(tally: EventTally, event: events.StageFinished) -> None:
    tally.observe(families.STAGE_SECONDS, event.kind, event.stage, value=event.seconds)
    family = {"check": families.PICKED, "submit": families.SUBMITTED, "answer": families.POLLED}.get(
        event.stage
    )
    if family is not None:
        tally.add(family, families.event_type(event.kind))


def _stage_failed(tally: EventTally, event: events.StageFailed) -> None:
    if event.cause in _REFUSALS and event.kind in DECRYPTION_KINDS and len(tally.refused) < _REMEMBERED:
        tally.refused.add(event.rid)
    check = families.CHECK_TYPES.get(event.cause)
    if event.stage == "check" and check is not None:
        tally.add(families.CHECK_ERRORS, check)


def _deferred(tally: EventTally, event: events.RequestDeferred) -> None:
    tally.add(families.DEFERRED, event.kind, event.stage)
    family = {"submit": families.SUBMIT_ERRORS, "answer": families.POLL_ERRORS}.get(event.stage)
    if family is not None:
        tally.add(family, families.event_type(event.kind))


def _closed(tally: EventTally, event: events.RequestClosed) -> None:
    tally.refused.discard(event.rid)
    tally.add(families.CLOSED, event.kind, event.state)
    tally.add(families.ENDS, event.kind, event.state, event.cause)
    if event.cause == "unexpected":
        tally.add(families.PICK_ERRORS, families.event_type(event.kind))
    if tally.answered.pop(event.rid, None) is not None and not event.told:
        tally.add(families.RESPONSE_ERRORS, families.response_type(event.kind))


def _answer(tally: EventTally, event: events.AnswerKept) -> None:
    if event.kind in DECRYPTION_KINDS:
        tally.observe(families.DECRYPTION_LATENCY, families.event_type(event.kind), value=event.seconds)
    tally.add(families.RESPONSES, families.response_type(event.kind))
    if len(tally.answered) < _REMEMBERED:
        tally.answered[event.rid] = event.seconds


def _count_reply(
    tally: EventTally, event: events.ReplySent | events.ReplyReturned, gateway: Family, other: Family
) -> None:
    """Count for the chain: 0.14 counts those of the Gateway alone."""
    if event.chain == GATEWAY:
        tally.add(gateway, families.response_type(event.kind))
    else:
        tally.add(other, event.chain, families.response_type(event.kind))


def _sent(tally: EventTally, event: events.ReplySent) -> None:
    _count_reply(tally, event, families.SENT, families.OTHER_SENT)
    if event.seconds is not None:
        tally.observe(families.HANDOVER_SECONDS, event.kind, value=event.seconds)


def _included(tally: EventTally, event: events.ReplyIncluded) -> None:
    answered, refused = tally.answered.pop(event.rid, None), event.rid in tally.refused
    tally.refused.discard(event.rid)
    if event.found:
        tally.add(families.FOUND, event.kind)
        return
    if not refused:
        tally.observe(families.INCLUSION_SECONDS, event.kind, value=event.seconds)
    if answered is not None:
        seconds = max(0.0, event.seconds - answered)
        tally.observe(families.FORWARDING_LATENCY, families.response_type(event.kind), value=seconds)


def _finalized(tally: EventTally, event: events.ReplyFinalized) -> None:
    tally.add(families.FINALIZED, event.kind)


def _returned(tally: EventTally, event: events.ReplyReturned) -> None:
    _count_reply(tally, event, families.SEND_ERRORS, families.OTHER_RETURNED)


def _compared(tally: EventTally, event: events.ReplyCompared) -> None:
    tally.add(families.SHADOW_COMPARED, event.kind, event.likeness)
    tally.observe(families.SHADOW_GAINED, event.kind, value=event.seconds)
    if event.likeness == DIFFERENT:
        tally.add(families.SHADOW_DIFFERENCES, event.kind, event.field or "")


def _unmatched(tally: EventTally, event: events.ReplyUnmatched) -> None:
    tally.add(families.SHADOW_UNMATCHED, event.kind)


def _missing(tally: EventTally, event: events.ReplyMissing) -> None:
    tally.add(families.SHADOW_MISSING, event.kind)


def _mismatched(tally: EventTally, _event: events.AttestationMismatch) -> None:
    tally.add(families.CHECK_ERRORS, families.CONSENSUS)


def _http_answered(tally: EventTally, event: events.HttpAnswered) -> None:
    tally.add(families.HTTP_REQUESTS, event.route, event.code, event.client)
    if event.code == families.HTTP_OK:
        tally.observe(families.HTTP_SECONDS, event.route, value=event.seconds)


def _alert(tally: EventTally, event: events.AlertRaised) -> None:
    tally.add(families.ALERTS, event.dependency, event.cause)
    contract = {"gateway": "decryption", "ethereum": "ethereum"}.get(event.dependency)
    if contract is not None:
        tally.add(families.LISTENING_ERRORS, contract)


def _nothing(tally: EventTally, event: events.Event) -> None:
    """Count nothing: another event of the same request is counted."""


COUNTING: Final[dict[type, Callable[[EventTally, Any], None]]] = {
    events.RequestRecorded: _recorded,
    events.RequestsMoved: _moved,
    events.ChainReorganised: _reorganised,
    events.LogQuarantined: _log_quarantined,
    events.CursorMoved: _cursor,
    events.BackfillProgressed: _nothing,
    events.StageFinished: _stage,
    events.StageFailed: _stage_failed,
    events.RequestDeferred: _deferred,
    events.RequestClosed: _closed,
    events.AnswerKept: _answer,
    events.AnswerMismatch: _nothing,
    events.ReplySigned: _nothing,
    events.ReplySent: _sent,
    events.ReplyIncluded: _included,
    events.ReplyFinalized: _finalized,
    events.ReplyReturned: _returned,
    events.ReplyCompared: _compared,
    events.ReplyUnmatched: _unmatched,
    events.ReplyMissing: _missing,
    events.CiphertextMismatch: _nothing,
    events.AttestationMismatch: _mismatched,
    events.HttpAnswered: _http_answered,
    events.AlertRaised: _alert,
    events.AlertCleared: _nothing,
}
"""How each event is counted; a test says that none is missing."""

"""What has happened so far, as numbers, fed by ``on_event``: counters, gauges, histograms; and who takes which events. Asks nobody."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from typing import Any, Final

from kmsconn.ethereum.addresses import Address
from kmsconn.model import events
from kmsconn.model.events import Event
from kmsconn.model.requests import DECRYPTION_KINDS
from kmsconn.observe import families
from kmsconn.observe.families import Family, Shape

Takes = Mapping[type, Callable[[Any], object]]
"""How an event is taken, by its type; events of other types change nothing."""


class EventTakers:
    """Hands each event to all that take its type, in their order: one lookup for an event."""

    def __init__(self, *several: Takes) -> None:
        self.by_type: dict[type, list[Callable[[Any], object]]] = {}
        for takes in several:
            for kind, take in takes.items():
                self.by_type.setdefault(kind, []).append(take)

    def on_event(self, event: Event) -> None:
        """Hand an event over."""
        for take in self.by_type.get(type(event), ()):
            take(event)


_REMEMBERED: Final = (
    100_000  # answers whose inclusion is awaited; beyond that the forwarding latency is left out
)


_REFUSALS: Final = frozenset({"rejected-by-core", "refused", "aborted-by-core", "broken"})

STAGE_DONE: Final = {"check": families.PICKED, "submit": families.SUBMITTED, "answer": families.POLLED}
STAGE_DEFERRED: Final = {"submit": families.SUBMIT_ERRORS, "answer": families.POLL_ERRORS}
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


class Series(dict[Labels, Any]):
    """The numbers or histograms of a family by their labels; each begins at zero."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self._zero = partial(Histogram, family.buckets) if family.shape is Shape.HISTOGRAM else int

    def __missing__(self, labels: Labels) -> Any:
        made = self[labels] = self._zero()
        return made


class _Families(dict[Family, Series]):
    def __missing__(self, family: Family) -> Series:
        made = self[family] = Series(family)
        return made


class EventTally:
    """Takes every event and keeps the numbers. Memory is bounded by kinds, stages, chains and dependencies, not by requests."""

    def __init__(self) -> None:
        self.takes: Takes = {kind: partial(count, self) for kind, count in COUNTING.items()}
        self.families = _Families()
        for family, several in families.FROM_THE_START.items():
            for labels in several:
                self.families[family][labels]
        self.read: dict[tuple[int, Address], events.CursorMoved] = {}
        """How far each contract is read, by chain and address."""
        self.answered: dict[int, float] = {}
        self.refused: set[int] = set()
        """Open decryptions that the Core has refused or answered wrongly: an alert counts them, no objective of latency does."""

    def add(self, family: Family, *labels: str, amount: float = 1) -> None:
        """Count up."""
        self.families[family][labels] += amount

    def observe(self, family: Family, *labels: str, value: float) -> None:
        """Take an observation into a histogram."""
        self.families[family][labels].observe(value)


def _moved(tally: EventTally, event: events.RequestsMoved) -> None:
    for change, amount in (("moved", event.moved), ("gone", event.gone), ("back", event.back)):
        if amount:
            tally.add(families.REORGANISED, str(event.chain_id), change, amount=amount)


def _quarantined(tally: EventTally, event: events.LogQuarantined) -> None:
    tally.add(families.LOGS_QUARANTINED, str(event.chain_id))
    tally.add(families.REJECTED, families.UNKNOWN if event.kind is None else families.event_type(event.kind))


def _reorganised(tally: EventTally, event: events.ChainReorganised) -> None:
    tally.add(families.REORGANISATIONS, str(event.chain_id))
    tally.families[families.REORGANISATION_DEPTH][str(event.chain_id),] = event.depth


def _cursor(tally: EventTally, event: events.CursorMoved) -> None:
    tally.read[event.chain_id, event.contract] = event


def _stage(tally: EventTally, event: events.StageFinished) -> None:
    kind, stage = event.kind, event.stage
    tally.families[families.STAGE_SECONDS][kind, stage].observe(event.seconds)
    family = STAGE_DONE.get(stage)
    if family is not None:
        tally.families[family][families.event_type(kind),] += 1


def _stage_failed(tally: EventTally, event: events.StageFailed) -> None:
    if event.cause in _REFUSALS and event.kind in DECRYPTION_KINDS and len(tally.refused) < _REMEMBERED:
        tally.refused.add(event.rid)
    check = families.CHECK_TYPES.get(event.cause)
    if event.stage == "check" and check is not None:
        tally.add(families.CHECK_ERRORS, check)


def _deferred(tally: EventTally, event: events.RequestDeferred) -> None:
    tally.add(families.DEFERRED, event.kind, event.stage)
    family = STAGE_DEFERRED.get(event.stage)
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


def _compared(tally: EventTally, event: events.ReplyCompared) -> None:
    tally.add(families.SHADOW_COMPARED, event.kind, event.likeness)
    tally.observe(families.SHADOW_GAINED, event.kind, value=event.seconds)
    if event.likeness == DIFFERENT:
        tally.add(families.SHADOW_DIFFERENCES, event.kind, event.field or "")


def _http_answered(tally: EventTally, event: events.HttpAnswered) -> None:
    tally.add(families.HTTP_REQUESTS, event.route, event.code, event.client)
    if event.code == families.HTTP_OK:
        tally.observe(families.HTTP_SECONDS, event.route, value=event.seconds)


def _alert(tally: EventTally, event: events.AlertRaised) -> None:
    tally.add(families.ALERTS, event.dependency, event.cause)
    contract = {"gateway": "decryption", "ethereum": "ethereum"}.get(event.dependency)
    if contract is not None:
        tally.add(families.LISTENING_ERRORS, contract)


COUNTING: Final[dict[type, Callable[[EventTally, Any], None]]] = {
    events.RequestRecorded: lambda tally, event: tally.add(
        families.RECEIVED, families.event_type(event.kind)
    ),
    events.RequestsMoved: _moved,
    events.ChainReorganised: _reorganised,
    events.LogQuarantined: _quarantined,
    events.UnknownRequestsHeard: lambda tally, event: tally.add(
        families.REJECTED, families.event_type(event.kind), amount=event.count
    ),
    events.CursorMoved: _cursor,
    events.StageFinished: _stage,
    events.StageFailed: _stage_failed,
    events.RequestDeferred: _deferred,
    events.RequestClosed: _closed,
    events.AnswerKept: _answer,
    events.ReplySent: _sent,
    events.ReplyIncluded: _included,
    events.ReplyFinalized: lambda tally, event: tally.add(families.FINALIZED, event.kind),
    events.ReplyReturned: lambda tally, event: _count_reply(
        tally, event, families.SEND_ERRORS, families.OTHER_RETURNED
    ),
    events.ReplyCompared: _compared,
    events.ReplyUnmatched: lambda tally, event: tally.add(families.SHADOW_UNMATCHED, event.kind),
    events.ReplyMissing: lambda tally, event: tally.add(families.SHADOW_MISSING, event.kind),
    events.AttestationMismatch: lambda tally, _: tally.add(families.CHECK_ERRORS, families.CONSENSUS),
    events.HttpAnswered: _http_answered,
    events.AlertRaised: _alert,
}
"""How each event is counted."""

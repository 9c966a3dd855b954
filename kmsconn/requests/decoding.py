"""Decodes the logs of a read, and tells of the requests in them once they are recorded.

Each log is decoded once: the result is remembered, so that reading the reorg window again costs little.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.frozen import frozen
from kmsconn.journal.recording import Arrival, Recorded
from kmsconn.model.events import LogQuarantined, RequestRecorded, RequestsMoved
from kmsconn.model.requests import Kind
from kmsconn.protocols.profile import Profile
from kmsconn.requests.components import Components

REMEMBERED_LOGS = 20_000


@frozen
class _Decoded:
    """The part of a decoded log that is kept: little, since many are remembered."""

    id: int
    kind: Kind
    digest: bytes
    expires: bool
    whole: bool


@attrs.frozen
class DecodedLogs:
    """The requests in some logs, and the logs that cannot be decoded, each with the reason."""

    arrivals: tuple[Arrival, ...] = ()
    undecodable: tuple[tuple[Log, str], ...] = ()


@attrs.define
class DecodeCache:
    """Decodes the logs of one contract by a profile. Repeating: the same, from memory."""

    profile: Profile
    _known: dict[int, _Decoded | None] = attrs.field(factory=dict)
    """By the hash of the whole log."""

    def decode(self, logs: Iterable[Log]) -> DecodedLogs:
        """Decode logs; those that are no request of this generation are left out."""
        arrivals, undecodable, known = [], [], self._known
        for log in logs:
            fingerprint = hash(log)
            if fingerprint not in known:
                if len(known) >= REMEMBERED_LOGS:
                    known.clear()
                try:
                    known[fingerprint] = self._decoded(log)
                except Undecodable as error:
                    undecodable.append((log, str(error)))
                    continue
            if (one := known[fingerprint]) is not None:
                arrivals.append(Arrival(one.id, one.kind, one.digest, log, one.expires, one.whole))
        return DecodedLogs(tuple(arrivals), tuple(undecodable))

    def _decoded(self, log: Log) -> _Decoded | None:
        content = self.profile.decode(log)
        if content is None:
            return None
        expires = self.profile.operations[content.kind].expires
        whole = not any(reference.is_bare for reference in content.references)
        return _Decoded(content.id, content.kind, self.profile.digest(log), expires, whole)


def tell_recorded(components: Components, chain_id: int, recorded: Recorded) -> None:
    """Tell what a read has changed, and notify the dispatchers of what is new or on chain again."""
    on_event = components.on_event
    for rid, arrival in recorded.new:
        log = arrival.log
        at = (log.block_number, log.transaction_hash, log.log_index)
        on_event(RequestRecorded(rid, arrival.kind, arrival.id, chain_id, *at))
    if recorded.moved or recorded.gone or recorded.back:
        on_event(RequestsMoved(chain_id, recorded.moved, recorded.gone, len(recorded.back)))
    for log, reason in recorded.quarantined:
        kind = components.profile.kinds.get(log.topics[0]) if log.topics else None
        on_event(LogQuarantined(chain_id, log.address, log.block_number, log.log_index, reason, kind))
    for kind in {arrival.kind for _, arrival in (*recorded.new, *recorded.back)}:
        components.pool_for[kind].wake_up.notify()

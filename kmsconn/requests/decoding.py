"""Decodes each log once: the result is remembered, so that reading the reorg window again costs little. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.journal.values import Arrival
from kmsconn.model.requests import Kind
from kmsconn.protocols.profile import Profile

REMEMBERED_LOGS = 20_000


@attrs.frozen
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
    _known: dict[tuple[bytes, int], tuple[int, _Decoded | None]] = attrs.field(factory=dict)

    def decode(self, logs: Iterable[Log]) -> DecodedLogs:
        """Decode logs; those that are no request of this generation are left out."""
        arrivals, undecodable = [], []
        for log in logs:
            try:
                arrival = self._arrival(log)
            except Undecodable as error:
                undecodable.append((log, str(error)))
            else:
                arrivals += [arrival] if arrival is not None else []
        return DecodedLogs(tuple(arrivals), tuple(undecodable))

    def _arrival(self, log: Log) -> Arrival | None:
        place, fingerprint = (log.block_hash, log.log_index), hash(log)
        known = self._known.get(place)
        if known is None or known[0] != fingerprint:
            if len(self._known) >= REMEMBERED_LOGS:
                self._known.clear()
            known = self._known[place] = fingerprint, self._decoded(log)
        one = known[1]
        return None if one is None else Arrival(one.id, one.kind, one.digest, log, one.expires, one.whole)

    def _decoded(self, log: Log) -> _Decoded | None:
        content = self.profile.decode(log)
        if content is None:
            return None
        expires = self.profile.operations[content.kind].expires
        whole = not any(reference.is_bare for reference in content.references)
        return _Decoded(content.id, content.kind, self.profile.digest(log), expires, whole)

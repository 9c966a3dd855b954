"""Records what a read saw: the requests and the cursor beyond them in one commit ①, then events and wake-ups.

Each log is decoded once: the result is remembered, so that reading the reorg window again costs little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import attrs

from kmsconn.chain.fork import Checkpoint
from kmsconn.chain.logs import LogsRead
from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.frozen import frozen
from kmsconn.journal import recording
from kmsconn.journal.recording import Arrival, Read, Recorded
from kmsconn.model.events import LogQuarantined, RequestRecorded, RequestsMoved
from kmsconn.model.requests import Kind
from kmsconn.protocols.profile import Profile, Subscription
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
        fingerprint = hash(log)
        if fingerprint not in self._known:
            if len(self._known) >= REMEMBERED_LOGS:
                self._known.clear()
            content, one = self.profile.decode(log), None
            if content is not None:
                expires = self.profile.operations[content.kind].expires
                whole = not any(reference.is_bare for reference in content.references)
                one = _Decoded(content.id, content.kind, self.profile.digest(log), expires, whole)
            self._known[fingerprint] = one
        one = self._known[fingerprint]
        return None if one is None else Arrival(one.id, one.kind, one.digest, log, one.expires, one.whole)


NO_HEADERS: Mapping[int, bytes] = MappingProxyType({})


@attrs.frozen
class Recorder:
    """Brings the reads of one contract into the journal."""

    components: Components
    subscription: Subscription

    async def record(
        self,
        found: LogsRead,
        decoded: DecodedLogs,
        cursor: int,
        *,
        generation: int,
        headers: Mapping[int, bytes] = NO_HEADERS,
        head: Checkpoint | None = None,
    ) -> Recorded:
        """Make durable what a read saw, with ``cursor`` as the first block not read, and tell it.

        ``generation``, ``headers`` and ``head``: see ``journal.recording.Read``. Raises JournalFailed.
        Cancellation: nothing of it is durable, or all.
        Repeating: only what is new is told.
        """
        read = Read(
            chain_id=self.subscription.chain_id,
            contract=self.subscription.contract,
            blocks=(found.from_block, found.to_block),
            arrivals=decoded.arrivals,
            undecodable=decoded.undecodable,
            cursor=cursor,
            generation=generation,
            now=self.components.ports.wall(),
            chain_time=float(found.head_timestamp),
            expiry=self.components.checker.expiry.seconds(),
            headers=headers,
            head=head,
        )
        recorded = await self.components.journal.run(recording.record, read)
        self._tell(recorded, decoded.undecodable)
        self._wake(recorded)
        return recorded

    def _tell(self, recorded: Recorded, undecodable: Sequence[tuple[Log, str]]) -> None:
        chain, on_event = self.subscription.chain_id, self.components.on_event
        for rid, arrival in recorded.new:
            log = arrival.log
            at = (log.block_number, log.transaction_hash, log.log_index)
            on_event(RequestRecorded(rid, arrival.kind, arrival.id, chain, *at))
        if recorded.moved or recorded.gone or recorded.back:
            on_event(RequestsMoved(chain, recorded.moved, recorded.gone, len(recorded.back)))
        if recorded.quarantined:
            for log, reason in undecodable:
                on_event(LogQuarantined(chain, log.address, log.block_number, log.log_index, reason))

    def _wake(self, recorded: Recorded) -> None:
        """Notify the dispatchers of what is new or on chain again."""
        for kind in {arrival.kind for _, arrival in (*recorded.new, *recorded.back)}:
            self.components.pool_for(kind).wake_up.notify()

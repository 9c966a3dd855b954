"""Records what a read saw: the requests and the cursor beyond them in one commit ①, then events and wake-ups."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kmsconn.chain.fork import NO_EXTENSION, Extension
from kmsconn.chain.logs import LogsRead
from kmsconn.ethereum.abi import Log
from kmsconn.journal import recording
from kmsconn.journal.values import Arrival, Read, Recorded
from kmsconn.model.events import LogQuarantined, RequestRecorded, RequestsMoved
from kmsconn.protocols.profile import Subscription
from kmsconn.requests.components import Components
from kmsconn.requests.decoding import DecodedLogs


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
        asked: int,
        extension: Extension = NO_EXTENSION,
    ) -> int:
        """Make durable what a read saw, with ``cursor`` as the first block not read, and tell it; return how many left the chain.

        ``asked`` is the journal's tick when the question was sent. Raises JournalFailed. Cancellation: nothing of it is durable, or all.
        Repeating: only what is new is told.
        """
        read = Read(
            chain_id=self.subscription.chain_id,
            contract=self.subscription.contract,
            from_block=found.from_block,
            to_block=found.to_block,
            arrivals=decoded.arrivals,
            undecodable=decoded.undecodable,
            cursor=cursor,
            asked=asked,
            now=self.components.ports.wall(),
            chain_time=float(found.head_timestamp),
            expiry=self.components.expiry.seconds(),
            extension=extension,
        )
        recorded = await self.components.journal.run(recording.record, read)
        self._tell(recorded, decoded.undecodable)
        self._wake(recorded)
        return recorded.gone

    def _tell(self, recorded: Recorded, undecodable: Sequence[tuple[Log, str]]) -> None:
        chain, on_event = self.subscription.chain_id, self.components.on_event
        for rid, arrival in recorded.new:
            on_event(_recorded(chain, rid, arrival))
        if recorded.moved or recorded.gone or recorded.back:
            on_event(RequestsMoved(chain, recorded.moved, recorded.gone, len(recorded.back)))
        if recorded.quarantined:
            for log, reason in undecodable:
                on_event(LogQuarantined(chain, log.address, log.block_number, log.log_index, reason))

    def _wake(self, recorded: Recorded) -> None:
        """Notify the dispatchers of what is new or on chain again."""
        for kind in {arrival.kind for _, arrival in (*recorded.new, *recorded.back)}:
            self.components.pool_for(kind).wake_up.notify()


def _recorded(chain: int, rid: int, arrival: Arrival) -> RequestRecorded:
    log = arrival.log
    return RequestRecorded(
        rid, arrival.kind, arrival.id, chain, log.block_number, log.transaction_hash, log.log_index
    )

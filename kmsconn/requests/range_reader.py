"""Reads ranges of blocks of one contract, records what stands in them and moves the cursor; goes back where the chain has forked.

Which ranges are read and when, its callers decide: the live end, the back-fill, the option to read once more, the proof of completeness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.fork import Search
from kmsconn.chain.heads import HeadTracker
from kmsconn.chain.jsonrpc import is_range_limit
from kmsconn.chain.logs import FINALIZED, LATEST, LogsRead, read_logs
from kmsconn.chain.port import RpcError
from kmsconn.errors import Retryable
from kmsconn.ethereum.addresses import checksum
from kmsconn.journal import rewinding
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.model.events import ChainReorganised, CursorMoved, RequestsMoved
from kmsconn.protocols.profile import Subscription
from kmsconn.requests.components import ChainContext, Components
from kmsconn.requests.cursor import Cursor, Range, rewound, shrunk, took
from kmsconn.requests.fork_detector import ForkDetector
from kmsconn.requests.recorder import DecodeCache, Recorder

SLOW = 5.0  # seconds after which a read that failed counts as too wide
BEFORE_ALL = -1  # a tick: every row has moved since
_NOWHERE = Cursor(0, size=1)


@attrs.frozen
class WatchedContract:
    """One contract. ``head`` is what is known of the block up to which is read, ``tag`` the name of that block."""

    components: Components
    journal: Journal
    subscription: Subscription
    chain_context: ChainContext
    endpoint: Endpoint
    head: HeadTracker
    tag: str
    name: str
    """Its address as text."""

    @classmethod
    def of(cls, components: Components, subscription: Subscription) -> WatchedContract:
        """Find the chain of a subscription."""
        chain, name = components.chain_contexts[subscription.chain_id], checksum(subscription.contract)
        head, tag = (chain.finalized, FINALIZED) if subscription.finalized else (chain.head, LATEST)
        return cls(components, components.journal, subscription, chain, chain.endpoint, head, tag, name)

    @property
    def window(self) -> int:
        """The reorg window in blocks, with those that a chain may have made faster than usual."""
        return self.head.blocks_to_suspect(self.components.settings.reading.reorg_window)

    def stepped_back(self, next_block: int, origin: int) -> int:
        """Return a block below the cursor: while nobody read, the last answer may have hidden something that no later one shows."""
        window = self.head.blocks_in(self.components.settings.reading.reorg_window)
        return max(min(origin, next_block), next_block - window)

    def tell(self, cause: str, text: str | None, part: str = "") -> None:
        """Say why reading fails, or that it works; a chain that is down has an alert of its own, and so has the journal."""
        if not text or not (self.endpoint.is_down or self.journal.failure):
            self.components.board.set(cause, f"{self.endpoint.name} {self.name}{part}", text)


def watched_contracts(components: Components) -> Iterator[WatchedContract]:
    """Yield each contract whose logs are read."""
    return (WatchedContract.of(components, one) for one in components.profile.subscriptions())


@attrs.define
class RangeReader:
    """The reads of one contract. ``rewinds`` counts how often the chain left what was read: what was asked before counts no more."""

    contract: WatchedContract
    recorder: Recorder
    decode_cache: DecodeCache
    fork_detector: ForkDetector
    rewinds: int = 0
    gone: int = 0
    """How many requests the reads have taken off chain."""
    reason: str = ""
    """Why the last read that failed did."""
    window_read: float = -math.inf
    """When the reorg window was read last."""
    has_begun: bool = False
    cursor: Cursor = _NOWHERE

    @classmethod
    def of(cls, contract: WatchedContract) -> RangeReader:
        """Make the reads of a contract."""
        components = contract.components
        recorder = Recorder(components, contract.subscription)
        return cls(
            contract,
            recorder,
            DecodeCache(components.profile),
            ForkDetector(contract.endpoint, components.ports.wall),
        )

    def begin(self, cursor: Cursor) -> None:
        """Begin at a cursor."""
        self.cursor, self.has_begun = cursor, True

    @property
    def next_block(self) -> int | None:
        """The first block not read; None before the start is known."""
        return self.cursor.next_block if self.has_begun else None

    async def read_again(self, first: int, last: int, *, judging: bool = False) -> bool:
        """Look once more for what is missing in blocks below the cursor; say whether all could be read. Repeating: harmless.

        Requests that are absent from such a read stay on chain, unless ``judging``: the answer may come from the node that hid them before.
        """
        while first <= last:
            end = min(last, first + self.cursor.size - 1)
            if not await self.read(Range(first, end), asked=None if judging else BEFORE_ALL):
                return False
            first = end + 1
        return True

    async def read(self, blocks: Range, asked: int | None = None) -> bool:
        """Read some blocks and record what stands in them; say whether the answer could be trusted.

        ``asked`` is the journal's tick at the question; rows that moved since are not judged.
        """
        started = trio.current_time()
        if asked is None:
            asked = self.contract.journal.tick
        try:
            return await self._ask(blocks, asked)
        except (Retryable, RpcError) as error:
            self.reason = str(error)
            if trio.current_time() - started > SLOW:
                self.cursor = shrunk(self.cursor)
            return False

    async def _ask(self, blocks: Range, asked: int) -> bool:
        """Read blocks from a node that shows the chain that was read so far; go back to the fork when that chain is gone."""
        contract, kept, rewinds = self.contract, self.fork_detector.newest, self.rewinds
        found = await read_logs(
            contract.endpoint,
            contract.subscription.contract,
            contract.subscription.topics,
            blocks.first,
            blocks.last,
            head=contract.tag,
            kept=None if kept is None else kept.number,
        )
        contract.head.note(found.head_number, found.head_timestamp)
        if not found.trusted:
            self.reason = _what_is_wrong(found)
        if found.failure is not None and is_range_limit(found.failure):
            self.cursor = shrunk(self.cursor)
        look = await self.fork_detector.look(found, kept, lambda: contract.window)
        if look.fork is None and self.fork_detector.suspicion.doubts != self.fork_detector.saved:
            await self._keep_doubts()
        if rewinds != self.rewinds:
            self.reason = "the chain was reorganised meanwhile"
        elif look.fork is not None:
            await self._rewind(look.fork, found)
        elif look.suspicion:
            self.reason = look.suspicion
        elif found.trusted:
            await self._record(found, asked)
            return True
        elif found.malformed:
            await self._record_legible(found)
        return False

    async def _keep_doubts(self) -> None:
        """Let a process that begins before the second look know of the first one."""
        detector, of, journal = self.fork_detector, self.contract.subscription, self.contract.journal
        doubts = detector.suspicion.doubts
        await until_kept(lambda: journal.run(rewinding.note_doubts, of.chain_id, of.contract, doubts))
        detector.saved = doubts

    async def _rewind(self, search: Search, found: LogsRead) -> None:
        """Go back to a fork: what stands above it is read again, and judged by that."""
        components, of = self.contract.components, self.contract.subscription
        self.rewinds += 1
        self.reason = "the chain was reorganised"
        self.window_read = -math.inf
        self.cursor = rewound(self.cursor, search.fork)
        self.fork_detector.rewind(search.fork)
        self.contract.head.follow_down(found.head_number, found.head_timestamp)
        done = await until_kept(
            lambda: components.journal.run(
                rewinding.rewind, of.chain_id, of.contract, search.fork, found.head_number
            )
        )
        components.on_event(
            ChainReorganised(of.chain_id, of.contract, search.fork, search.depth, done.reopened)
        )
        self._tell_cursor(found)
        if done.gone:
            components.on_event(RequestsMoved(of.chain_id, 0, done.gone, 0))
        self.contract.chain_context.wake_up.notify()

    async def _record_legible(self, found: LogsRead) -> None:
        """Take the logs of an answer with objects that are none, judge no absence by it, and leave the cursor: it is read again."""
        decoded = self.decode_cache.decode(found.logs)
        if decoded.arrivals or decoded.undecodable:
            await self.recorder.record(found, decoded, self.cursor.next_block, BEFORE_ALL)

    async def _record(self, found: LogsRead, asked: int) -> None:
        rewinds, before, extension = self.rewinds, self.next_block, self.fork_detector.extended(found)
        decoded = self.decode_cache.decode(found.logs)
        cursor = took(self.cursor, found.from_block, found.to_block).next_block
        self.gone += await self.recorder.record(found, decoded, cursor, asked, extension)
        if rewinds == self.rewinds:
            self.fork_detector.extend(extension)
            self.cursor = took(self.cursor, found.from_block, found.to_block, logs=len(found.logs))
        if before != self.cursor.next_block:
            self._tell_cursor(found)

    def _tell_cursor(self, found: LogsRead) -> None:
        of, next_block = self.contract.subscription, self.cursor.next_block
        self.contract.components.on_event(
            CursorMoved(of.chain_id, of.contract, next_block, found.head_number)
        )


def _what_is_wrong(found: LogsRead) -> str:
    """Say why a read that cannot be trusted is not."""
    if found.failure is not None:
        return str(found.failure)
    if found.malformed:
        blocks = f"blocks {found.from_block} to {found.to_block}"
        return f"the answer to eth_getLogs of {blocks} contains an object that is not a requested log: {found.malformed[0]}"
    return "the node lacks the requested blocks"

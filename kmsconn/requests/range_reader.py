"""Reads ranges of blocks of one contract, records what stands in them, moves the cursor and settles blocks.

A read adds what it shows; no read takes a request away. What it leaves out, or shows elsewhere, is judged by the headers of its blocks.
Which ranges are read and when, its callers decide: the live end, the back-fill, the option to read once more, the proof of completeness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Concatenate, ParamSpec, TypeVar

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.follower import UNREAD, HeadTracker, why_not
from kmsconn.chain.fork import Checkpoint
from kmsconn.chain.logs import FINALIZED, LATEST, BlockHead, LogsRead, block_call, hash_of, read_logs
from kmsconn.chain.port import is_range_limit
from kmsconn.errors import Retryable
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.journal import queries, recording
from kmsconn.journal.database import Database
from kmsconn.journal.journal import until_kept
from kmsconn.journal.queries import ReadUpTo
from kmsconn.journal.recording import Read, Recorded
from kmsconn.model.events import CursorMoved
from kmsconn.protocols.profile import Subscription
from kmsconn.requests.components import ChainContext, Components
from kmsconn.requests.cursor import Cursor, Range, rewound, shrunk, took
from kmsconn.requests.decoding import DecodeCache, tell_recorded

P = ParamSpec("P")
T = TypeVar("T")

SLOW = 5.0  # seconds after which a read that failed counts as too wide
HEADERS_AT_ONCE = 16  # block hashes in one batch: there are nodes that take no more than 20 calls
_NOWHERE = Cursor(0, size=1)
_NO_HEADERS: Mapping[int, bytes] = MappingProxyType({})
_NEVER = ReadUpTo(0, -1, -1, math.inf)
_NOTHING = LogsRead(BlockHead(0, 0, None), (), trusted=False, from_block=1, to_block=0)


@attrs.frozen
class WatchedContract:
    """One contract. ``head`` is what is known of the block up to which is read, ``tag`` the name of that block."""

    components: Components
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
        return cls(components, subscription, chain, chain.endpoint, head, tag, name)

    @property
    def reorg_window(self) -> float:
        """The reorg window in seconds."""
        return self.components.settings.reading.reorg_window

    @property
    def near(self) -> int:
        """How many blocks below the head nothing is old.

        Twice as many at most are read again beside the live end; what is older and not settled, apart from it.
        """
        return 2 * self.head.blocks_in(self.reorg_window)

    async def run(
        self,
        operation: Callable[Concatenate[Database, int, Address, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Have an operation of the journal applied to this contract, as often as the disk refuses it. Raises what the operation raises.

        Cancellation: between tries and inside them. Repeating: as the operation.
        """
        of = self.subscription
        return await until_kept(
            lambda: self.components.journal.run(operation, of.chain_id, of.contract, *args, **kwargs)
        )

    def tell(self, cause: str, text: str | None, part: str = "") -> None:
        """Say why reading fails, or that it works; a chain that is down has an alert of its own, and so has the journal."""
        if not text or not (self.endpoint.is_down or self.components.journal.failures.text):
            self.components.board.set(cause, f"{self.endpoint.name} {self.name}{part}", text)


def watched_contracts(components: Components) -> Iterator[WatchedContract]:
    """Yield each contract whose logs are read."""
    return (WatchedContract.of(components, one) for one in components.profile.subscriptions())


@attrs.define
class RangeReader:
    """The reads of one contract, in a generation of its chain: what was asked in an earlier one counts no more."""

    contract: WatchedContract
    decode_cache: DecodeCache
    generation: int = UNREAD
    gone: int = 0
    """How many requests the reads have taken off chain."""
    reason: str = ""
    """Why the last read that failed did."""
    learned: int = 0
    """How many reads were not clean: they told something of blocks that were read before."""
    read_again_at: float = -math.inf
    """When the blocks that are not settled are to be read again."""
    cursor: Cursor = _NOWHERE
    progress: ReadUpTo = _NEVER
    last: LogsRead = _NOTHING
    """The last read that was recorded."""

    @classmethod
    def of(cls, contract: WatchedContract) -> RangeReader:
        """Make the reads of a contract."""
        return cls(contract, DecodeCache(contract.components.profile))

    def begin(self, cursor: Cursor, progress: ReadUpTo) -> None:
        """Begin where the journal says."""
        self.cursor, self.progress = cursor, progress
        self.generation = self.contract.chain_context.follower.generation

    @property
    def next_block(self) -> int | None:
        """The first block not read; None before the start is known."""
        return self.cursor.next_block if self.generation != UNREAD else None

    @property
    def settled(self) -> int:
        """The last block that is never read again: what is older than the reorg window is not above it."""
        return self.progress.settled

    async def keep_up(self) -> bool:
        """Go back with the chain where a fork was found since; say whether it was. Repeating: reads only."""
        generation = self.contract.chain_context.follower.generation
        if generation == self.generation:
            return False
        now = await self.contract.run(queries.progress)
        self.progress = now or self.progress
        self.cursor = rewound(self.cursor, self.progress.next_block - 1)
        self.generation, self.read_again_at = generation, -math.inf
        self.reason = "the chain was reorganised"
        return True

    async def read_again(self, first: int, last: int) -> bool:
        """Look once more for what is missing in blocks below the cursor; say whether all could be read. Repeating: harmless."""
        while first <= last:
            end = min(last, first + self.cursor.size - 1)
            if not await self.read(Range(first, end)):
                return False
            first = end + 1
        return True

    async def read(self, blocks: Range) -> bool:
        """Read some blocks and record what stands in them; say whether the answer could be trusted."""
        started = trio.current_time()
        try:
            return await self._ask(blocks)
        except Retryable as error:
            self.reason = str(error)
            if trio.current_time() - started > SLOW:
                self.cursor = shrunk(self.cursor)
            return False

    async def _ask(self, blocks: Range) -> bool:
        contract, follower = self.contract, self.contract.chain_context.follower
        # where only what is final is read, the anchor is final, too
        anchor = follower.anchor(contract.head.number if contract.subscription.finalized else None)
        found = await read_logs(
            contract.endpoint,
            contract.subscription.contract,
            contract.subscription.topics,
            blocks.first,
            blocks.last,
            head=contract.tag,
            kept=None if anchor.block is None else anchor.block.number,
        )
        contract.head.note(found.head.number, found.head.timestamp)
        if not found.trusted:
            self.reason = _what_is_wrong(found)
        if found.failure is not None and is_range_limit(found.failure):
            self.cursor = shrunk(self.cursor)
        if not await follower.judge(anchor, found.kept) or anchor.generation != self.generation:
            self.reason = why_not(anchor, found.kept)
            return False
        if not (found.trusted or found.malformed):
            return False
        # of an answer with objects that are no logs the others are taken, and the cursor stays: it is read again
        return await self._record(found, took_it=found.trusted) and found.trusted

    async def _record(self, found: LogsRead, *, took_it: bool) -> bool:
        """Record a read; where it contradicts what was known, once more with the headers of the blocks in question."""
        generation, before = self.generation, self.cursor.next_block
        cursor = took(self.cursor, found.from_block, found.to_block).next_block if took_it else before
        recorded = await self.keep(found, cursor, generation)
        if recorded.outdated or generation != self.generation:
            return False
        if took_it:
            self.cursor = took(self.cursor, found.from_block, found.to_block, logs=len(found.logs))
        if before != (at := self.cursor.next_block):
            of = self.contract.subscription
            moved = CursorMoved(of.chain_id, of.contract, at, found.head.number)
            self.contract.components.on_event(moved)
        if not recorded.doubtful:
            return True
        headers = await self.headers(recorded.doubtful)
        return bool(headers) and not (await self.keep(found, cursor, generation, headers=headers)).outdated

    async def keep(
        self, found: LogsRead, cursor: int, generation: int, *, headers: Mapping[int, bytes] = _NO_HEADERS
    ) -> Recorded:
        """Record a read and the cursor as it is then in one commit ①, with the headers that are known; tell what is new.

        Raises JournalFailed. Cancellation: nothing of it is durable, or all. Repeating: harmless.
        """
        of, components = self.contract.subscription, self.contract.components
        follower, decoded = self.contract.chain_context.follower, self.decode_cache.decode(found.logs)
        head = None if found.head.hash is None else Checkpoint(found.head.number, found.head.hash)
        if head is not None and follower.kept and head.number <= follower.kept[-1].number:
            head = None
        read = Read(
            chain_id=of.chain_id,
            contract=of.contract,
            blocks=(found.from_block, found.to_block),
            arrivals=decoded.arrivals,
            undecodable=decoded.undecodable,
            cursor=cursor,
            generation=generation,
            now=components.ports.wall(),
            chain_time=float(self.contract.head.sure(found.head.timestamp)),
            expiry=components.checker.expiry.seconds(),
            headers=headers,
            head=head,
        )
        recorded = await components.journal.run(recording.record, read)
        tell_recorded(components, of.chain_id, recorded)
        if recorded.outdated:
            await follower.load()
            self.reason = "the chain was reorganised meanwhile"
            return recorded
        if head is not None:
            await follower.note(head)
        self.gone += recorded.gone
        self.last = found
        if not recorded.clean:
            self.learned += 1
            self.progress = attrs.evolve(self.progress, since=float(found.head.timestamp))
        return recorded

    async def headers(self, blocks: Collection[int]) -> dict[int, bytes]:
        """Ask for the hashes of blocks, of a node that shows the chain that is followed; nothing where one of them is not to be had."""
        headers: dict[int, bytes] = {}
        wanted, generation = sorted(blocks), self.generation
        for at in range(0, len(wanted), HEADERS_AT_ONCE):
            numbers = wanted[at : at + HEADERS_AT_ONCE]
            found = await self.contract.chain_context.follower.batch([block_call(one) for one in numbers])
            for number, block in zip(numbers, found, strict=True):
                hash_ = hash_of(block)
                if hash_ is None:
                    self.reason = "the node lacks the header of a block whose logs it has shown"
                    return {}
                headers[number] = hash_
        return headers if generation == self.contract.chain_context.follower.generation else {}


def _what_is_wrong(found: LogsRead) -> str:
    """Say why a read that cannot be trusted is not."""
    if found.failure is not None:
        return str(found.failure)
    if found.malformed:
        blocks = f"blocks {found.from_block} to {found.to_block}"
        return f"the answer to eth_getLogs of {blocks} contains an object that is not a requested log: {found.malformed[0]}"
    return "the node lacks the requested blocks"

"""Follows one chain: says of every answer that is to be believed whether its node shows the chain that was read so far.

Each such batch asks for the hash of an *anchor* beside it, the newest kept block. The node that gave it is

- *same*: it has the anchor, so what it says is of the chain that is followed;
- *behind*: it has no block of that number. It is asked nothing until it has; after ``LAGGING`` seconds without a *same* a search is made;
- *other*: it has another block there. The search for the fork is made at once, and while that is not over nothing is judged, signed or
  finalized.

A fork that is not deeper than the reorg window is believed at once; a deeper one, which would have years read again, when a look
``CONFIRMING`` seconds after the first doubt says so too. That doubt is durable, so that a process that lives for less leaves it to the
next one. What is believed is one commit for all contracts of the chain (``journal.retention``), and begins a *generation*: an answer of an
earlier one counts no more. The head that proved the fork is kept as the anchor then, so that a node that stayed on the old branch
does not pass for *same*.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import trio

from kmsconn.chain.fork import LAGGING, Checkpoint, Checkpoints, Followed, Rewound, Search, thinned
from kmsconn.chain.logs import LATEST, BlockHead, block_call, hash_of, read_block, read_hash
from kmsconn.chain.port import Call, Rpc
from kmsconn.errors import Unreachable
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.events import ChainReorganised, OnEvent, RequestsMoved
from kmsconn.transport.waiting import WakeUp

DEFAULT_BLOCK_TIME = (
    0.25  # seconds; Arbitrum's, the fastest known here: too many blocks read again do no harm
)
FASTEST = 1e-4  # seconds between blocks; a pace beyond it comes of a wild number, and numbers made of it fit no column
SLOWEST = 60.0
"""Seconds between blocks that are believed at most: waits are made of them, and a wild timestamp would make years."""
_TRUSTED_SPAN = (
    10  # seconds of chain time below which block timestamps, whole ones, say nothing about the pace
)
_SAMPLES = 600  # one per second of chain time at most: ten minutes


@attrs.define(eq=False)
class HeadTracker:
    """What is known of a chain's head as reads saw it: number, time, pace; None before the first note. Asks nobody.

    A node that lags, or a reorganisation, says a lower number than one seen before. Nothing goes back at once for that; but when
    no node has confirmed the higher one for ``LAGGING`` seconds, the lower one is believed, so that one node's wild answer does
    not stay for ever. What cannot be taken back, such as giving up a request for its age, is decided by ``settled_timestamp``.
    """

    number: int | None = attrs.field(default=None, init=False)
    timestamp: int | None = attrs.field(default=None, init=False)
    """The head's timestamp in Unix seconds, which is the chain's time."""
    settled_timestamp: int | None = attrs.field(default=None, init=False)
    """The highest timestamp that two notes agree to have been reached, ``CONFIRMING`` seconds of Trio time apart.

    It is behind the chain's time by as much, and twice that at most while heads are noted often.
    """
    block_time: float = attrs.field(default=DEFAULT_BLOCK_TIME, init=False)
    """Seconds between blocks, over the last minutes; a fast chain's until enough was seen."""
    _claim: tuple[int, float] | None = attrs.field(default=None, init=False)
    _confirmed: float = attrs.field(default=-math.inf, init=False)
    _samples: deque[tuple[int, int]] = attrs.field(factory=lambda: deque(maxlen=_SAMPLES), init=False)

    def note(self, number: int, timestamp: int) -> None:
        """Take a head that a node told."""
        now = trio.current_time()
        claimed, since = self._claim or (timestamp, now)
        if now - since >= CONFIRMING:
            before, agreed = self.settled_timestamp, min(claimed, timestamp)
            # the later time; but one that no lag explains is wild, and must not stay
            wild = before is not None and before - agreed > LAGGING
            self.settled_timestamp = agreed if before is None or wild else max(before, agreed)
        if self._claim is None or now - since >= CONFIRMING:
            self._claim = (timestamp, now)
        if self.number is not None and number < self.number:
            if now - self._confirmed <= LAGGING:
                return
            self._samples.clear()
        self.number, self.timestamp, self._confirmed = number, timestamp, now
        while self._samples and timestamp < self._samples[-1][1]:
            self._samples.pop()  # a wild time, or that of a block which is gone
        if self._samples and timestamp == self._samples[-1][1]:  # a burst: many blocks of one second
            self._samples[-1] = max(number, self._samples[-1][0]), timestamp
        elif not self._samples or timestamp > self._samples[-1][1]:
            self._samples.append((number, timestamp))
        (old, then), (new, last) = self._samples[0], self._samples[-1]
        watched = last - then >= _TRUSTED_SPAN and new > old
        pace = (last - then) / (new - old) if watched else DEFAULT_BLOCK_TIME
        self.block_time = min(max(FASTEST, pace), SLOWEST)

    def sure(self, timestamp: int) -> int:
        """Return a time near a block's that several notes agree on, where there is one: for what one wrong block must not decide."""
        settled = self.settled_timestamp
        return timestamp if settled is None else min(max(timestamp, settled), settled + int(LAGGING))

    def follow_down(self, number: int, timestamp: int) -> None:
        """Take a lower head at once: that the chain went back to it is proved."""
        if self.number is not None and number < self.number:
            self._confirmed = -math.inf
            self.note(number, timestamp)

    def blocks_in(self, seconds: float) -> int:
        """Return how many blocks ``seconds`` may hold: at the usual pace, or as many as just came, if that was a burst."""
        return max(1, math.ceil(seconds / self.block_time), self._came_in(seconds))

    def has_watched(self, seconds: float) -> bool:
        """Say whether the chain was seen for that long in its own time: before that nobody here knows how fast it was."""
        return bool(self._samples) and self._samples[-1][1] - self._samples[0][1] >= seconds

    def _came_in(self, seconds: float) -> int:
        if self.number is None or self.timestamp is None:
            return 0
        since = self.timestamp - seconds
        oldest = self._samples[0][0] if self._samples else self.number
        before = (number for number, timestamp in reversed(self._samples) if timestamp <= since)
        return self.number - next(before, oldest)


SPARE = 32  # blocks after which hashes are sorted out
UNREAD = -1
"""The generation while nobody knows yet what is durable."""


@attrs.frozen
class Durable:
    """What is done with the memory of one chain; each waits for the disk as long as it must. Repeating: the same."""

    load: Callable[[], Awaitable[Followed]]
    doubt: Callable[[float | None], Awaitable[None]]
    """Keep since when the chain is doubted."""
    forget: Callable[[Sequence[int]], Awaitable[None]]
    """Keep the hashes of these blocks no more."""
    rewind: Callable[[int, int, BlockHead], Awaitable[Rewound]]
    """Take all contracts back from a generation to a fork, which a head proves, in one commit; nothing where another process has."""


@attrs.frozen
class Anchor:
    """What a batch asks for beside its questions: the hash of a kept block, in a generation."""

    generation: int
    block: Checkpoint | None

    @property
    def calls(self) -> list[Call]:
        """The question; none where no block is kept yet."""
        return [] if self.block is None else [block_call(self.block.number)]


@attrs.define(eq=False)
class Follower:
    """One chain, for all who read it or send to it. ``reorg_window`` in seconds; ``head`` is what is known of the newest block.

    ``wake_up`` is notified of each rewind, since replies may be sent again.
    """

    rpc: Rpc
    name: str
    durable: Durable
    head: HeadTracker
    reorg_window: float
    wall: Callable[[], float]
    on_event: OnEvent
    wake_up: WakeUp
    generation: int = UNREAD
    kept: Checkpoints = ()
    _doubted_since: float | None = None
    _searching: trio.Lock = attrs.field(factory=trio.Lock)

    @property
    def chain_id(self) -> int:
        """The chain's id."""
        return self.rpc.chain_id

    async def load(self) -> None:
        """Read what is durable, where nobody has yet, or another process has written a generation of its own. Repeating: reads only."""
        self._take(await self.durable.load())

    def anchor(self, up_to: int | None = None) -> Anchor:
        """Return what a batch is to ask for: the newest kept block, of those not above ``up_to``. Repeating: the same."""
        newest = self.kept if up_to is None else [one for one in self.kept if one.number <= up_to]
        return Anchor(self.generation, newest[-1] if newest else None)

    async def judge(self, asked: Anchor, found: bytes | None) -> bool:
        """Say whether a node is *same* that answered a batch with this hash of its anchor; None: it has no such block.

        Raises Retryable when a question of the search finds no answer.
        Cancellation: between the look and what is kept of it. Repeating: another look.
        """
        if asked.generation != self.generation:
            return False
        if asked.block is None or found == asked.block.hash:
            if self._doubted_since is not None:
                await self._doubt(None)
            return asked.generation == self.generation
        async with self._searching:
            if asked.generation == self.generation:
                await self._suspect(is_behind=found is None)
        return False

    async def _suspect(self, *, is_behind: bool) -> None:
        """Look for a fork where it is time to, and go back to it where it is believed."""
        now = self.wall()
        # a clock may be set back
        since = now if self._doubted_since is None else min(self._doubted_since, now)
        if since != self._doubted_since:
            await self._doubt(since)
        if is_behind and now - since < LAGGING:
            return
        head, search = await self._search()
        near = search.proved and search.depth <= self.head.blocks_in(self.reorg_window)
        if search.depth and (near or now - since >= (CONFIRMING if search.proved else LAGGING)):
            await self._rewind(search, head)

    async def _search(self) -> tuple[BlockHead, Search]:
        (block,) = await self.rpc.batch([Call("eth_getBlockByNumber", (LATEST, False))])
        head = read_block(block)
        search = Search.below(self.kept, head.number)
        while (question := search.question) is not None:
            search = search.answered(await read_hash(self.rpc, question.number))
        return head, search

    async def _rewind(self, search: Search, head: BlockHead) -> None:
        before = self.generation
        done = await self.durable.rewind(before, search.fork, head)
        self._take(done.followed)
        self.head.follow_down(head.number, head.timestamp)
        if self.generation == before + 1:
            self.on_event(ChainReorganised(self.chain_id, search.fork, search.depth, len(done.returned)))
            for one in done.returned:
                self.on_event(attrs.evolve(one, chain=self.name))
            if done.gone:
                self.on_event(RequestsMoved(self.chain_id, 0, done.gone, 0))
        self.wake_up.notify()

    async def _doubt(self, since: float | None) -> None:
        self._doubted_since = since
        await self.durable.doubt(since)

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Ask several questions of one node, which must show the chain that is followed; outcomes as ``Rpc.batch``.

        Raises Unreachable, also where it does not, Overloaded. Cancellation: at any time. Repeating: the caller's questions.
        """
        anchor = self.anchor()
        results = await self.rpc.batch([*anchor.calls, *calls])
        found = None if anchor.block is None else hash_of(results[0])
        if not await self.judge(anchor, found):
            raise Unreachable(f"chain {self.chain_id}: {why_not(anchor, found)}")
        return results[len(anchor.calls) :]

    async def call(self, method: str, *params: Any) -> Any:
        """Ask one question as ``Rpc.call`` does, of a node that must show the chain that is followed. Raises as ``batch``."""
        (result,) = await self.batch([Call(method, params)])
        if isinstance(result, Exception):
            raise result
        return result

    async def note(self, head: Checkpoint) -> None:
        """Go on with a head that is durable, of a *same* node, where it is news. Cancellation: what is forgotten stays durable."""
        if self.kept and head.number <= self.kept[-1].number:
            return
        newest, self.kept = self.kept[-1:], (*self.kept, head)
        if newest and newest[0].number // SPARE != head.number // SPARE:
            before, self.kept = self.kept, thinned(self.kept)
            gone = {one.number for one in before} - {one.number for one in self.kept}
            await self.durable.forget(sorted(gone))

    def _take(self, followed: Followed) -> None:
        self.generation, self.kept = followed.generation, followed.kept
        self._doubted_since = followed.doubted_since


def why_not(anchor: Anchor, found: bytes | None) -> str:
    """Say why an answer is discarded."""
    if anchor.block is None or found == anchor.block.hash:
        return "the chain was reorganised meanwhile"
    if found is None:
        return f"the node lacks block {anchor.block.number}, which was read before"
    return f"block {anchor.block.number} has another hash than when it was read: the chain forked below it"

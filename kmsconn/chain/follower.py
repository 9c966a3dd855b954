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

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import trio

from kmsconn.chain.fork import LAGGING, Checkpoint, Checkpoints, Followed, Rewound, Search, thinned
from kmsconn.chain.heads import HeadTracker
from kmsconn.chain.logs import LATEST, BlockHead, block_call, hash_of, read_block, read_hash
from kmsconn.chain.port import Call, Rpc, RpcError
from kmsconn.errors import Unreachable
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.events import ChainReorganised, OnEvent, RequestsMoved
from kmsconn.transport.waiting import WakeUp

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

        Raises Retryable or RpcError when a question of the search finds no answer.
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
        head = read_block(await self.rpc.call("eth_getBlockByNumber", LATEST, False))
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
        try:
            found = None if anchor.block is None else hash_of(results[0])
            is_same = await self.judge(anchor, found)
        except RpcError as error:
            raise Unreachable(f"chain {self.chain_id}: the node answered {error}") from error
        if not is_same:
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
            await self.durable.forget(
                sorted({one.number for one in before} - {one.number for one in self.kept})
            )

    def _take(self, followed: Followed) -> None:
        self.generation, self.kept = followed.generation, followed.kept
        self._doubted_since = followed.doubted_since


def why_not(anchor: Anchor, found: bytes | None) -> str:
    """Say why an answer is discarded."""
    if anchor.block is None:
        return "the chain was reorganised meanwhile"
    if found is None:
        return f"the node lacks block {anchor.block.number}, which was read before"
    if found != anchor.block.hash:
        return (
            f"block {anchor.block.number} has another hash than when it was read: the chain forked below it"
        )
    return "the chain was reorganised meanwhile"

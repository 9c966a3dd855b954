"""Detects forks: compares the newest kept block hash with the node's, and searches the fork where they differ.

Never moves a cursor and never writes: the reader does, when a fork was found.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kmsconn.chain.fork import (
    NO_DOUBTS,
    Checkpoint,
    Checkpoints,
    Doubts,
    Extension,
    ForkDebounce,
    Search,
    thinned,
    up_to,
)
from kmsconn.chain.logs import LogsRead, read_hash
from kmsconn.chain.port import Rpc

SAME = ""
SPARE = 32  # block hashes beyond those to keep: they are sorted out that many at a time


@attrs.frozen
class ChainCheck:
    """A read compared with the chain read so far. ``suspicion`` says why the read is discarded; ``fork`` is the fork that was found."""

    suspicion: str = SAME
    fork: Search | None = None


STANDS = ChainCheck()


@attrs.define
class ForkDetector:
    """The kept block hashes of one contract's reads. ``saved`` are the doubts that the journal has."""

    rpc: Rpc
    wall: Callable[[], float]
    kept: Checkpoints = ()
    saved: Doubts = NO_DOUBTS
    suspicion: ForkDebounce = attrs.field(factory=ForkDebounce)
    """Since when the chain, or its head, is doubted."""
    _thin_at: int = 0
    _unsaved: Checkpoints = ()
    """The first one: it is saved with the first read."""

    def begin(self, kept: Checkpoints, doubts: Doubts = NO_DOUBTS) -> None:
        """Go on with what the journal kept."""
        self.kept = kept
        self.saved = self.suspicion.doubts = doubts

    def begin_at(self, first: Checkpoint) -> None:
        """Begin with the block below which nothing is ever read."""
        self.kept = self._unsaved = (first,)

    @property
    def newest(self) -> Checkpoint | None:
        """The block whose hash each read asks for."""
        return self.kept[-1] if self.kept else None

    async def look(self, found: LogsRead, asked: Checkpoint | None, window: Callable[[], int]) -> ChainCheck:
        """Judge a read that asked for the hash of ``asked``; ``window`` tells the reorg window in blocks.

        Raises Retryable or RpcError when a question of the search finds no answer. Repeating: reads only.
        """
        if asked is None or found.kept == asked.hash:
            self.suspicion.doubts = NO_DOUBTS
            return STANDS
        search = await self._search(found.head_number)
        if self.suspicion.confirms(search, self.wall(), window()):
            self.suspicion.doubts = NO_DOUBTS
            return ChainCheck("the chain was reorganised", search)
        return ChainCheck(_suspicion(found, asked, search))

    async def _search(self, head: int) -> Search:
        search = Search.below(self.kept, head)
        while (question := search.question) is not None:
            search = search.answered(await read_hash(self.rpc, question.number))
        return search

    def extended(self, found: LogsRead) -> Extension:
        """Return what is to be kept after a read that was taken: its head is the newest, where that is news."""
        newest = self.newest
        if found.head_hash is None or (newest is not None and found.head_number <= newest.number):
            return Extension(self.kept, self._unsaved)
        head = Checkpoint(found.head_number, found.head_hash)
        longer = (*self.kept, head)
        kept = longer if len(longer) < self._thin_at else thinned(longer)
        forget = {one.number for one in longer} - {one.number for one in kept} if kept is not longer else ()
        return Extension(kept, (*self._unsaved, head), tuple(forget))

    def extend(self, by: Extension) -> None:
        """Note that an extension was saved."""
        if by.forget or not self._thin_at:
            self._thin_at = len(by.kept) + SPARE
        self.kept, self._unsaved = by.kept, ()

    def rewind(self, fork: int) -> None:
        """Forget what stands above a fork; so does the journal, and the doubts with it."""
        self.kept, self.saved = up_to(self.kept, fork), NO_DOUBTS


def _suspicion(found: LogsRead, asked: Checkpoint, search: Search) -> str:
    if search.proved:
        return f"block {asked.number} has another hash than when it was read: the chain forked above block {search.fork}"
    return f"the node's head is {found.head_number}, below block {asked.number}, which was read before"

"""The journal in one SQLite file: the port, each method one operation handed to the writer. Never runs a statement itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from kmsconn.chain.checkpoints import Checkpoints
from kmsconn.errors import NonceTaken
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.logs import Log
from kmsconn.journal import inspecting, moves, queries, recording, retention, rewinding
from kmsconn.journal.binding import Binding
from kmsconn.journal.book import Book, Synchronous
from kmsconn.journal.damage import find_odd_rows
from kmsconn.journal.port import (
    NO_SHARDS,
    Counts,
    Due,
    Ending,
    Found,
    Place,
    Position,
    Queued,
    Read,
    Recorded,
    Reread,
    Retained,
    Retention,
    Rewound,
    Row,
    Shards,
    Signing,
    Waiting,
    Wanted,
)
from kmsconn.journal.writer import CLOSING, Operation, Writer
from kmsconn.model.requests import Kind
from kmsconn.model.steps import Answer
from kmsconn.net.ports import Offload

__all__ = ["Binding", "SqliteJournal", "open_journal"]

LONG_READ = 64  # arrivals: recording so many takes some milliseconds, which the loop does not have
LONG_LIST = 256  # rows, likewise


class SqliteJournal:
    """A journal in use; see ``journal.port.Journal`` for what each operation promises.

    Reads take their turn in the same queue as writes, so they see all that was asked before. Every method raises JournalFailed when
    the disk does not take its group or the journal is closed. Cancellation, of every method: the operation may or may not be done.
    """

    def __init__(self, writer: Writer, wall: Callable[[], float], book: Book) -> None:
        self._do, self._do_all = writer.do, writer.do_all
        self._writer = writer
        self._wall = wall
        self._book = book

    @property
    def tick(self) -> int:
        """The tick of the last durable move; a move that is under way counts as later."""
        return self._writer.tick

    @property
    def failure(self) -> str:
        """Why the disk did not take the last group; empty when it took the last one that changed anything."""
        return self._writer.failure

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know about the file, one sentence each."""
        return self._book.warnings

    @property
    def damaged(self) -> Mapping[int, str]:
        """The rows that could not be read in this run, with the reasons."""
        return self._book.damaged

    async def misplaced(self) -> str:
        """Say whether the files are in place."""
        return await self._do(Book.misplaced)

    async def cursor(self, chain_id: int, contract: Address) -> int | None:
        """Return the first block not read yet."""
        return await self._do(lambda book: queries.cursor(book, chain_id, contract))

    async def record(self, read: Read) -> Recorded:
        """Take a trusted read."""
        return await self._do(lambda book: recording.record(book, read), long=len(read.arrivals) > LONG_READ)

    async def checkpoints(self, chain_id: int, contract: Address) -> Checkpoints:
        """Return the block hashes that are kept for a contract."""
        return await self._do(lambda book: queries.checkpoints(book, chain_id, contract))

    async def standing(
        self, chain_id: int, contract: Address, blocks: tuple[int, int], limit: int
    ) -> Checkpoints:
        """Return the blocks where requests on chain stand."""
        return await self._do(lambda book: queries.standing(book, chain_id, contract, blocks, limit))

    async def reread(self, chain_id: int, contract: Address) -> Reread | None:
        """Return what of a contract is to be read once more."""
        return await self._do(lambda book: queries.reread(book, chain_id, contract))

    async def note_reread(self, chain_id: int, contract: Address, reread: Reread) -> None:
        """Remember what is to be read once more."""
        await self._do(lambda book: rewinding.note_reread(book, chain_id, contract, reread))

    async def rewind(self, chain_id: int, contract: Address, fork: int, head: int) -> Rewound:
        """Go back to a fork."""
        return await self._do(lambda book: rewinding.rewind(book, chain_id, contract, fork, head), long=True)

    async def doubted(self, chain_id: int, contract: Address, from_block: int, limit: int) -> tuple[int, ...]:
        """Return the last blocks of open requests that are off chain."""
        return await self._do(lambda book: queries.doubted(book, chain_id, contract, from_block, limit))

    async def due(
        self,
        kinds: Collection[Kind],
        now: float,
        limit: int,
        busy: Collection[int],
        *,
        without: Shards = NO_SHARDS,
    ) -> Due:
        """Return rows for a pool."""
        taken = list(busy)  # as it is now: the caller's set changes while this waits
        return await self._do(
            lambda book: queries.due_of_kinds(book, kinds, now, limit, busy=taken, without=without)
        )

    async def in_order(self, kinds: Collection[Kind], now: float, limit: int) -> tuple[Queued, ...]:
        """Return rows in the order of the chain."""
        return await self._do(lambda book: queries.in_order(book, kinds, now, limit))

    def note_submitted(self, rid: int, submitted: bool) -> None:
        """Remember what the Core knows; written as its row is deferred, or after a second with an operation of anybody."""
        self._writer.note(rid, submitted)

    async def answer(self, rid: int, answer: Answer, now: float) -> bool:
        """PENDING → ANSWERED."""
        self._writer.noted(rid)  # nobody asks any more
        return await self._do(lambda book: moves.answer(book, rid, answer, now))

    async def defer(
        self,
        rid: int,
        next_attempt: float,
        reason: str,
        *,
        max_wait: float = moves.LONGEST_WAIT,
        again: bool = True,
    ) -> bool:
        """Put a waiting row off."""
        submitted = self._writer.noted(rid)
        return await self._do(
            lambda book: moves.defer(
                book, rid, next_attempt, reason, max_wait, submitted=submitted, again=again
            )
        )

    async def close(self, rid: int, transition: str, reason: str, *, block: int | None = None) -> bool:
        """End a request without a reply of ours. Raises ValueError for a transition that does not close."""
        _expect(transition, moves.CLOSINGS)
        return await self._do(lambda book: moves.move(book, transition, rid, reason=reason, block=block))

    async def found_included(self, rid: int, verify_block: int) -> bool:
        """PENDING or ANSWERED → INCLUDED."""
        return await self._do(lambda book: moves.move(book, "found_included", rid, block=verify_block))

    async def has_sibling(self, rid: int) -> bool:
        """Say whether other content is known under the same id."""
        return await self._do(lambda book: queries.has_sibling(book, rid))

    async def answered(self, chain_id: int, now: float, limit: int) -> Due:
        """Return rows for a lane to sign."""
        return await self._do(lambda book: queries.answered(book, chain_id, now, limit))

    async def answered_after(self, chain_id: int, after: tuple[int, int], limit: int) -> tuple[Row, ...]:
        """Return a page of answered rows."""
        return await self._do(
            lambda book: queries.answered_after(book, chain_id, after, limit), long=limit > LONG_LIST
        )

    async def signed(self, chain_id: int) -> tuple[Row, ...]:
        """Return what flies on a chain."""
        return await self._do(lambda book: queries.signed(book, chain_id))

    async def included(
        self, chain_id: int, up_to_block: int, limit: int, *, from_block: int = 0
    ) -> tuple[Row, ...]:
        """Return included rows of a range of blocks."""
        return await self._do(
            lambda book: queries.included(book, chain_id, up_to_block, limit, from_block),
            long=limit > LONG_LIST,
        )

    async def included_from_nonce(self, chain_id: int, nonce: int, limit: int) -> tuple[Row, ...]:
        """Return included rows from a nonce on; walks over all included rows of the chain."""
        return await self._do(
            lambda book: queries.included_from_nonce(book, chain_id, nonce, limit), long=True
        )

    async def sign(self, signings: Sequence[Signing]) -> list[bool | NonceTaken]:
        """ANSWERED and on chain, or SIGNED → SIGNED."""
        done = await self._do_all(partial(moves.sign, signing=signing) for signing in signings)
        return [_unless_taken(operation) for operation in done]

    async def release(self, rid: int, next_attempt: float, reason: str) -> bool:
        """SIGNED → ANSWERED; nonce and signed bytes stay known, for they may still be included."""
        return await self._do(
            lambda book: moves.move(book, "release", rid, next_attempt=next_attempt, reason=reason)
        )

    async def confirm(self, inclusions: Sequence[tuple[int, int]]) -> list[bool]:
        """SIGNED → INCLUDED."""
        done = await self._do_all(
            partial(moves.move, transition="confirm", rid=rid, block=block) for rid, block in inclusions
        )
        return [operation.result() for operation in done]

    async def finalize(self, rids: Sequence[int]) -> list[bool]:
        """INCLUDED → FINALIZED."""
        done = await self._do_all(partial(moves.move, transition="finalize", rid=rid) for rid in rids)
        return [operation.result() for operation in done]

    async def unland(self, rid: int, transition: str, reason: str) -> bool:
        """INCLUDED → ANSWERED or PENDING, due at once. Raises ValueError for another transition."""
        _expect(transition, moves.RETURNS)
        now = self._wall()
        return await self._do(lambda book: moves.move(book, transition, rid, next_attempt=now, reason=reason))

    async def places(
        self, chain_id: int, contract: Address, kind: Kind, ids: tuple[int, int], limit: int
    ) -> tuple[Place, ...]:
        """Return requests of a kind that are on chain by their ids."""
        return await self._do(
            lambda book: queries.places(book, (chain_id, contract), kind, ids, limit), long=True
        )

    async def quarantined(self, chain_id: int, contract: Address) -> tuple[Log, ...]:
        """Return the logs of a contract that could not be decoded."""
        return await self._do(lambda book: queries.quarantined(book, chain_id, contract))

    async def low_water(self, chain_id: int, contract: Address, kind: Kind) -> Place | None:
        """Return up to which request of a kind all are known."""
        return await self._do(lambda book: retention.low_water(book, chain_id, contract, kind))

    async def raise_low_water(self, chain_id: int, contract: Address, kind: Kind, place: Place) -> None:
        """Remember that all requests of a kind up to this one are known."""
        await self._do(lambda book: retention.raise_low_water(book, chain_id, contract, kind, place))

    async def retain(self, plan: Retention, at: Position) -> Retained:
        """Take a step of retention."""
        return await self._do(lambda book: retention.step(book, plan, at), long=True)

    async def waiting(self, kinds: Collection[Kind], before: float, limit: int) -> tuple[Waiting, ...]:
        """Return what has been open for long."""
        return await self._do(lambda book: queries.waiting(book, kinds, before, limit))

    async def endings(self, kind: Kind, limit: int) -> tuple[Ending, ...]:
        """Return how the newest requests of a kind of key management ended."""
        return await self._do(lambda book: queries.endings(book, kind, limit))

    async def counts(self, now: float) -> Counts:
        """Return what health and metrics show."""
        return await self._do(lambda book: queries.counts(book, now))

    async def find(self, wanted: Wanted, before: int | None, limit: int) -> Found:
        """Return the newest rows that are wanted."""
        return await self._do(lambda book: inspecting.find(book, wanted, before, limit), long=True)

    async def of_id(self, identifier: int) -> tuple[Row, ...]:
        """Return all rows of an id."""
        return await self._do(lambda book: inspecting.of_id(book, identifier))

    async def retry(self, rid: int, now: float, deadline: float) -> None:
        """Let a request begin again."""
        await self._do(lambda book: inspecting.retry(book, rid, now, deadline))

    async def row(self, rid: int) -> Row | None:
        """Return one row."""
        return await self._do(lambda book: queries.row(book, rid))


@asynccontextmanager
async def open_journal(
    path: Path,
    binding: Binding | None,
    offload: Offload,
    wall: Callable[[], float],
    *,
    synchronous: Synchronous = "FULL",
    shards: int = 1,
) -> AsyncGenerator[SqliteJournal]:
    """Open the journal at ``path``, make it if there is none, and run its writer meanwhile.

    Without a ``binding`` the file must be there, whoever it belongs to: for an operator who looks into it.
    ``shards``: among how many parts due rows are shared by their ids; another number than the last time makes two indices anew.
    ``synchronous="OFF"`` gives durability up for speed: for tests under a virtual disk only.

    Raises StartRefused when the file is in use, belongs to another connector, is newer than this program or cannot be opened.
    Cancellation: what was queued before is still committed, within ``CLOSING`` seconds, and the lock is given back.
    """
    book = Book(path, wall, shards)
    try:
        await offload("journal", partial(_open, book, binding, synchronous))
        async with trio.open_nursery() as nursery:
            writer = Writer(book, offload)
            nursery.start_soon(writer.run)
            try:
                yield SqliteJournal(writer, wall, book)
            finally:
                writer.close()
    finally:
        await _close(book, offload)  # noqa: ASYNC102 - shields itself, with a deadline


def _open(book: Book, binding: Binding | None, synchronous: Synchronous) -> None:
    book.open(binding, synchronous)
    book.begin()
    find_odd_rows(book)
    book.commit()


async def _close(book: Book, offload: Offload) -> None:
    try:
        with trio.move_on_after(CLOSING, shield=True):
            await offload("journal", book.close)  # the last checkpoint of the log may take a while
    finally:
        book.close()  # does nothing, unless the offload could not do it


def _unless_taken(operation: Operation[bool]) -> bool | NonceTaken:
    try:
        return operation.result()
    except NonceTaken as error:
        return error


def _expect(transition: str, allowed: Collection[str]) -> None:
    if transition not in allowed:
        raise ValueError(f"{transition!r} is none of {', '.join(sorted(allowed))}")

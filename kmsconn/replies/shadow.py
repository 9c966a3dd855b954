"""Shadow mode: what a transaction manager does instead of sending. It follows another connector's replies, and sends nothing, ever.

Each round reads the blocks up to the look at the chain, compares each reply of the node with the answer in the journal, and moves the
request as if this connector had found its own reply; finality, forks and what is gone are the transaction manager's. No key, no nonce, no
broadcast is within its reach.

- A request that is still pending here when its reply is seen waits in memory for the answer; a restart reads the blocks again.
- A request that ended here without an answer, which another connector answered, is told.
- An answer to which no reply came until the request's deadline is told, and the request is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import msgspec
import trio

from kmsconn.chain.follower import UNREAD
from kmsconn.chain.looking import ChainView
from kmsconn.chain.port import Call, Count, JsonTransaction, Receipt, Rpc, read
from kmsconn.errors import JournalFailed, KmsconnError, Unreachable
from kmsconn.ethereum.abi import SELECTOR_BYTES
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.journal import moves, queries
from kmsconn.journal.rows import Row
from kmsconn.model.events import ReplyCompared, ReplyIncluded, ReplyMissing, ReplyUnmatched, RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.comparing import compare
from kmsconn.protocols.profile import Profile
from kmsconn.replies import table
from kmsconn.replies.answers import Accepts, read_receipt
from kmsconn.replies.plan import by_phase
from kmsconn.replies.sending import ReplyMoves
from kmsconn.replies.state import TxState
from kmsconn.replies.table import TableRow
from kmsconn.replies.view import Action, Finding, Found, IncludedReply, Phase, Track, View

BLOCKS_AT_ONCE = 16
"""Blocks with their transactions in one batch: some seconds of the fastest chain, some megabytes of a full one."""
MOST_BLOCKS_BACK = 20_000
"""Blocks below the head that are read: more than an hour of the fastest chain. What was sent before is not compared."""
_WORD = 32


class _Transaction(JsonTransaction):
    hash: str
    sender: str = msgspec.field(name="from")


class _Block(msgspec.Struct, rename="camel"):
    number: Count
    timestamp: Count
    hash: str
    parent_hash: str
    transactions: list[_Transaction] = []


@attrs.frozen
class SentReply:
    """A reply in a block: to which request of which contract, its calldata, and where it stands. ``seen``: wall time of the read."""

    contract: Address
    kind: Kind
    id: int
    calldata: bytes = attrs.field(repr=False)
    transaction_hash: bytes
    block: int
    timestamp: int
    seen: float
    block_hash: bytes = b""
    """Known where its receipt has an event of the contract."""

    @property
    def included_at(self) -> float:
        """The wall time of its inclusion as far as it is known: a block tells whole seconds, and this process may have read it late."""
        return min(max(self.seen, float(self.timestamp)), self.timestamp + 1.0)


@attrs.define
class ReplyReader:
    """Reads one chain while it is asked to: ``next_block`` is the first block that was not read, None while it rests."""

    rpc: Rpc
    profile: Profile
    sender: Address
    next_block: int | None = None
    _parent: str | None = None
    """The hash of the block before that, where it was read."""

    async def read(self, head: int, wall: float) -> tuple[Sequence[SentReply], bool]:
        """Read on up to a head, at most ``BLOCKS_AT_ONCE`` blocks; return the replies there, and whether there are more blocks.

        Of a block that went, and as many before it as are read at once, what stands there now is read again; a deeper fork is the
        follower's to find.

        Raises Retryable, and then nothing was read. Cancellation: likewise. Repeating: reads only.
        """
        if self.next_block is None or self.next_block > head:
            return (), False
        begin = max(self.next_block, head - MOST_BLOCKS_BACK)
        numbers = range(begin, min(head + 1, begin + BLOCKS_AT_ONCE))
        calls = [Call("eth_getBlockByNumber", (quantity(number), True)) for number in numbers]
        found = await self.rpc.batch(calls)
        blocks, parent = list[_Block](), self._parent if begin == self.next_block else None
        for block in map(_read_block, found):
            if block is None or parent not in {None, block.parent_hash}:
                break
            blocks.append(block)
            parent = block.hash
        if not blocks and found[0] is not None:
            self.next_block, self._parent = max(0, begin - BLOCKS_AT_ONCE), None
            return (), True
        replies = await self._succeeded([one for block in blocks for one in self._candidates(block, wall)])
        self.next_block, self._parent = begin + len(blocks), parent
        return replies, numbers[-1] < head

    def _candidates(self, block: _Block, wall: float) -> list[SentReply]:
        """Return the calls of the sender in a block that are replies."""
        mine, found = to_hex(self.sender), []
        for transaction in block.transactions:
            if transaction.sender.lower() != mine or transaction.to is None:
                continue
            try:
                contract, calldata = parse_address(transaction.to), from_hex(transaction.input)
                transaction_hash = from_hex(transaction.hash)
            except ValueError as error:
                raise Unreachable("the node returned a transaction that cannot be decoded") from error
            kind = self._kinds.get((contract, calldata[:SELECTOR_BYTES]))
            if kind is not None and len(calldata) >= SELECTOR_BYTES + _WORD:
                id_ = int.from_bytes(calldata[SELECTOR_BYTES : SELECTOR_BYTES + _WORD])
                place = int(block.number, 16), int(block.timestamp, 16)
                found.append(SentReply(contract, kind, id_, calldata, transaction_hash, *place, wall))
        return found

    @property
    def _kinds(self) -> Mapping[tuple[Address, bytes], Kind]:
        return {
            (one.contract[1], one.reply.selector): one.kind
            for one in self.profile.operations.values()
            if one.reply is not None and one.contract[0] == self.rpc.chain_id
        }

    async def _succeeded(self, replies: Sequence[SentReply]) -> Sequence[SentReply]:
        """Return the replies whose transactions did not fail. Raises Unreachable where a node does not know one that it showed."""
        if not replies:
            return ()
        calls = [Call("eth_getTransactionReceipt", (to_hex(one.transaction_hash),)) for one in replies]
        found = []
        for reply, answer in zip(replies, await self.rpc.batch(calls), strict=True):
            receipt = read_receipt(reply.contract, answer)
            if not isinstance(receipt, Receipt):
                raise Unreachable(f"the node has no receipt of a transaction that it showed: {receipt}")
            if receipt.succeeded:
                found.append(attrs.evolve(reply, block_hash=receipt.block_hash) if receipt.heard else reply)
        return found


def _read_block(result: Any) -> _Block | None:
    """Return a block, None where the node does not have it. Raises Unreachable for every other result."""
    try:
        return None if result is None else read(result, _Block)
    except ValueError as error:
        said = f"{result}" if isinstance(result, KmsconnError) else f"what cannot be decoded: {error}"
        raise Unreachable(f"the node answered {said}") from error


LOOK_EVERY = 2.0  # seconds between looks at what is overdue
ROWS_AT_ONCE = 64  # rows that are looked at for their deadline, and replies that wait, in one look
MOST_WAITING = 10_000  # replies whose requests are pending here; the oldest give way to further ones
UNKNOWN_FOR = 120.0  # seconds that a reply waits for its request to be read
NOT_SEEN = "its reply stands in a block that was not read"
NO_REPLY = "no reply of this node was included until the deadline of the request"


def _nobody_sent(_view: View, _track: Track, probe: Finding) -> Found | None:
    # only who would take it now has none: while it is paused, or without the request's context, a contract does not tell
    return Found(NO_REPLY) if probe.trusted and isinstance(probe.value, Accepts) else None


LEFT_SIGNED = Found("shadow mode sends nothing")
TABLE = by_phase([
    *(row for row in table.ROWS if (row.phase, row.action) == (Phase.UNSIGNED, Action.CONFIRM)),
    TableRow(Phase.UNSIGNED, Action.FINISH, (), _nobody_sent),
    TableRow(Phase.UNSIGNED, Action.DEFER, (), lambda _view, _track, probe: Found(str(probe.value))),  # it takes nobody's place
    *(TableRow(phase, Action.RELEASE, (), lambda *_: LEFT_SIGNED) for phase in (Phase.IN_FLIGHT, Phase.SPENT)),
    *(row for row in table.ROWS if row.phase in {Phase.INCLUDED, Phase.ANY}),
])  # fmt: skip
"""The rows of shadow mode: what is answered is looked at once it is overdue; what an active connector left signed is not broadcast here."""


@attrs.define
class Shadow(ReplyMoves):
    """One shadow at work: moves requests by what another connector did for them, and tells each step.

    ``rests``: blocks are read only while a request is open, for a chain with large blocks and few requests. ``waiting`` has the replies
    whose requests are pending here, or not in the journal yet.
    """

    reader: ReplyReader
    rests: bool
    waiting: deque[SentReply] = attrs.field(factory=lambda: deque(maxlen=MOST_WAITING))
    _looked_at: float = float("-inf")
    _generation: int = UNREAD

    rows: ClassVar = TABLE

    @classmethod
    def of(cls, state: TxState) -> Shadow:
        """Return the shadow of a chain that begins."""
        manager, rpc = state.manager, state.manager.endpoint.rpc
        subscriptions = [one for one in manager.profile.subscriptions() if one.chain_id == rpc.chain_id]
        reader = ReplyReader(rpc, manager.profile, manager.account)
        return cls(state, reader, all(one.finalized for one in subscriptions))

    async def step(self, chain: ChainView) -> None:
        """Read on up to a look at the chain, and see what became of what was read before.

        Raises Retryable. Cancellation: at any await; the journal and the chain have everything. Repeating: goes on from there.
        """
        generation = self.state.manager.endpoint.follower.generation
        if generation != self._generation:  # what went back with its block is open again
            self._generation = generation
            self._read_anew()
        if self.reader.next_block is None:
            self.reader.next_block = await self._begin(chain)
        replies, more = await self.reader.read(chain.number, self.state.manager.ports.wall())
        now = trio.current_time()
        looks = now - self._looked_at >= LOOK_EVERY
        again = min(len(self.waiting), ROWS_AT_ONCE) if looks else 0
        try:
            for reply in (*replies, *(self.waiting.popleft() for _ in range(again))):
                await self._take(reply)
        except JournalFailed:
            self._read_anew()  # what was not taken is read again
            raise
        if more:
            self.state.manager.wake.go_on()
        if not looks:
            return
        self._looked_at = now
        await self._note_overdue()
        if self.rests and await self._begin(chain) is None:
            self._read_anew()

    def _read_anew(self) -> None:
        """Begin at the oldest open request again, and so with all that waits."""
        self.waiting.clear()
        self.reader = ReplyReader(self.reader.rpc, self.reader.profile, self.reader.sender)

    async def _begin(self, chain: ChainView) -> int | None:
        """Return the block of the oldest open request, else the head; None: there is nothing to read yet."""
        chain_id = self.reader.rpc.chain_id
        block: int | None = await self.state.manager.journal.run(queries.oldest_open_block, chain_id)
        return chain.number if block is None and not self.rests else block

    async def _take(self, reply: SentReply) -> None:
        """Compare a reply with what is known of its request, now or when there is an answer; one of before this journal is let go."""
        manager = self.state.manager
        wanted = self.reader.rpc.chain_id, reply.contract, reply.kind, reply.id
        rows = await manager.journal.run(queries.of_request, *wanted)
        if rows and rows[-1].state is not State.PENDING:
            await self._judge(rows[-1], reply)
        elif rows or manager.ports.wall() - reply.seen <= UNKNOWN_FOR:
            self.waiting.append(reply)

    async def _judge(self, row: Row, reply: SentReply) -> None:
        """Take a reply to the request of a row. Repeating: a row that is included already is left alone."""
        manager, block, transaction = self.state.manager, reply.block, reply.transaction_hash
        moved = row.state is State.ANSWERED and await manager.journal.run(
            moves.move, "found_included", row.rid, block=block
        )
        if moved:
            assert row.answer is not None
            recorded, answered = row.times.recorded, row.times.answered
            found = compare(manager.profile.operations[row.kind], row.answer.calldata, reply.calldata)
            gained = reply.included_at - (recorded if answered is None else answered)
            told = found.likeness, gained, block, transaction, *found[1:]
            manager.on_event(ReplyCompared(row.rid, row.kind, *told, id=row.id))
            seconds = max(0.0, reply.included_at - recorded)
            manager.on_event(ReplyIncluded(row.rid, row.kind, block, seconds, True, transaction, id=row.id))
        if row.state in {State.ANSWERED, State.INCLUDED}:
            included = IncludedReply(row.rid, row.kind, row.id, block, reply.block_hash, transaction)
            self.state.tracks.stands(included)
        elif row.state is not State.FINALIZED:
            manager.on_event(ReplyUnmatched(row.rid, row.kind, row.state, row.progress.reason, id=row.id))

    async def _note_overdue(self) -> None:
        """Have the contract asked about requests whose deadline has passed, in chain time that is sure, the longest answered first."""
        manager = self.state.manager
        now = manager.endpoint.follower.head.settled_timestamp
        if now is None:
            return
        wanted = self.reader.rpc.chain_id, manager.ports.wall(), ROWS_AT_ONCE
        due = await manager.journal.run(queries.answered, *wanted)
        for row in due.rows:
            if now > row.progress.deadline:
                self.state.tracks.note(row)

    async def found(self, track: Track, found: Found) -> None:
        """Note that the contract has a reply that was not seen."""
        row = track.row
        if await self._move(track, "found_included", block=found.block):
            self.state.tracks.newly_included = True
            self.state.manager.on_event(ReplyUnmatched(row.rid, row.kind, row.state, NOT_SEEN, id=row.id))

    async def close(self, transition: str, track: Track, found: Found) -> None:
        """End a request whose reply did not come."""
        row, manager = track.row, self.state.manager
        if await self._move(track, transition, reason=found.reason):
            seconds = manager.ports.wall() - row.times.recorded
            manager.on_event(ReplyMissing(row.rid, row.kind, seconds, id=row.id))
            closed = RequestClosed(row.rid, row.kind, State.DONE, found.reason, "no-reply", id=row.id)
            manager.on_event(closed)

    async def take_back(self, track: Track, found: Found) -> None:
        """Take an included reply back to answered, and read anew: it may stand in its block, or in a later one."""
        await super().take_back(track, found)
        self._read_anew()

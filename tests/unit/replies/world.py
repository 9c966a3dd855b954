"""A transaction manager in a small world: the emulated chain with one contract, a node with faults, a journal in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import chain as chained
from pathlib import Path
from typing import Any, Literal

import attrs
import trio
from betterproto2 import Message

from kmsconn.chain.follower import Anchor, Durable, Follower, HeadTracker
from kmsconn.chain.fork import Checkpoint
from kmsconn.chain.logs import BlockHead
from kmsconn.chain.port import Call, RpcError
from kmsconn.config.description import Secret
from kmsconn.config.parties import Chain as ChainSettings
from kmsconn.config.parties import Contract as ContractSettings
from kmsconn.config.settings import Settings
from kmsconn.emulator.blocks import Branch, Mined
from kmsconn.emulator.chain import EmulatedChain, NodeStanding
from kmsconn.emulator.execution import Frame, Reverted
from kmsconn.emulator.node_faults import NodeError
from kmsconn.emulator.pool import PoolKind, Submission
from kmsconn.emulator.rpc_methods import METHODS
from kmsconn.errors import KmsconnError, NonceTaken, Unreachable
from kmsconn.ethereum.abi import ContractEvent, Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Transaction, decode_transaction, sign_transaction
from kmsconn.journal import inspecting, moves, queries, recording, retention
from kmsconn.journal.database import Binding, Database
from kmsconn.journal.groups import Execution
from kmsconn.journal.journal import Journal
from kmsconn.journal.moves import NewRequest
from kmsconn.journal.queries import ReadUpTo
from kmsconn.journal.rows import Row, read_rows
from kmsconn.journal.schema import COUNTING, MIGRATIONS
from kmsconn.journal.sqlite import SqliteDriver
from kmsconn.model.events import AlertRaised, Event
from kmsconn.model.life import State
from kmsconn.model.requests import Kind, PoolName
from kmsconn.protocols.port import Operation, Revert, Verdict
from kmsconn.protocols.queries import ContractViews, QueryPlan
from kmsconn.replies.manager import run_txmanager
from kmsconn.replies.state import TxEndpoint, TxManager
from kmsconn.replies.wallet import Wallet
from kmsconn.transport.ports import Ports, offload_inline
from kmsconn.transport.waiting import WakeUp

CHAIN_ID = 412346
CONTRACT = Address(b"\xd0" * 20)
ELSEWHERE = Address(b"\xee" * 20)
SECRET = "11" * 32
KEY = PrivateKey.parse(SECRET)
REORG_WINDOW = 5.0
START = 1_700_000_000
TIP = 4


def settings(**changes: Any) -> Settings:
    contract = ContractSettings(CONTRACT, "Decryption")
    chain = ChainSettings(CHAIN_ID, ("ws://node",))
    return Settings.of(
        gateway=chain,
        ethereum=chain,
        host_chains=(),
        decryption_contract=contract,
        gateway_config_contract=contract,
        protocol_config_contract=contract,
        kms_generation_contract=contract,
        core_endpoints=(),
        private_key=Secret(SECRET),
        **{"reorg_window": REORG_WINDOW, **changes},
    )


def digest_of(identifier: int, variant: int = 0) -> bytes:
    return bytes([variant]) * 24 + identifier.to_bytes(8)


def calldata(identifier: int, variant: int = 0) -> bytes:
    return b"rply" + identifier.to_bytes(32) + digest_of(identifier, variant)


TAKEN = ContractEvent.from_item({"name": "Taken", "inputs": [{"type": "uint256", "indexed": False}]})


class Decryption:
    """Takes one reply for each request in use, of its content; says why not, in the order of the real contract.

    ``emits``: an event for each one, as the real contract does; without, nothing but the contract tells that it has a reply.
    """

    address = CONTRACT
    emits = False

    def execute(self, frame: Frame) -> bytes:
        identifier, digest = int.from_bytes(frame.data[4:36]), frame.data[36:68]
        frame.meter.burn(50_000)
        if frame.read("says"):
            raise Reverted(frame.read("says"))
        if frame.read("broken"):
            raise Reverted(b"wrong: broken")
        content = frame.read("request", identifier)
        if content is None:
            raise Reverted(b"notrequested")
        if content != digest:
            raise Reverted(b"wrong: other content")
        if frame.read("answered", identifier):
            raise Reverted(b"answered")
        frame.write(True, "answered", identifier)
        if self.emits:
            frame.emit(TAKEN, identifier)
        return b""


class Replied(Operation[Any]):
    """A row of which only the reply counts."""

    contract = (CHAIN_ID, CONTRACT)

    def __init__(self, kind: Kind, spare_gas: int, spare_percent: int) -> None:
        self.kind, self.pool = kind, PoolName.PUBLIC_DECRYPTION
        self.spare_gas, self.spare_percent = spare_gas, spare_percent

    def identified(self, identifier: int) -> Message:
        raise NotImplementedError

    def request(self, content: Any, gathered: Any) -> Message:
        raise NotImplementedError

    def revert(self, data: bytes | None) -> Revert:
        said = (data or b"unknown").decode()
        verdicts = {"answered": Verdict.DONE, "wrong": Verdict.FINAL, "stranger": Verdict.SKIP}
        revert = Revert(said, (), verdicts.get(said.split(":")[0], Verdict.RETRY))
        return attrs.evolve(revert, plan=ask_state) if said == "not pending" else revert


class Reverts:
    """The part of a profile that a transaction manager needs."""

    name = "test"

    def __init__(self, spare_gas: int = 0, spare_percent: int = 0) -> None:
        self.operations = {kind: Replied(kind, spare_gas, spare_percent) for kind in Kind}


def ask_state() -> QueryPlan[Verdict]:
    """Ask what "not pending" means: the state says whether it is done."""
    [state] = yield [ContractViews(CHAIN_ID, CONTRACT).slot(1)]
    return Verdict.DONE if state else Verdict.RETRY


@attrs.frozen
class Fault:
    """What happens to one batch: a node that lags or follows ``branch``, questions or answers that get lost, a hang.

    ``trail``: so far the node's receipts and state are behind the head that it tells.
    """

    lag: int = 0
    trail: int = 0
    lost: Literal["", "question", "answer"] = ""
    hang: float = 0.0
    stale_fork: bool = False
    latency: float = 0.005


HEALTHY = Fault()
_OF_THE_HEAD = {"eth_blockNumber", "eth_getBlockByNumber", "eth_getTransactionCount"}


def healthy(calls: Sequence[Call]) -> Fault:
    return HEALTHY


@attrs.define(eq=False)
class Node:
    """Several nodes behind one URL, as a ``chain.port.Rpc``; ``fault`` says for each batch which one answers, and how."""

    chain: EmulatedChain
    fault: Callable[[Sequence[Call]], Fault] = healthy
    chain_id: int = CHAIN_ID
    branch: Branch | None = None
    calls: list[Call] = attrs.field(factory=list)
    accepted: list[bytes] = attrs.field(factory=list)
    arrived: list[bytes] = attrs.field(factory=list)
    refuse: Callable[[Call], RpcError | None] = lambda call: None
    twist: Callable[[Call, Any], Any] = lambda call, answer: answer
    """What a node says instead of an answer."""
    on_sent: Callable[[bytes], None] = lambda raw: None
    """Called when bytes arrive that are not refused at once; ``on_accepted`` when the node says that it took them."""
    on_accepted: Callable[[bytes], None] = lambda raw: None
    batches: int = 0
    finality: int | None = 20
    """Blocks from the head to the finalized one; None: a node without that tag."""
    in_order: bool = True
    """What arrives later is heard later, as on one connection; without, as on several."""
    shown: BlockHead | None = None
    """The head that it told last."""
    _heard: float = 0.0
    _raws: dict[bytes, bytes] = attrs.field(factory=dict)

    async def call(self, method: str, *params: Any) -> Any:
        [result] = await self.batch([Call(method, params)])
        if isinstance(result, RpcError):
            raise result
        return result

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        fault = self.fault(calls)
        self.batches += 1
        self.calls += calls
        await trio.sleep_until(self._arrival(fault))
        if fault.lost == "question":
            raise Unreachable("refused")
        results = [self.twist(call, await self._waited_for(self._answer(call, fault))) for call in calls]
        await trio.sleep(fault.latency / 2)
        if fault.lost == "answer":
            raise Unreachable("reset")
        return results

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        async def ask(index: int, call: Call) -> None:
            try:
                take(index, await self.call(call.method, *call.params))
            except KmsconnError as error:
                take(index, error)

        async with trio.open_nursery() as nursery:
            for index, call in enumerate(calls):
                nursery.start_soon(ask, index, call)
                await trio.lowlevel.checkpoint()

    async def _waited_for(self, result: Any) -> Any:
        """Wait for the block where a sequencer answers with it."""
        if not isinstance(result, Submission):
            return result
        try:
            await result.wait()
        except NodeError as error:
            return RpcError(error.code, error.message)
        assert result.transaction.envelope is not None
        raw = self._raws[result.transaction.hash]
        self.accepted.append(raw)
        self.on_accepted(raw)
        return to_hex(result.transaction.hash)

    def _arrival(self, fault: Fault) -> float:
        at = trio.current_time() + fault.latency / 2
        if self.in_order:
            at = self._heard = max(at, self._heard + 1e-6)
        return at + fault.hang

    def _answer(self, call: Call, fault: Fault) -> Any:
        """Answer as an emulated node does, but for what is said of heads, legacy prices and sends."""
        if (refusal := self.refuse(call)) is not None:
            return refusal
        node = NodeStanding(self.chain)
        node.lag = fault.lag if call.method in _OF_THE_HEAD else fault.lag + fault.trail
        node.fork = self.branch if fault.stale_fork else None
        node.tip = TIP
        own = {"eth_getBlockByNumber": self._block, "eth_sendRawTransaction": self._send}
        try:
            return own.get(call.method, METHODS[call.method])(node, call.params)
        except NodeError as error:
            return RpcError(error.code, error.message, None if error.data is None else from_hex(error.data))

    def _block(self, node: NodeStanding, params: Sequence[Any]) -> Any:
        if params[0] == "latest":
            head = node.view().head
            self.shown = BlockHead(head.number, head.timestamp, head.hash)
        if params[0] == "finalized" and self.finality is None:
            raise NodeError(-32602, "unknown block tag finalized")
        self.chain.finality.depth = self.finality or 0
        return METHODS["eth_getBlockByNumber"](node, params)

    def _send(self, _: NodeStanding, params: Sequence[Any]) -> Submission:
        raw = from_hex(params[0])
        entered = self.chain.intake.enter(raw)
        self._raws[entered.transaction.hash] = raw
        self.arrived.append(raw)
        self.on_sent(raw)
        return entered


async def no_delay() -> None:
    await trio.lowlevel.checkpoint()


class MemoryDriver(SqliteDriver):
    """A journal file that stands in memory."""

    def open(self, *, make: bool) -> None:
        self._connect(())
        for statement in (*chained.from_iterable(MIGRATIONS), *COUNTING):
            self.execute(statement)


class WorldJournal(Journal):
    """The journal in memory; nothing waits in its queue.

    An operation takes effect between two delays, so a cancelled one may or may not be done.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self.db = Database(MemoryDriver(Path(":memory:")), wall)
        self.db.open(Binding("test", CHAIN_ID, CHAIN_ID, CONTRACT, KEY.address))
        super().__init__(self.db, offload_inline)
        self._input.close()
        self.delay: Callable[[], Awaitable[None]] = no_delay
        self.conflicts = 0
        recording.begin(self.db, CHAIN_ID, CONTRACT, ReadUpTo(1, 0, 0, 0.0), None)

    async def _queue(self, executions: Sequence[Execution[Any]]) -> None:
        await self.delay()
        self.db.begin()
        for one in executions:
            one.apply(self.db)
            one.is_settled = True
            one.done.set()
            self.conflicts += isinstance(one.value, NonceTaken)
        self.db.commit()
        self.answers_tick = self.db.answers_tick
        await self.delay()

    def add(
        self,
        rid: int,
        *,
        identifier: int | None = None,
        variant: int = 0,
        block: int = 0,
        hash_: bytes = bytes(32),
    ) -> None:
        """Record a request that is answered."""
        identifier, now = rid if identifier is None else identifier, self.db.wall()
        log = Log(CONTRACT, (), b"", block, hash_, bytes(32), 0)
        digest = digest_of(identifier, variant)
        new = NewRequest(CHAIN_ID, CONTRACT, identifier, Kind.PUBLIC_DECRYPTION, digest, log, 0.0, now)
        [given] = moves.insert(self.db, [new])
        self.change(
            given, rid=rid, state=State.ANSWERED, calldata=calldata(identifier, variant), signer=bytes(20)
        )

    def change(self, rid: int, /, **columns: Any) -> None:
        """Change columns of a row."""
        named = ", ".join(f"{name} = ?" for name in columns)
        self.db.execute(f"UPDATE request SET {named} WHERE rid = ?", (*columns.values(), rid))  # noqa: S608
        self.db.tick = self.db.answers_tick = self.answers_tick = self.db.tick + 1

    @property
    def rows(self) -> dict[int, Row]:
        rids = self.db.execute("SELECT rid FROM request").fetchall()
        return {row.rid: row for row in read_rows(self.db, rids)}

    def states(self) -> list[State]:
        return [State(state) for (state,) in self.db.execute("SELECT state FROM request ORDER BY rid")]

    def steps(self, rid: int) -> list[str]:
        """Return the transitions of a row."""
        return [entry.step for entry in inspecting.history(self.db, rid)]


def wall() -> float:
    return START + trio.current_time()


@attrs.define(eq=False)
class ReadingFollower(Follower):
    """Keeps the head of each look of the chain that is followed, as the readers of a chain do."""

    journal: WorldJournal = attrs.field(kw_only=True)

    async def judge(self, asked: Anchor, found: bytes | None) -> bool:
        same = await super().judge(asked, found)
        head: BlockHead | None = self.rpc.shown  # type: ignore[attr-defined]
        if same and head is not None and head.hash is not None:
            self.head.note(head.number, head.timestamp)
            self.journal.db.execute(recording.CHECKPOINT, (CHAIN_ID, head.number, head.hash))
            await self.note(Checkpoint(head.number, head.hash))
        return same


class World:
    """All of it together; build it inside Trio. ``events`` is what the transaction manager said."""

    def __init__(
        self,
        *,
        pool: PoolKind = "arbitrum",
        base_fee: int | None = 100,
        block_time: float = 0.25,
        **changes: Any,
    ) -> None:
        self.chain = EmulatedChain(CHAIN_ID, wall, pool=pool, base_fee=base_fee, block_time=block_time)
        self.contract = Decryption()
        self.chain.evm.deploy(self.contract)
        self.node = Node(self.chain)
        self.journal = WorldJournal(wall)
        self.events: list[Event] = []
        self.wake = WakeUp()
        self.settings = settings(**changes)
        self.random: Callable[[], float] = lambda: 0.5
        self.wallet = Wallet.from_hex(Secret(SECRET))
        kept: list[Callable[..., Any]] = [
            queries.followed,
            retention.note_doubt,
            retention.forget,
            retention.rewind,
        ]
        durable = Durable(*(partial(self.journal.run, operation, CHAIN_ID) for operation in kept))
        window = self.settings.reading.reorg_window
        self.follower = ReadingFollower(
            self.node,
            "gateway",
            durable,
            HeadTracker(),
            window,
            wall,
            self.events.append,
            self.wake,
            journal=self.journal,
        )
        self.profile = Reverts()

    def manager(self, name: str = "gateway", traces: Any = None, **limits: Any) -> TxManager:
        ports = Ports(_nobody, offload_inline, wall, self.random)
        return TxManager(
            endpoint=TxEndpoint(self.node, self.follower, name, traces, **limits),
            journal=self.journal,
            wallet=self.wallet,
            profile=self.profile,  # type: ignore[arg-type]  # as much of it as a transaction manager needs
            wake=self.wake,
            settings=self.settings,
            ports=ports,
            on_event=self.events.append,
        )

    def request(self, rid: int, *, on_contract: bool = True, block: int = 0) -> None:
        """Let a request stand in the contract, as if it had always been there, and answered in the journal."""
        if on_contract:
            self.chain.evm.set_up(CONTRACT, lambda frame: frame.write(digest_of(rid), "request", rid))
        found = self.chain.block(block)
        assert found is not None, "a block that is there"
        self.journal.add(rid, block=block, hash_=found.hash)

    def answered_on_chain(self, rid: int) -> bool:
        return bool(self.chain.evm.state.get((CONTRACT, "answered", rid), False))

    @property
    def nonce(self) -> int:
        """The sender's nonce at the head."""
        return self.chain.evm.account(KEY.address).nonce

    def arrived(self) -> list[int]:
        """The nonces of all replies that came to the node and were not refused at once, in their order."""
        return [decode_transaction(raw).transaction.nonce for raw in self.node.arrived]

    def sent(self) -> list[int]:
        """The nonces of all replies that the node took, in the order of its answers."""
        return [decode_transaction(raw).transaction.nonce for raw in self.node.accepted]

    def ours(self) -> list[Mined]:
        """Every transaction of the sender in the canonical chain."""
        blocks = [self.chain.block(number) for number in range(self.chain.head.number + 1)]
        return [m for block in blocks if block for m in block.mined if m.transaction.sender == KEY.address]

    def foreign(self, nonce: int | None = None, max_fee: int = 10_000) -> None:
        """Let another process send something with our key."""
        free = self.chain.intake.pending_nonce(KEY.address) if nonce is None else nonce
        other = Transaction(CHAIN_ID, free, max_fee, max_fee, 30_000, ELSEWHERE, 0, b"")
        with suppress(NodeError):
            self.chain.intake.submit(sign_transaction(other, KEY)[0])

    def reply_of_another(self, rid: int) -> tuple[bytes, bytes, int]:
        """Return a reply's bytes, hash and nonce as another process with our key would sign it now."""
        free = self.chain.intake.pending_nonce(KEY.address)
        reply = Transaction(CHAIN_ID, free, 10_000, 10_000, 1_000_000, CONTRACT, 0, calldata(rid, 0))
        return *sign_transaction(reply, KEY), free

    def sign_behind(self, rid: int) -> None:
        """Let a reply be signed, and not sent, by somebody of whom the transaction manager does not know."""
        self.request(rid)
        raw, reply_hash, nonce = self.reply_of_another(rid)
        self.journal.change(rid, state=State.SIGNED, nonce=nonce, raw=raw, reply_hash=reply_hash)

    def said(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def running(world: World, **changes: Any) -> AsyncIterator[TxManager]:
    """Run chain and transaction manager while the block lasts."""
    manager = world.manager(**changes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.chain.run)
        nursery.start_soon(run_txmanager, manager)
        yield manager
        nursery.cancel_scope.cancel()


def all_in(world: World, state: State) -> bool:
    return {*world.journal.states()} <= {state}


def set_broken(world: World, broken: bool) -> None:
    """Let the contract refuse each reply, or take it again."""
    world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(broken, "broken"))


def lose_broadcasts(calls: Sequence[Call]) -> Fault:
    return Fault(lost="question" if calls[0].method == "eth_sendRawTransaction" else "")


async def signed_for_another_branch(world: World) -> Branch:
    """Let the reply go with its branch, which is returned, and be signed under another nonce; the account cannot pay for that."""
    await until(lambda: all_in(world, State.INCLUDED))
    branch = world.chain.reorg(5, drop=lambda one: one.sender == KEY.address)
    world.foreign()
    world.chain.mine()
    world.chain.evm.set_balance(KEY.address, 0)
    await until(lambda: bool(world.said(AlertRaised)))
    return branch


async def with_a_hole(pool: PoolKind, *, has: int | None = None) -> World:
    """Rows at nonces 1 and 2, nothing at 0: what a reorganisation of another process's transaction leaves behind.

    The contract ``has`` the reply to one of them by other bytes.
    """
    other, world = World(pool=pool), World(pool=pool)
    other.foreign()
    other.chain.mine()
    for rid in (1, 2):
        other.request(rid)
        world.request(rid)
    other.node.fault = lose_broadcasts
    async with running(other):
        await until(lambda: all_in(other, State.SIGNED))
    for rid, row in other.journal.rows.items():
        reply = row.reply
        world.journal.change(rid, state=row.state, nonce=reply.nonce, raw=reply.raw, reply_hash=reply.hash)
    if has is not None:
        world.chain.evm.set_up(CONTRACT, lambda frame: frame.write(True, "answered", has))
    return world


async def until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait in virtual time; fail when it takes too long."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.2)


async def _nobody(host: str, port: int, *, tls: bool = False) -> Any:
    raise OSError("nobody is dialled here")

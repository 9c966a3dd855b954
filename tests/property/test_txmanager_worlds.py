"""Whole transaction managers against chains that reorganise, nodes that lag and lose, processes that die and share their key.

Laws: every live request is answered on chain exactly once, its row ends replied, nothing stays signed; and no second transaction with
another nonce goes out for a request while the first may still be included.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
import hypothesis
import trio
from hypothesis import strategies as st

from kmsconn.chain.port import Call
from kmsconn.emulator.blocks import Branch, EmulatedTransaction
from kmsconn.emulator.execution import Frame
from kmsconn.emulator.pool import PoolKind
from kmsconn.ethereum.transactions import decode_transaction
from kmsconn.model.life import State
from kmsconn.replies.manager import run_txmanager
from tests.sampling import examples
from tests.unit.replies.world import CONTRACT, HEALTHY, Fault, World, digest_of

FAULTY = 30.0  # seconds of trouble
HEALED = 600.0  # seconds in which everything must come right
BLOCK_TIME = 0.25
DEEPEST = 10  # blocks that a reorganisation takes: fewer than the reorg window has
BEYOND_FINALITY, OFTEN = 40, 0.3  # likewise in one story of ten, and how often there

Trouble = Literal[
    "lost",
    "lag",
    "trail",
    "hang",
    "kill",
    "foreign",
    "reorg",
    "drop",
    "reassign",
    "restore",
    "slow journal",
    "fees",
    "unordered",
]
TROUBLES: tuple[Trouble, ...] = (
    "lost", "lag", "trail", "hang", "kill", "foreign", "reorg", "drop", "reassign", "restore", "slow journal", "fees", "unordered",
)  # fmt: skip


@attrs.frozen
class Story:
    """What one example lives through."""

    seed: int
    pool: PoolKind
    requests: int
    troubles: frozenset[Trouble]
    notifies: bool


stories = st.builds(
    Story,
    seed=st.integers(0, 2**32),
    pool=st.sampled_from(["arbitrum", "arbitrum at once", "geth"]),
    requests=st.integers(1, 30),
    troubles=st.frozensets(st.sampled_from(TROUBLES)),
    notifies=st.booleans(),
)


class Life:
    """A world that lives through a story."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.draw = random.Random(story.seed)
        self.world = World(pool=story.pool, block_time=BLOCK_TIME)
        self.world.contract.emits = story.seed // 10 % 2 == 1
        self.world.random = self.draw.random
        self.world.node.fault = self.fault
        self.world.node.on_accepted = self.check_not_doubled
        self.world.node.in_order = "unordered" not in story.troubles
        self.world.journal.delay = self.delay
        self.healing = False
        self.sent: dict[bytes, dict[int, bytes]] = {}
        self.doubled: list[str] = []
        self.late: list[str] = []
        self.next_rid = 0
        self.is_deep = story.seed % 10 == 0
        self.variants: dict[int, int] = {}
        self.branch: Branch | None = None

    def has(self, trouble: Trouble, chance: float = 1.0) -> bool:
        return not self.healing and trouble in self.story.troubles and self.draw.random() < chance

    def fault(self, calls: Sequence[Call]) -> Fault:
        if self.has("lost", 0.1):
            return Fault(lost=self.draw.choice(["question", "answer"]))
        if self.has("hang", 0.01):
            return Fault(hang=self.draw.choice([0.5, 3.0, 60.0]))
        if self.has("lag", 0.4):
            return Fault(lag=self.draw.randint(1, 12), latency=self.draw.choice([0.001, 0.2]))
        if self.has("trail", 0.3):
            return Fault(trail=self.draw.randint(1, 3), latency=self.draw.choice([0.001, 0.1]))
        if self.branch is not None and self.has("lag", 0.2):
            self.world.node.branch = self.branch
            return Fault(stale_fork=True)
        return attrs.evolve(HEALTHY, latency=self.draw.choice([0.001, 0.005, 0.1]))

    async def delay(self) -> None:
        slow = self.has("slow journal", 0.1)
        await trio.sleep(self.draw.choice([0.2, 1.0]) if slow else 0.0005)

    def check_not_doubled(self, raw: bytes) -> None:
        """Hold every accepted send against what went out before it."""
        transaction = decode_transaction(raw).transaction
        if transaction.to != CONTRACT:
            return
        earlier = self.sent.setdefault(transaction.data, {})
        open_ones = [
            n for n, old in earlier.items() if n != transaction.nonce and self.may_be_included(n, old)
        ]
        included = [
            mined
            for old in earlier.values()
            if (mined := self.world.chain.history.find(decode_transaction(old).hash)) and mined.outcome.status
        ]
        if open_ones:
            self.doubled.append(f"nonce {transaction.nonce} while {open_ones} may be included")
        if included:
            self.late.append(
                f"nonce {transaction.nonce} after {[m.transaction.nonce for m in included]} included"
            )
        earlier[transaction.nonce] = raw

    def may_be_included(self, nonce: int, raw: bytes) -> bool:
        """Say whether bytes of an open nonce wait anywhere; Arbitrum keeps none for later, geth gives them back after a reorganisation."""
        waits = self.world.chain.intake.pool.find(decode_transaction(raw).hash) is not None
        return nonce >= self.world.nonce and (waits or self.story.pool == "geth")

    # --- what happens

    async def arrivals(self) -> None:
        for _ in range(self.story.requests):
            await trio.sleep(self.draw.choice([0.0, 0.0, 0.1, 1.0, 3.0]))
            self.next_rid += 1
            self.arrive(self.next_rid, self.next_rid, 0)

    def arrive(self, rid: int, identifier: int, variant: int) -> None:
        self.variants[identifier] = variant
        digest = digest_of(identifier, variant)

        def action(frame: Frame) -> None:
            frame.write(digest, "request", identifier)

        self.world.chain.actors.act(CONTRACT, action)
        self.world.journal.add(
            rid, identifier=identifier, variant=variant, block=self.world.chain.head.number + 1
        )
        self.world.journal.change(rid, on_chain=False)
        self.notify()

    def notify(self) -> None:
        if self.story.notifies or self.healing:
            self.world.wake.notify()

    async def reader(self) -> None:
        """Keep ``on_chain`` as the head has it."""
        while True:
            state = self.world.chain.evm.state
            for rid, row in list(self.world.journal.rows.items()):
                there = state.get((CONTRACT, "request", row.id)) == row.event.digest
                if there != row.on_chain:
                    self.world.journal.change(rid, on_chain=there)
            self.notify()
            await trio.sleep(0.4)

    async def upheavals(self) -> None:
        while True:
            await trio.sleep(self.draw.uniform(0.3, 3.0))
            if self.has("foreign", 0.5):
                self.world.foreign(max_fee=self.draw.choice([150, 400, 10_000]))
            if self.has("fees", 0.3):
                self.world.chain.base_fee = self.draw.choice([100, 100, 150, 300, 1000])
            if self.has("reorg", 0.4) and self.world.chain.head.number > DEEPEST:
                self.reorganise()
            elif self.branch is not None and self.has("restore", 0.5):
                self.put_back()

    def reorganise(self) -> None:
        dropped: list[EmulatedTransaction] = []

        def drop(transaction: EmulatedTransaction) -> bool:
            gone = self.has("drop", 0.3)
            if gone:
                dropped.append(transaction)
            return gone

        depth = self.draw.randint(1, DEEPEST)
        if self.is_deep and self.world.chain.head.number > BEYOND_FINALITY and self.draw.random() < OFTEN:
            depth = BEYOND_FINALITY
        self.branch = self.world.chain.reorg(depth, drop=drop)
        if self.has("reassign", 0.5):
            for identifier in self.missing():
                self.next_rid += 1
                self.arrive(1000 + self.next_rid, identifier, self.variants[identifier] + 1)

    def missing(self) -> list[int]:
        state = self.world.chain.evm.state
        waiting = {row.id for row in self.world.journal.rows.values()}
        return [i for i in sorted(waiting) if state.get((CONTRACT, "request", i)) is None][:2]

    def put_back(self) -> None:
        assert self.branch is not None
        if self.world.chain.head.number - self.branch.root > 1.5 * DEEPEST:
            self.branch = None
            return
        try:
            self.branch = self.world.chain.restore(self.branch)
        except ValueError:
            self.branch = None

    async def lives(self) -> None:
        """Run the transaction manager; kill and restart it."""
        while True:
            span = self.draw.choice([0.05, 0.3, 2.0, 8.0]) if self.has("kill") else FAULTY + HEALED
            with trio.move_on_after(span):
                await run_txmanager(self.world.manager(window=self.draw.choice([4, 512])))

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            tasks: list[Callable[[], Any]] = [
                self.world.chain.run,
                self.arrivals,
                self.reader,
                self.upheavals,
                self.lives,
            ]
            for task in tasks:
                nursery.start_soon(task)
            await trio.sleep(FAULTY)
            self.healing = True
            self.world.chain.base_fee = 100
            with trio.move_on_after(HEALED):
                while not self.all_right():
                    await trio.sleep(0.5)
            nursery.cancel_scope.cancel()

    # --- laws

    def live(self) -> list[int]:
        state = self.world.chain.evm.state
        rows = self.world.journal.rows.values()
        return [row.rid for row in rows if state.get((CONTRACT, "request", row.id)) == row.event.digest]

    def wrong(self) -> list[str]:
        """Return what is not as it should be, in words."""
        live = set(self.live())
        rows = self.world.journal.rows
        faults = [
            f"{r.rid} is {r.state}: {r.progress.reason}"
            for r in rows.values()
            if r.rid in live and r.state is not State.FINALIZED
        ]
        faults += [
            f"{r.rid} is off chain and {r.state}"
            for r in rows.values()
            if r.rid not in live and r.state in {State.SIGNED, State.INCLUDED}
        ]
        return faults + [
            f"{rid} is not answered" for rid in live if not self.world.answered_on_chain(rows[rid].id)
        ]

    def all_right(self) -> bool:
        return self.next_rid >= self.story.requests and not self.wrong()

    def wasted(self) -> list[int]:
        """Return the nonces of replies that met one of ours in the contract."""
        return [m.transaction.nonce for m in self.world.ours() if m.outcome.revert_data == b"answered"]


def live_through(story: Story) -> Life:
    lives: list[Life] = []

    async def main() -> None:
        lives.append(Life(story))
        await lives[0].run()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return lives[0]


CALM_CHAIN = frozenset(TROUBLES) - {"reorg", "drop", "reassign", "restore"}


LIVES = hypothesis.settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    print_blob=True,
)


@LIVES
@hypothesis.given(stories)
def test_nothing_is_lost_and_nothing_doubled_while_the_chain_keeps_its_blocks(story: Story) -> None:
    life = live_through(attrs.evolve(story, troubles=story.troubles & CALM_CHAIN))
    assert life.wrong() == []
    assert life.doubled == []
    assert life.late == []
    assert life.wasted() == []
    assert life.world.journal.conflicts == 0


@LIVES
@hypothesis.given(stories)
def test_nothing_is_lost_and_nothing_doubled_when_the_chain_reorganises(story: Story) -> None:
    """A block that comes back after another reply was signed may make one of them vain: that alone is not ruled out here."""
    life = live_through(attrs.evolve(story, troubles=story.troubles | {"reorg"}))
    assert life.wrong() == []
    assert life.doubled == []
    assert life.world.journal.conflicts == 0

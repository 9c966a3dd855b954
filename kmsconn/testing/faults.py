"""The steps of a plan: what users ask, and every fault of the dependencies by name (docs/testing.md lists them)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Literal

import attrs
import trio

from kmsconn.emulator import bucket_faults, core_faults
from kmsconn.emulator.blocks import Branch, Transaction
from kmsconn.emulator.contracts.acl import Acl
from kmsconn.emulator.contracts.decryption import DecryptionContract
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.dependencies import address_for, key_for
from kmsconn.emulator.execution import Emitted, Frame
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.node_error import NodeError
from kmsconn.emulator.node_faults import NodeFault as NodeFaultName
from kmsconn.emulator.node_standing import NodeStanding
from kmsconn.emulator.traffic import APP
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.transactions import Eip1559Transaction, sign_transaction
from kmsconn.protocols.fhevm_014.profile import EVENTS
from kmsconn.testing.ground_truth import name_of, requests_of
from kmsconn.testing.world import World
from kmsconn.transport.grpc.status import Status

ChainName = Literal["gateway", "ethereum", "host"]

TRANSIENT = (
    Status.UNAVAILABLE,
    Status.DEADLINE_EXCEEDED,
    Status.RESOURCE_EXHAUSTED,
    Status.UNKNOWN,
    Status.CANCELLED,
    Status.NOT_FOUND,
)
CORE_FAULTS = {
    fault.name: fault
    for fault in (
        core_faults.CUT,
        core_faults.CUT_AFTER,
        core_faults.GO_AWAY,
        core_faults.RESTART,
        core_faults.HANG,
        *(core_faults.status(code) for code in TRANSIENT),
        *(core_faults.status_after(code) for code in TRANSIENT),
    )
}
BUCKET_FAULTS = {
    fault.name: fault
    for fault in (
        bucket_faults.FORBIDDEN,
        bucket_faults.MISSING,
        bucket_faults.INTERNAL,
        bucket_faults.SLOW_DOWN,
        bucket_faults.WRONG_BYTES,
        bucket_faults.SHORTER,
        bucket_faults.LONGER,
        bucket_faults.EMPTY,
        bucket_faults.TRUNCATED,
        bucket_faults.HANG_UP,
        bucket_faults.stall(10),
        bucket_faults.oversized(1 << 30),
    )
}


@attrs.frozen
class Ask:
    """Users request ``count`` decryptions of a form (``any``: drawn); without ``granted`` the host chain denies them."""

    at: float
    form: str = "any"
    count: int = 1
    granted: bool = True

    async def play(self, world: World) -> None:
        """Queue them for the next block."""
        await trio.lowlevel.checkpoint()
        world.traffic.granted = self.granted
        for _ in range(self.count):
            (world.traffic.any if self.form == "any" else world.traffic.forms[self.form])()


@attrs.frozen
class Wait:
    """Nothing: the dependencies are not healed before this moment."""

    at: float

    async def play(self, world: World) -> None:
        """Pass."""
        del world
        await trio.lowlevel.checkpoint()


@attrs.frozen
class Grant:
    """The host chain of fhevm-0.14 gives every right that it denied to requests so far."""

    at: float

    async def play(self, world: World) -> None:
        """Give them."""
        await trio.lowlevel.checkpoint()
        dependencies = world.dependencies
        assert isinstance(dependencies, FhevmDependencies), "no other generation has a host chain"
        users = [APP, address_for("wallet"), key_for("user").address, key_for("owner").address]
        for log in requests_of(dependencies):
            content = EVENTS.decode(log)
            for material in () if content is None else content.references:
                dependencies.host.evm.set_up(
                    dependencies.acl.address, partial(_grant, dependencies.acl, material.handle, users)
                )


def _grant(acl: Acl, handle: bytes, users: Sequence[Address], frame: Frame) -> None:
    acl.allow_for_decryption(frame, handle)
    for user in users:
        acl.allow(frame, handle, user)


@attrs.frozen
class Outage:
    """A dependency cannot be used for ``seconds``: refuses, is unreachable, accepts and says nothing, or loses what is sent."""

    at: float
    dependency: str
    how: Literal["refuse", "unreachable", "mute", "lost"]
    seconds: float

    async def play(self, world: World) -> None:
        """Turn the line off, break what is open unless bytes are just lost, and turn it on again."""
        if self.dependency not in world.dependencies.places:  # a shard that this world does not have
            await trio.lowlevel.checkpoint()
            return
        line = world.network.line(*world.dependencies.places[self.dependency])
        if self.how == "lost":
            line.there.lost = line.back.lost = True
        else:
            setattr(line, self.how, True)
            line.cut()
        await trio.sleep(self.seconds)
        if self.how == "lost":
            line.there.lost = line.back.lost = False
            line.cut()
        else:
            setattr(line, self.how, False)


@attrs.frozen
class NodeTrouble:
    """A node of a chain's cluster does something wrong at its next ``times`` occasions."""

    at: float
    chain: ChainName
    fault: str
    node: int = 0
    times: int = 1

    async def play(self, world: World) -> None:
        """Script it."""
        await trio.lowlevel.checkpoint()
        nodes = world.dependencies.clusters[self.chain].nodes
        nodes[self.node % len(nodes)].faults.script(NodeFaultName(self.fault), self.times)


@attrs.frozen
class MethodOutage:
    """Every node of a chain refuses one method for ``seconds``, and answers all others."""

    at: float
    chain: ChainName
    method: str
    seconds: float

    async def play(self, world: World) -> None:
        """Refuse it, and end that."""
        nodes = world.dependencies.clusters[self.chain].nodes
        for node in nodes:
            node.limits.unsupported.add(self.method)
        await trio.sleep(self.seconds)
        for node in nodes:
            node.limits.unsupported.discard(self.method)


@attrs.frozen
class Lag:
    """A node stays ``blocks`` behind for ``seconds``."""

    at: float
    chain: ChainName
    blocks: int
    seconds: float
    node: int = 0

    async def play(self, world: World) -> None:
        """Hold it back, then let it catch up."""
        nodes = world.dependencies.clusters[self.chain].nodes
        node = nodes[self.node % len(nodes)]
        world.invariants.note_shown()
        node.lag = self.blocks
        await trio.sleep(self.seconds)
        node.lag = 0


@attrs.frozen
class Upgrade:
    """The contract tells of each request twice, as from 0.15 on; or ``only`` in the later form, which names handles only."""

    at: float
    only: bool = False

    async def play(self, world: World) -> None:
        """Let it be so from now on, for blocks that a reorganisation makes anew too."""
        await trio.lowlevel.checkpoint()
        decryption = world.dependencies.decryption
        if isinstance(decryption, DecryptionContract):  # the other generations have no such contract
            world.dependencies.gateway.evm.set_up(
                decryption.address, partial(decryption.emit_later_events, only=self.only)
            )


@attrs.frozen
class Reorg:
    """The gateway's last blocks are replaced, however many; all but the first of the chain at most.

    ``moved``: everything is included again. ``swapped``: in another order, so that ids name other content.
    ``vanished``: requests of the replaced blocks are gone for ever, and replies too. What is included again stands in the ``last``
    of the new blocks or ``there`` where it stood, and the new branch is ``shorter`` by so many. ``back`` seconds later, if given, the old
    branch returns (A → B → A). One node stays on the old branch for ``stale`` seconds.
    """

    at: float
    depth: int
    how: Literal["moved", "swapped", "vanished"]
    back: float | None = None
    stale: float = 0.0
    place: Literal["last", "there"] = "last"
    shorter: int = 0

    async def play(self, world: World) -> None:
        """Replace the blocks, and perhaps put them back."""
        chain = world.dependencies.gateway
        depth = min(self.depth, chain.head.number - 1)
        if depth < 1:
            await trio.lowlevel.checkpoint()
            return
        before = _contents(world)
        replaced = [chain.block(chain.head.number - up) for up in reversed(range(depth))]
        sizes = [len(block.mined) for block in replaced if block is not None]
        world.invariants.note_shown()
        branch = chain.reorg(
            depth,
            drop=_always if self.how == "vanished" else _never,
            arrange=partial(
                arrange,
                swapped=world.dependencies.decryption.address if self.how == "swapped" else None,
                sizes=sizes if self.place == "there" else [0] * depth,
            ),
            shorter=min(self.shorter, depth),
        )
        world.invariants.reorganised(branch)
        after = _contents(world)
        changed = any(after.get(name) != content for name, content in before.items())
        world.ids_reused = world.ids_reused or changed or self.back is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stay_behind, world, branch)
            if self.back is not None:
                await trio.sleep(self.back)
                _put_back(world, branch)

    async def _stay_behind(self, world: World, branch: Branch) -> None:
        node = world.dependencies.clusters["gateway"].nodes[-1]
        if self.stale:
            _follow(world, node, branch)
            await trio.sleep(self.stale)
            _follow(world, node, None)
        await trio.lowlevel.checkpoint()


def _follow(world: World, node: NodeStanding, branch: Branch | None) -> None:
    """Let a node follow a branch, None: the chain; what it followed before is shown no more."""
    world.invariants.note_shown()
    node.fork = branch


def _contents(world: World) -> dict[int, bytes]:
    """Return what is asked on chain, by its name: a request that is refused in its new block leaves its id to another."""
    generation_events = world.dependencies.generation_events
    return {
        name_of(generation_events, log): generation_events.content_digest(log)
        for log in requests_of(world.dependencies)
    }


def _put_back(world: World, branch: Branch) -> None:
    chain = world.dependencies.gateway
    root = chain.block(branch.root)
    if root is not None and root.hash == branch.blocks[0].parent and chain.head.number > branch.root:
        world.invariants.note_shown()
        world.invariants.reorganised(chain.restore(branch))


def _always(transaction: Transaction) -> bool:
    del transaction
    return True


def _never(transaction: Transaction) -> bool:
    del transaction
    return False


def arrange(
    transactions: Sequence[Transaction], blocks: int, *, swapped: Address | None, sizes: Sequence[int]
) -> list[Sequence[Transaction]]:
    """Dispatch transactions to the new blocks: so many to each, and what is left to the last one."""
    order = _swapped(transactions, swapped) if swapped else list(transactions)
    edges = [*itertools.accumulate(sizes[: blocks - 1], initial=0), len(order)]
    return [order[first:end] for first, end in itertools.pairwise(edges)]


def _swapped(transactions: Sequence[Transaction], contract: Address) -> list[Transaction]:
    """Put the users' calls of a contract in the opposite order; what they rest on, such as committed ciphertexts, stays where it is."""
    calls = [one for one in transactions if one.to == contract and one.envelope is None and one.data]
    opposite = {one.hash: other for one, other in zip(calls, reversed(calls), strict=True)}
    return [opposite.get(one.hash, one) for one in transactions]


@attrs.frozen
class ClockStep:
    """The wall clock jumps by ``seconds``; neither chain time nor Trio's clock does."""

    at: float
    seconds: float

    async def play(self, world: World) -> None:
        """Step it."""
        await trio.lowlevel.checkpoint()
        world.wall_step += self.seconds


@attrs.frozen
class Foreign:
    """Another process sends a transaction of our account, on the nonce that is next."""

    at: float

    async def play(self, world: World) -> None:
        """Sign and submit it; a node may refuse it."""
        await trio.lowlevel.checkpoint()
        chain, key = world.dependencies.gateway, world.dependencies.sender
        transaction = Eip1559Transaction(
            chain_id=chain.chain_id,
            nonce=chain.intake.pending_nonce(key.address),
            max_priority_fee=1,
            max_fee=10**10,
            gas=100_000,
            to=key.address,
            value=0,
            data=b"",
        )
        raw, _ = sign_transaction(transaction, key)
        with suppress(NodeError):
            chain.intake.submit(raw)


@attrs.frozen
class Kill:
    """The connector dies as under ``kill -9`` and is started again ``down`` seconds later, perhaps without its journal."""

    at: float
    down: float = 1.0
    lose_journal: bool = False

    async def play(self, world: World) -> None:
        """Kill and start."""
        await world.kill(self.down, lose_journal=self.lose_journal)


@attrs.frozen
class Drain:
    """The connector is asked to end well, as by SIGTERM, and is started again ``down`` seconds after its end."""

    at: float
    down: float = 1.0

    async def play(self, world: World) -> None:
        """Drain and start."""
        await world.drain(self.down)


@attrs.frozen
class KillAtWork:
    """The connector dies right before or right after its journal's n-th piece of work from now on, and is started again."""

    at: float
    nth: int
    when: Literal["before", "after"]

    async def play(self, world: World) -> None:
        """Arm it in the living process."""
        await trio.lowlevel.checkpoint()
        target = world.life.works + self.nth
        if self.when == "before":
            world.life.kill_before = target
        else:
            world.life.kill_after = target


@attrs.frozen
class CoreTrouble:
    """The Core does something wrong at its next ``times`` calls of a method."""

    at: float
    method: str
    fault: str
    times: int = 1
    shard: int = 0

    async def play(self, world: World) -> None:
        """Script it."""
        await trio.lowlevel.checkpoint()
        cores = world.dependencies.cores
        cores[self.shard % len(cores)].script(self.method, *[CORE_FAULTS[self.fault]] * self.times)


@attrs.frozen
class CoreRestart:
    """The Core forgets every request."""

    at: float

    async def play(self, world: World) -> None:
        """Restart every shard."""
        await trio.lowlevel.checkpoint()
        for core in world.dependencies.cores:
            core.core.restart()


@attrs.frozen
class CoreUpgrade:
    """Another Core starts in place of the old one: one whose calls ``wait`` for results (annex C), or one without such calls."""

    at: float
    wait: bool = True

    async def play(self, world: World) -> None:
        """Restart every shard as another version, and break its connections."""
        await trio.lowlevel.checkpoint()
        for index, core in enumerate(world.dependencies.cores):
            if isinstance(core.core, EmulatedCore):  # the first generation never had them
                core.core.waits_at_once = self.wait
            core.core.restart()
            world.network.line(*world.dependencies.places[f"core{index}"]).cut()


@attrs.frozen
class BucketTrouble:
    """A bucket answers its next ``times`` requests wrongly."""

    at: float
    fault: str
    times: int = 1
    bucket: int = 0

    async def play(self, world: World) -> None:
        """Script it."""
        await trio.lowlevel.checkpoint()
        buckets = world.dependencies.buckets
        buckets[self.bucket % len(buckets)].script(*[BUCKET_FAULTS[self.fault]] * self.times)


@attrs.frozen
class Stall:
    """The gateway makes no block for ``seconds``, then ``burst`` at once."""

    at: float
    seconds: float
    burst: int = 0

    async def play(self, world: World) -> None:
        """Stop it and let it go on."""
        chain = world.dependencies.gateway
        chain.stalled = True
        await trio.sleep(self.seconds)
        chain.stalled = False
        chain.mine_many(self.burst)


@attrs.frozen
class StrangeLog:
    """The contract for decryptions logs something under a known topic that nobody can read."""

    at: float

    async def play(self, world: World) -> None:
        """Queue it for the next block."""
        await trio.lowlevel.checkpoint()
        dependencies = world.dependencies
        topic0 = next(iter(dependencies.generation_events.requests))
        dependencies.gateway.actors.act(dependencies.decryption.address, partial(_log_nonsense, topic0))


def _log_nonsense(topic0: bytes, frame: Frame) -> None:
    frame.logs.append(Emitted(frame.address, (topic0, bytes(32)), b"\xff" * 31))


@attrs.frozen
class Broke:
    """Our account has no funds for ``seconds``."""

    at: float
    seconds: float

    async def play(self, world: World) -> None:
        """Take the balance and give it back."""
        chain, sender = world.dependencies.gateway, world.dependencies.sender.address
        chain.evm.set_balance(sender, 0)
        await trio.sleep(self.seconds)
        chain.evm.set_balance(sender, 10**24)

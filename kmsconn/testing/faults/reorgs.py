"""Reorganisations of the gateway, of any depth and kind."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Literal

import attrs
import trio

from kmsconn.emulator.blocks import Branch, EmulatedTransaction
from kmsconn.emulator.chain import NodeStanding
from kmsconn.ethereum.addresses import Address
from kmsconn.testing.ground_truth import name_of, requests_of
from kmsconn.testing.world import World


@attrs.frozen
class Reorg:
    """The gateway's last blocks are replaced, however many; all but the first of the chain at most.

    ``moved``: everything is included again. ``swapped``: in another order, so that ids name other content.
    ``vanished``: requests of the replaced blocks are gone for ever, and replies too. What is included again stands in the ``last``
    of the new blocks or ``there`` where it stood, and the new branch is ``shorter`` by so many. ``back`` seconds later, if given, the old
    branch returns (A → B → A). One node stays on the old branch for ``stale`` seconds. For ``cached`` seconds every node answers for logs
    of the old branch out of a cache, though its headers are the new ones.
    """

    at: float
    depth: int
    how: Literal["moved", "swapped", "vanished"]
    back: float | None = None
    stale: float = 0.0
    place: Literal["last", "there"] = "last"
    shorter: int = 0
    cached: float = 0.0

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
            nursery.start_soon(self._answer_from_a_cache, world, branch)
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

    async def _answer_from_a_cache(self, world: World, branch: Branch) -> None:
        nodes = world.dependencies.clusters["gateway"].nodes
        if self.cached:
            for node in nodes:
                node.log_fork = branch
            await trio.sleep(self.cached)
            for node in nodes:
                node.log_fork = None
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
    if chain.history.carries(branch) and chain.head.number > branch.root:
        world.invariants.note_shown()
        world.invariants.reorganised(chain.restore(branch))


def _always(transaction: EmulatedTransaction) -> bool:
    del transaction
    return True


def _never(transaction: EmulatedTransaction) -> bool:
    del transaction
    return False


def arrange(
    transactions: Sequence[EmulatedTransaction], blocks: int, *, swapped: Address | None, sizes: Sequence[int]
) -> list[Sequence[EmulatedTransaction]]:
    """Dispatch transactions to the new blocks: so many to each, and what is left to the last one."""
    order = _swapped(transactions, swapped) if swapped else list(transactions)
    edges = [*itertools.accumulate(sizes[: blocks - 1], initial=0), len(order)]
    return [order[first:end] for first, end in itertools.pairwise(edges)]


def _swapped(transactions: Sequence[EmulatedTransaction], contract: Address) -> list[EmulatedTransaction]:
    """Put the users' calls of a contract in the opposite order; what they rest on, such as committed ciphertexts, stays where it is."""
    calls = [one for one in transactions if one.to == contract and one.envelope is None and one.data]
    opposite = {one.hash: other for one, other in zip(calls, reversed(calls), strict=True)}
    return [opposite.get(one.hash, one) for one in transactions]

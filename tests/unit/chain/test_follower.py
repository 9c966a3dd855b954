"""Who is followed: a node that lags is asked nothing, one wild answer has nothing deep read again, a fork is one generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.follower import Durable, Follower, HeadTracker
from kmsconn.chain.fork import LAGGING, Checkpoint, Followed, Rewound
from kmsconn.chain.logs import BlockHead
from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Unreachable
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.events import ChainReorganised, Event, ReplyReturned, RequestsMoved
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.transport.waiting import WakeUp

WINDOW = 20.0  # seconds, and blocks


def hash_of(number: int, fork: int = 0) -> bytes:
    return bytes([fork]) * 28 + number.to_bytes(4)


@attrs.define
class Node:
    """A node with a head; blocks above ``root`` are those of another branch."""

    head: int = 100
    root: int = 1000
    asked: int = 0
    chain_id: int = 1
    says: Any = "answer"

    async def call(self, _method: str, block: str, _full: bool) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        number = self.head if block == "latest" else int(block, 16)
        if number > self.head:
            return None
        return {
            "number": quantity(number),
            "timestamp": quantity(number),
            "hash": to_hex(hash_of(number, number > self.root)),
        }

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        return [await self.call(call.method, *call.params) if call.params else self.says for call in calls]


KEPT = Followed(0, tuple(Checkpoint(number, hash_of(number)) for number in (10, 40, 80, 90, 99, 100)))


RETURNED = tuple(ReplyReturned(rid, Kind.PUBLIC_DECRYPTION, State.ANSWERED, "gone") for rid in (1, 2))


@attrs.define
class Memory:
    """What is durable, without a journal."""

    followed: Followed = KEPT
    rewinds: list[int] = attrs.field(factory=list)
    forgotten: set[int] = attrs.field(factory=set)

    async def load(self) -> Followed:
        await trio.lowlevel.checkpoint()
        return self.followed

    async def doubt(self, since: float | None) -> None:
        await trio.lowlevel.checkpoint()
        self.followed = attrs.evolve(self.followed, doubted_since=since)

    async def forget(self, blocks: Sequence[int]) -> None:
        await trio.lowlevel.checkpoint()
        self.forgotten |= set(blocks)

    async def rewind(self, generation: int, fork: int, head: BlockHead) -> Rewound:
        await trio.lowlevel.checkpoint()
        self.rewinds.append(fork)
        kept = tuple(one for one in self.followed.kept if one.number <= fork)
        assert head.hash is not None
        self.followed = Followed(generation + 1, (*kept, Checkpoint(head.number, head.hash)))
        return Rewound(RETURNED, 1, self.followed)


@attrs.define
class Scene:
    """A follower of one node at a time."""

    node: Node = attrs.field(factory=Node)
    memory: Memory = attrs.field(factory=Memory)
    follower: Follower = attrs.field(init=False)

    events: list[Event] = attrs.field(factory=list)

    @classmethod
    async def begun(cls, *parts: Any) -> Scene:
        scene = cls(*parts)
        await scene.born()
        return scene

    async def born(self) -> None:
        """Begin as a new process does."""
        tracker, of = HeadTracker(), self.memory
        durable = Durable(of.load, of.doubt, of.forget, of.rewind)
        self.follower = Follower(
            self.node, "ethereum", durable, tracker, WINDOW, trio.current_time, self.events.append, WakeUp()
        )
        await self.follower.load()
        for number in range(70, 101):
            tracker.note(number, number)

    async def look(self) -> bool:
        anchor = self.follower.anchor()
        assert anchor.block is not None
        block = await self.node.call("", quantity(anchor.block.number), False)
        return await self.follower.judge(anchor, block and bytes.fromhex(block["hash"][2:]))


async def test_a_node_that_has_the_newest_kept_block_is_the_same(autojump_clock: Any) -> None:
    scene = await Scene.begun()
    assert (await scene.look(), scene.node.asked) == (True, 1)


async def test_node_that_lags_is_asked_nothing_until_it_has_lagged_for_too_long(autojump_clock: Any) -> None:
    scene = await Scene.begun(Node(head=95))
    assert (await scene.look(), scene.node.asked) == (False, 1)
    await trio.sleep(LAGGING - 1)
    assert (await scene.look(), scene.node.asked) == (False, 2)
    await trio.sleep(1)
    await scene.look()
    assert scene.memory.rewinds == [90]


async def test_a_fork_within_the_window_is_believed_at_once(autojump_clock: Any) -> None:
    scene = await Scene.begun(Node(root=95))
    assert not await scene.look()
    assert (scene.memory.rewinds, scene.follower.generation) == ([90], 1)
    assert await scene.look()


@pytest.mark.parametrize("reborn", [False, True], ids=["one life", "each look a life"])
async def test_a_deeper_fork_is_believed_when_a_later_look_says_so_too(
    reborn: bool, autojump_clock: Any
) -> None:
    scene = await Scene.begun(Node(root=50))
    for seconds in (0.0, CONFIRMING - 1, 1.0):
        assert scene.memory.rewinds == []
        await trio.sleep(seconds)
        if reborn:
            await scene.born()
        await scene.look()
    assert scene.memory.rewinds == [40]


async def test_a_look_that_finds_the_chain_as_it_was_has_a_doubt_begin_anew(autojump_clock: Any) -> None:
    scene = await Scene.begun(Node(root=50))
    await scene.look()
    scene.node.root = 1000
    await scene.look()
    scene.node.root = 50
    await trio.sleep(CONFIRMING)
    await scene.look()
    assert scene.memory.rewinds == []


async def test_a_clock_that_was_set_back_does_not_put_a_fork_off_for_hours(autojump_clock: Any) -> None:
    scene = await Scene.begun(Node(root=50), Memory(attrs.evolve(KEPT, doubted_since=5000.0)))
    await scene.look()
    await trio.sleep(CONFIRMING)
    await scene.look()
    assert scene.memory.rewinds == [40]


async def test_a_node_that_stayed_on_the_old_branch_is_not_the_same_after_a_fork(autojump_clock: Any) -> None:
    scene = await Scene.begun(Node(root=50))
    await scene.look()
    await trio.sleep(CONFIRMING)
    await scene.look()
    scene.node.root = 1000
    assert (await scene.look(), scene.memory.rewinds) == (False, [40])


async def test_what_was_asked_in_an_earlier_generation_counts_no_more(autojump_clock: Any) -> None:
    scene = await Scene.begun(Node(root=95))
    anchor = scene.follower.anchor()
    assert anchor.block is not None
    await scene.look()
    assert not await scene.follower.judge(anchor, anchor.block.hash)


async def test_a_batch_of_a_node_on_another_branch_is_no_answer(autojump_clock: Any) -> None:
    scene = await Scene.begun()
    assert await scene.follower.batch([Call("eth_x")]) == [await scene.follower.call("eth_x")] == ["answer"]
    scene.node.says = REFUSAL
    with pytest.raises(RpcError, match="limit exceeded"):
        await scene.follower.call("eth_x")
    scene.node.root = 50
    with pytest.raises(Unreachable, match="another hash than when it was read"):
        await scene.follower.batch([Call("eth_x")])


REFUSAL = RpcError(-32005, "limit exceeded")
OTHER_BLOCK = {"number": "0x64", "timestamp": "0x64", "hash": "0x" + 64 * "1"}


@pytest.mark.parametrize("anchor", [REFUSAL, OTHER_BLOCK], ids=["the anchor", "the search for a fork"])
async def test_a_node_that_refuses_what_the_follower_asks_is_no_answer(
    anchor: Any, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    scene = await Scene.begun()

    async def batch(_node: Node, calls: Sequence[Call]) -> list[Any]:
        return [anchor, "answer"] if len(calls) > 1 else [REFUSAL]

    monkeypatch.setattr(Node, "batch", batch)
    with pytest.raises(Unreachable, match="limit exceeded"):
        await scene.follower.batch([Call("eth_x")])


async def test_heads_are_kept_and_thinned_in_memory_and_on_the_disk(autojump_clock: Any) -> None:
    scene = await Scene.begun()
    follower, noted = scene.follower, {one.number for one in KEPT.kept}
    for number in range(101, 1001):
        await follower.note(Checkpoint(number, hash_of(number)))
        await follower.note(Checkpoint(number - 1, hash_of(number - 1, 1)))
        noted.add(number)
    assert {one.number for one in follower.kept} == noted - scene.memory.forgotten
    assert {one.hash for one in follower.kept} <= {hash_of(number) for number in noted}
    assert len(follower.kept) < 200


async def test_a_fork_is_told_once_and_wakes_who_sends(autojump_clock: Any) -> None:
    scene = await Scene.begun(Node(root=95))
    await scene.look()
    await scene.look()
    returned = [attrs.evolve(one, chain="ethereum") for one in RETURNED]
    assert scene.events == [ChainReorganised(1, 90, 10, 2), *returned, RequestsMoved(1, 0, 1, 0)]
    with trio.fail_after(1):
        await scene.follower.wake_up.wait()

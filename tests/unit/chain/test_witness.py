"""A second opinion: of which node it is, over which connection, and that it is of the chain that is followed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.follower import Durable, Follower, HeadTracker
from kmsconn.chain.fork import Checkpoint
from kmsconn.chain.port import Call, RpcError
from kmsconn.chain.witness import BEHIND_ONE_URL, LAG, WITNESSES, Witness, witnesses
from kmsconn.errors import Unreachable
from kmsconn.ethereum.hexes import to_hex
from kmsconn.transport.waiting import WakeUp
from tests.unit.chain.scripted_node import CHAIN_ID, Node
from tests.unit.chain.test_endpoint import endpoint_of

A, B, C = "http://a/key", "http://b/key", "http://c/key"
HEAD = 100
WHO = Call("who")


def named(name: str) -> Node:
    """Return a node that says who it is, and shows a chain of its own."""
    node = Node()
    node.methods["who"] = lambda: name
    return node


def hash_at(number: int) -> bytes:
    return number.to_bytes(32)


def showing(node: Node, up_to: int = HEAD, *, forked_at: int = HEAD + 1) -> Node:
    """Let a node show the chain up to a block, and other blocks from ``forked_at`` on."""

    def block(number: str, _full: bool) -> dict[str, Any] | None:
        height = int(number, 16)
        found = hash_at(height) if height < forked_at else bytes([0xFF]) * 32
        return {"number": number, "hash": to_hex(found), "timestamp": number} if height <= up_to else None

    node.methods["eth_getBlockByNumber"] = block
    return node


def followed() -> Follower:
    """Return a follower that has every block up to the head, one a second."""
    head = HeadTracker()
    for number in range(HEAD + 1):
        head.note(number, number)
    unused: Any = None
    durable = Durable(unused, unused, unused, unused)
    follower = Follower(
        unused, "gateway", durable, head, 30.0, lambda: 0.0, lambda _: None, WakeUp(), generation=1
    )
    follower.kept = tuple(Checkpoint(number, hash_at(number)) for number in range(HEAD + 1))
    return follower


@asynccontextmanager
async def one_of(
    *urls: str, follower: Follower | None = None, **nodes: Node
) -> AsyncIterator[tuple[Endpoint, tuple[Witness, ...]]]:
    """Open an endpoint that is in use, with its witnesses."""
    async with endpoint_of(*urls, events=None, **nodes) as endpoint:
        await endpoint.call("who")
        yield endpoint, witnesses(CHAIN_ID, "gateway", endpoint.keeper, follower)


async def test_several_urls_are_asked_in_turn_and_the_one_in_use_last() -> None:
    a, b, c = named("a"), named("b"), named("c")
    async with one_of(A, B, C, a=a, b=b, c=c) as (endpoint, several):
        assert endpoint.in_use == "http://a"
        assert [await witness.call("who") for witness in several] == ["b", "c"]


async def test_one_url_has_as_many_witnesses_as_let_chance_find_another_node() -> None:
    async with one_of(A, a=named("a")) as (_, behind_one):
        assert [one.place for one in behind_one] == [*range(BEHIND_ONE_URL)]
    async with one_of(A, B, a=named("a"), b=named("b")) as (_, several):
        assert [one.place for one in several] == [*range(WITNESSES)]
    assert BEHIND_ONE_URL >= 6, "of two nodes one answers all of them less often than once in fifty"


async def test_each_question_has_a_connection_of_its_own_that_ends_with_the_answer() -> None:
    node = named("a")
    async with one_of("ws://a:8546", a=node) as (endpoint, several):
        for witness in several:
            assert await witness.batch([WHO]) == ["a"]
        assert node.dialled == 1 + BEHIND_ONE_URL
        open_ones = [one for one in node.connections if not one.closed]
        assert len(open_ones) == 1
        assert await endpoint.call("who") == "a"
    assert node.dialled == 1 + BEHIND_ONE_URL, "the link in use stays"


async def test_a_node_that_is_not_there_or_is_of_another_chain_is_no_witness() -> None:
    a, b, c = named("a"), named("b"), named("c")
    async with one_of(A, B, C, a=a, b=b, c=c) as (_, several):
        b.up = False
        assert [await witness.call("who") for witness in several] == ["c", "c"]
        c.chain_id = CHAIN_ID + 1
        assert [await witness.call("who") for witness in several] == ["a", "a"]
        a.status = 503
        with pytest.raises(Unreachable, match="no second connection is answered"):
            await several[0].call("who")


async def test_a_witness_says_what_it_does_not_know() -> None:
    async with one_of(A, a=named("a")) as (_, several):
        with pytest.raises(RpcError, match="method not found"):
            await several[0].call("nothing")


async def test_the_answers_are_those_of_the_questions_alone() -> None:
    async with one_of(A, a=showing(named("a")), follower=followed()) as (_, several):
        assert await several[0].batch([WHO, WHO]) == ["a", "a"]


@pytest.mark.parametrize(
    ("up_to", "forked_at", "is_witness"),
    [
        (HEAD - int(LAG), HEAD + 1, True),
        (HEAD - int(LAG) - 1, HEAD + 1, False),
        (HEAD, HEAD - int(LAG) + 1, True),
        (HEAD, HEAD - int(LAG), False),
    ],
    ids=["lags a little", "lags too far", "another newest block", "another branch"],
)
async def test_only_a_node_that_shows_the_chain_that_is_followed_is_heard(
    up_to: int, forked_at: int, is_witness: bool
) -> None:
    """A few seconds of blocks it may be behind, or on another branch: forks of that depth are those of every day."""
    node = showing(named("a"), up_to, forked_at=forked_at)
    async with one_of(A, a=node, follower=followed()) as (_, several):
        if is_witness:
            assert await several[0].batch([WHO]) == ["a"]
            return
        with pytest.raises(Unreachable, match="does not show block 95 as the first one did"):
            await several[0].batch([WHO])


async def test_whoever_waits_for_a_witness_may_go() -> None:
    node = named("a")
    async with one_of(A, a=node) as (endpoint, several):
        node.hang.add("slow")
        with trio.move_on_after(1) as scope:
            await several[0].call("slow")
        assert scope.cancelled_caught
        assert await endpoint.call("who") == "a"


async def test_a_witness_sends_nothing_before_it_is_asked() -> None:
    node = named("a")
    async with one_of(A, a=node) as (_, several):
        dialled = node.dialled
        several[0].send([WHO])
        await trio.sleep(60)
    assert node.dialled == dialled

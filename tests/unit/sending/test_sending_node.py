"""The lane's questions: whatever a node answers, what comes out is a value or Retryable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Retryable, StageTimeout, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.sending.node import PATIENCE, Head, Node

BLOCK = {"number": "0x10", "timestamp": "0x20", "baseFeePerGas": "0x7"}
NONSENSE = [
    None,
    7,
    "text",
    [],
    {},
    {"number": "0x10"},
    {"number": None, "timestamp": "0x1"},
    RpcError(-32000, "no"),
]


@attrs.define
class Says:
    """A chain that answers every batch with these results, or with silence."""

    results: Sequence[Any] = ()
    chain_id: int = 1

    async def call(self, method: str, *params: Any) -> Any:
        raise NotImplementedError

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        if not self.results:
            await trio.sleep_forever()
        return list(self.results)

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        for index, result in enumerate(self.results):
            take(index, result)
        if len(self.results) < len(calls):
            await trio.sleep_forever()


def node(*results: Any) -> Node:
    return Node(Says(results), Address(b"\x11" * 20))


async def test_a_head_is_read_with_the_nonce() -> None:
    assert await node(BLOCK, "0x3").head() == Head(16, 32, 7, 3)


async def test_a_block_without_base_fee_has_none() -> None:
    assert (await node({**BLOCK, "baseFeePerGas": None}, "0x3").head()).base_fee is None


@pytest.mark.parametrize("block", NONSENSE)
async def test_a_block_that_is_none_is_unreachable(block: Any) -> None:
    with pytest.raises(Unreachable):
        await node(block, "0x3").head()


@pytest.mark.parametrize("nonce", NONSENSE)
async def test_a_nonce_that_is_none_is_unreachable(nonce: Any) -> None:
    with pytest.raises(Unreachable):
        await node(BLOCK, nonce).head()


@pytest.mark.parametrize("number", NONSENSE)
async def test_a_look_without_a_head_is_unreachable(number: Any) -> None:
    with pytest.raises(Unreachable):
        await node(number, "0x1").look([Call("eth_gasPrice")])


async def test_a_look_gives_back_what_was_asked_beside_the_head() -> None:
    looked = await node("0x10", "0x1", None).look([Call("eth_gasPrice"), Call("eth_call")])
    assert (looked.head, list(looked.results)) == (16, ["0x1", None])


@attrs.define
class Counting(Says):
    """Answers each batch with a head, one lower from batch to batch, and every call with its own first parameter."""

    sizes: list[int] = attrs.field(factory=list)

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.sizes.append(len(calls) - 1)
        return [hex(100 - len(self.sizes)), *(call.params[0] for call in calls[1:])]


async def test_a_long_look_is_several_batches_in_order_and_its_head_the_lowest_of_theirs() -> None:
    chain = Counting()
    looked = await Node(chain, Address(b"\x11" * 20)).look([Call("eth_call", (n,)) for n in range(250)])
    assert sorted(chain.sizes) == [50, 100, 100]
    assert list(looked.results) == list(range(250))
    assert looked.head == 97


@attrs.define
class Partly(Counting):
    """Counts, and does not answer batches of these numbers."""

    silent: Sequence[int] = ()

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        results = await Counting.batch(self, calls)
        if len(self.sizes) in self.silent:
            raise Unreachable("hung up")
        return results


async def test_a_batch_that_is_not_answered_spoils_no_other() -> None:
    looked = await Node(Partly(silent=[2]), Address(b"\x11" * 20)).look([Call("c", (n,)) for n in range(250)])
    errors = [result for result in looked.results if isinstance(result, RpcError)]
    answered = [result for result in looked.results if not isinstance(result, RpcError)]
    assert len(looked.results) == len(looked.heads) == 250
    assert (len(errors) in {50, 100}, {str(error) for error in errors}) == (True, {"0: hung up"})
    assert answered == sorted(answered)


async def test_a_look_that_nobody_answers_is_the_error_of_one() -> None:
    with pytest.raises(Unreachable, match="hung up"):
        await Node(Partly(silent=[1, 2, 3]), Address(b"\x11" * 20)).look(
            [Call("c", (n,)) for n in range(250)]
        )


async def test_each_answer_has_the_head_of_the_node_that_gave_it() -> None:
    looked = await Node(Counting(), Address(b"\x11" * 20)).look([Call("c", (n,)) for n in range(250)])
    assert {len(set(looked.heads[at : at + 100])) for at in (0, 100, 200)} == {1}
    assert set(looked.heads) == {97, 98, 99}


@pytest.mark.parametrize("nonce", ["0x8000000000000000", "0x" + "f" * 64])
async def test_a_nonce_that_no_chain_has_reached_is_none(nonce: str) -> None:
    with pytest.raises(Unreachable):
        await node(BLOCK, nonce).head()


async def test_a_look_at_nothing_still_asks_for_the_head() -> None:
    chain = Counting()
    assert (await Node(chain, Address(b"\x11" * 20)).look([])).head == 99
    assert chain.sizes == [0]


async def test_a_node_that_says_nothing_is_waited_for_so_long_and_no_longer(autojump_clock: Any) -> None:

    with pytest.raises(StageTimeout) as caught:
        await node().head()
    assert isinstance(caught.value, Retryable)
    assert trio.current_time() == PATIENCE


async def test_what_was_answered_of_several_sends_is_kept_when_the_others_are_not(
    autojump_clock: Any,
) -> None:
    refused = RpcError(-32000, "nonce too low")
    *answered, silent = await node("0xaa", refused).hand_over([b"1", b"2", b"3"])
    assert answered == ["0xaa", refused]
    assert isinstance(silent, StageTimeout)
    assert trio.current_time() == PATIENCE


async def test_sends_that_are_all_answered_wait_for_nothing(autojump_clock: Any) -> None:
    assert await node("0xaa", "0xbb").hand_over([b"1", b"2"]) == ["0xaa", "0xbb"]
    assert trio.current_time() == 0

"""The transaction manager's questions: whatever a node answers, what comes out is a value or Retryable; who fails fails alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.asking import QUESTION_TIMEOUT, ask_many, ask_one_node
from kmsconn.chain.looking import ChainObserver, ChainView
from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Overloaded, StageTimeout, Unreachable
from tests.unit.replies.world import World

BLOCK = {"number": "0x10", "timestamp": "0x20", "baseFeePerGas": "0x7"}
NONSENSE: list[Any] = [
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
        raise Unreachable("not asked alone here")

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        if not self.results:
            await trio.sleep_forever()
        return list(self.results)

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        for index, result in enumerate(self.results):
            take(index, result)
        if len(self.results) < len(calls):
            await trio.sleep_forever()


async def look(*results: Any) -> ChainView:
    rpc, manager = Says([*results, None, None]), World().manager()
    return await ChainObserver(rpc, manager.endpoint.follower, manager.account, 0).look()


async def test_a_head_is_read_with_the_nonce() -> None:
    view = await look(BLOCK, "0x3")
    assert (view.number, view.base_fee, view.nonce) == (16, 7, 3)


async def test_a_block_without_base_fee_has_none() -> None:
    assert (await look({**BLOCK, "baseFeePerGas": None}, "0x3")).base_fee is None


@pytest.mark.parametrize("block", NONSENSE)
async def test_a_block_that_is_none_is_unreachable(block: Any) -> None:
    with pytest.raises(Unreachable):
        await look(block, "0x3")


@pytest.mark.parametrize("nonce", [*NONSENSE, "0x8000000000000000", "0x" + "f" * 64])
async def test_a_nonce_that_is_none_is_unreachable(nonce: Any) -> None:
    with pytest.raises(Unreachable):
        await look(BLOCK, nonce)


@attrs.define
class Asked:
    """Asks, and keeps what came by place."""

    rpc: Any
    answers: dict[int, tuple[Any, int | None]] = attrs.field(factory=dict)

    async def ask(
        self, count: int, *, alone: frozenset[int] = frozenset()
    ) -> dict[int, tuple[Any, int | None]]:
        self.answers = {}
        calls = [Call("c", (n,)) for n in range(count)]
        await ask_many(self.rpc, calls, lambda n, *found: self.answers.__setitem__(n, found), alone=alone)
        return self.answers


@attrs.define
class Batches(Says):
    """Answers each batch with a head, one lower from batch to batch, and every call with its own first parameter.

    ``most``: refuses larger batches; ``deaf``: never answers a batch with this call; ``silent``: hangs up at batches of these numbers.
    """

    most: int = 1000
    deaf: int | None = None
    silent: Sequence[int] = ()
    sizes: list[int] = attrs.field(factory=list)

    async def call(self, method: str, *params: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return "0x7" if method == "eth_blockNumber" else params[0]

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        heard = [place for place, call in enumerate(calls) if call.params != (self.deaf,)]
        for place in heard:
            take(place, await self.call("c", *calls[place].params))
        if len(heard) < len(calls):
            await trio.sleep_forever()

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.sizes.append(len(calls) - 1)
        if len(self.sizes) in self.silent:
            raise Unreachable("hung up")
        if len(calls) > self.most:
            return [RpcError(-32600, "batch too large")] * len(calls)
        if any(call.params == (self.deaf,) for call in calls[1:]):
            await trio.sleep_forever()
        return [hex(1000 - len(self.sizes)), *(call.params[0] for call in calls[1:])]


async def test_many_questions_are_several_batches_and_each_answer_has_the_head_of_its_node() -> None:
    chain = Batches()
    answers = await Asked(chain).ask(250)
    assert sorted(chain.sizes) == [50, 100, 100]
    assert [answers[n][0] for n in range(250)] == list(range(250))
    assert {len({answers[n][1] for n in range(at, min(250, at + 100))}) for at in (0, 100, 200)} == {1}
    assert {head for _, head in answers.values()} == {997, 998, 999}


@pytest.mark.parametrize("chain", [Batches(silent=[1]), Batches(most=21)], ids=["hangs up", "limit"])
async def test_a_batch_that_a_node_does_not_answer_is_asked_one_by_one(chain: Batches) -> None:
    assert await Asked(chain).ask(100) == {n: (n, 7) for n in range(100)}
    assert chain.sizes == [100]


async def test_a_question_that_nobody_answers_fails_alone() -> None:
    answers = await Asked(Batches(deaf=7)).ask(100)
    assert [answers[n][0] for n in range(100) if n != 7] == [n for n in range(100) if n != 7]
    assert isinstance(answers[7][0], StageTimeout)
    assert trio.current_time() == 2 * QUESTION_TIMEOUT


async def test_a_question_asked_alone_spoils_no_batch() -> None:
    asked = Asked(Batches(deaf=7))
    with trio.move_on_after(QUESTION_TIMEOUT / 2):
        await asked.ask(100, alone=frozenset({7}))
    assert sorted(asked.answers) == [n for n in range(100) if n != 7]


async def test_a_node_that_takes_no_batches_is_asked_one_by_one() -> None:
    answers = await Asked(Batches(most=0)).ask(3)
    assert answers == {n: (n, 7) for n in range(3)}


async def test_a_look_at_a_node_that_takes_no_batches_asks_one_by_one() -> None:
    assert await ask_one_node(Batches(most=0), [Call("c", (1,)), Call("c", (2,))]) == [1, 2]


async def test_what_nobody_answers_is_an_error_for_each() -> None:
    answers = await Asked(Says([RpcError(-32000, "no")])).ask(2)
    assert all(isinstance(answer, Unreachable) and head is None for answer, head in answers.values())


async def test_a_node_that_asks_for_less_is_not_asked_more() -> None:
    @attrs.define
    class Busy(Batches):
        async def batch(self, calls: Sequence[Call]) -> list[Any]:
            await trio.lowlevel.checkpoint()
            self.sizes.append(len(calls) - 1)
            raise Overloaded("rate limit")

    chain = Busy()
    answers = await Asked(chain).ask(100)
    assert {type(answer) for answer, _ in answers.values()} == {Overloaded}
    assert chain.sizes == [100]

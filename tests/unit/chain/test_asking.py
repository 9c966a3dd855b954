"""A profile's questions: one batch, answers in order, and whatever a node says is an answer or Unreachable."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.chain.asking import MAX_BATCH, ask, ask_all, run_query_plan
from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import NotYet, Overloaded, Rejected, Undecodable, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.queries import ContractQuery, ContractViews, Instead, QueryPlan, view_call
from tests.unit.chain.scripted_node import FakeRpc

CONTRACT = Address(b"\xc0" * 20)


def number(data: bytes) -> int:
    if not data:
        raise Undecodable("no data")
    return int.from_bytes(data)


def view(**options: Any) -> ContractQuery[int]:
    return attrs.evolve(view_call(5, CONTRACT, b"\x01\x02", number), **options)


async def test_a_view_is_a_call_at_the_latest_block_with_its_gas_and_a_slot_is_read_from_storage() -> None:
    node = FakeRpc(["0x07", "0x" + "00" * 31 + "01"])
    assert await ask(node, view_call(5, CONTRACT, b"\x01\x02", number, gas=100)) == 7
    assert await ask(node, ContractViews(5, CONTRACT).slot(9, read=number)) == 1
    message = {"to": "0x" + "c0" * 20, "data": "0x0102", "gas": "0x64"}
    slot = ("0x" + "c0" * 20, f"0x{9:064x}", "latest")
    assert node.batches[0] == [Call("eth_call", (message, "latest"))]
    assert node.batches[1][0].params == slot


async def test_many_questions_are_one_batch_and_their_answers_in_order() -> None:
    node = FakeRpc(["0x01", "0x02", "0x03"])
    assert await ask_all(node, [view(), view(), view()]) == [1, 2, 3]
    assert [len(batch) for batch in node.batches] == [3]


@pytest.mark.parametrize(
    "result", [None, 7, True, [], {"data": "0x01"}, "", "07", "0x0", "0xzz", "0x", "<html>"], ids=repr
)
async def test_a_result_of_no_sense_is_unreachable_and_names_the_chain(result: Any) -> None:
    with pytest.raises(Unreachable, match="chain 5"):
        await ask(FakeRpc([result]), view())


async def test_an_error_may_be_an_answer_where_the_question_takes_it() -> None:
    """A contract that reverts has said something; another text is that of a node."""
    question = view(refused=lambda message, data: len(data or b""))
    assert await ask(FakeRpc([RpcError(3, "execution reverted", b"abc")]), question) == 3
    no = RpcError(-32000, "header not found")
    for other in (view(), view(refused=lambda message, data: None)):
        with pytest.raises(Unreachable, match="-32000: header not found"):
            await ask(FakeRpc([no]), other)


async def test_one_bad_answer_spoils_the_batch_and_no_questions_ask_nobody() -> None:
    with pytest.raises(Unreachable):
        await ask_all(FakeRpc(["0x01", None]), [view(), view()])
    node = FakeRpc([])
    assert (await ask_all(node, []), node.batches) == ([], [])


@pytest.mark.parametrize("error", [Rejected("never"), NotYet("not now")])
async def test_what_a_question_makes_of_its_answer_comes_out(error: Exception) -> None:
    def read(data: bytes) -> int:
        raise error

    with pytest.raises(type(error)):
        await ask(FakeRpc(["0x01"]), attrs.evolve(view(), understand=read))


@pytest.mark.parametrize("error", [Unreachable("nobody"), Overloaded("less")])
async def test_a_node_that_does_not_answer_is_the_callers_to_wait_for(error: Exception) -> None:
    with pytest.raises(type(error)):
        await ask(FakeRpc([error]), view())


async def test_a_question_to_the_other_revision_is_put_instead() -> None:
    """Only the question that met the wrong revision is put again; answers keep their order."""

    def other(_message: str, _data: bytes | None) -> int:
        raise Instead(view_call(5, CONTRACT, b"\x03", number))

    node = FakeRpc([RpcError(3, "execution reverted", b""), "0x08", "0x07"])
    assert await ask_all(node, [view(refused=other), view()]) == [7, 8]
    assert [len(batch) for batch in node.batches] == [2, 1]
    assert node.batches[1] == [Call("eth_call", ({"to": "0x" + "c0" * 20, "data": "0x03"}, "latest"))]


async def test_an_answer_may_say_that_it_is_of_the_other_revision() -> None:
    def read(_data: bytes) -> int:
        raise Instead(view())

    assert await ask(FakeRpc(["0x", "0x07"]), view_call(5, CONTRACT, b"", read)) == 7


def as_many_as_said() -> QueryPlan[int]:
    """Ask how many there are, then for each of them."""
    [count] = yield [view()]
    values = yield [view() for _ in range(count)]
    return sum(values)


@pytest.mark.parametrize(
    ("results", "total", "batches"),
    [
        (["0x02", "0x05", "0x06"], 11, [1, 2]),
        (["0x00"], 0, [1]),
        (["0xfa", *["0x01"] * 250], 250, [1, MAX_BATCH, MAX_BATCH, 50]),
    ],
    ids=["of one batch", "without questions", "of more than a node takes at once"],
)
async def test_an_inquiry_asks_in_rounds(results: list[Any], total: int, batches: list[int]) -> None:
    node = FakeRpc(results)
    assert await run_query_plan(node, as_many_as_said()) == total
    assert [len(batch) for batch in node.batches] == batches


async def test_an_inquiry_ends_with_the_error_of_its_question() -> None:
    with pytest.raises(Unreachable):
        await run_query_plan(FakeRpc(["0x01", RpcError(-32000, "busy")]), as_many_as_said())

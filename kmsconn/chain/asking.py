"""Puts questions to contracts: a profile's typed ones, several in one batch on one connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from kmsconn.chain.logs import decode_logs
from kmsconn.chain.port import Call, Rpc, RpcError, SendingRpc
from kmsconn.errors import Undecodable, Unreachable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.queries import ContractQuery, Instead, QueryPlan
from kmsconn.transport.waiting import together

T = TypeVar("T")
MAX_BATCH = 100  # questions in one JSON-RPC batch; public endpoints refuse much larger ones


async def ask(rpc: Rpc, question: ContractQuery[T]) -> T:
    """Ask one question and return its answer.

    Raises Unreachable when the node gave no usable answer (an RPC error that is none, bytes of no sense), and what the question
    itself raises. Repeating: reads only.
    """
    return (await ask_all(rpc, [question]))[0]


async def ask_all(rpc: Rpc, questions: Sequence[ContractQuery[T]]) -> list[T]:
    """Ask several questions of one node and return their answers in order. Raises as ``ask``."""
    calls = [Call(one.method, one.parameters) for one in questions]
    return await _answers(rpc, questions, await rpc.batch(calls) if calls else [])


async def ask_beside(
    steps: Sequence[Callable[[], Awaitable[Any]]],
    batches: Sequence[tuple[SendingRpc, Sequence[ContractQuery[None]]]],
) -> None:
    """Put batches to several chains and take some steps, all at once; needs no task for a batch that can be sent at once.

    Raises the first failure of a step, or else of a batch in their order; each as ``ask``. Cancellation: of all. Repeating: reads only.
    """
    sent = [(*one, one[0].send([Call(it.method, it.parameters) for it in one[1]])) for one in batches]
    try:
        late: list[Callable[[], Awaitable[Any]]] = [
            partial(ask_all, rpc, questions) for rpc, questions, pending in sent if pending is None
        ]
        await together([*steps, *late])
        for rpc, questions, pending in sent:
            if pending is not None:
                await _answers(rpc, questions, await pending.results())
    finally:
        for *_, pending in sent:
            if pending is not None:
                pending.drop()


async def _answers(rpc: Rpc, questions: Sequence[ContractQuery[T]], results: Sequence[Any]) -> list[T]:
    answers: list[T] = []
    for question, result in zip(questions, results, strict=True):
        try:
            if not isinstance(result, RpcError):
                said = whole_logs(result) if question.method == "eth_getLogs" else from_hex(result)
                answer = question.understand(said)
            elif (refused := question.refused(result.message, result.data)) is not None:
                answer = refused
            else:
                raise Unreachable(f"chain {question.chain_id}: {result}") from result
        except Instead as other:
            answer = await ask(rpc, other.question)
        except (Undecodable, ValueError, TypeError, AttributeError) as error:
            raise Unreachable(f"chain {question.chain_id} returned an undecodable result: {error}") from error
        answers.append(answer)
    return answers


async def run_query_plan(rpc: Rpc, plan: QueryPlan[T]) -> T:
    """Put a plan's rounds and return what they amount to. Raises as ``ask``. Repeating: reads only, but takes a new plan."""
    try:
        questions = next(plan)
        while True:
            pieces = [questions[at : at + MAX_BATCH] for at in range(0, len(questions), MAX_BATCH)]
            questions = plan.send([one for piece in pieces for one in await ask_all(rpc, piece)])
    except StopIteration as end:
        found: T = end.value
        return found


def whole_logs(result: Any) -> list[Log]:
    """Read an answer to ``eth_getLogs``. Raises Undecodable where an object in it is no log, Unreachable where it is no list."""
    logs, malformed = decode_logs(result)
    if malformed:
        raise Undecodable(f"an object that is not a log: {malformed[0]}")
    return logs

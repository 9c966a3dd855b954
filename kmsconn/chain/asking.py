"""Puts questions to nodes: a profile's typed ones to contracts, several in one batch, and many that fail each for itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import trio

from kmsconn.chain.logs import decode_logs, read_number
from kmsconn.chain.port import Call, PipelinedRpc, Rpc, RpcError, SendingRpc
from kmsconn.errors import KmsconnError, Overloaded, Retryable, StageTimeout, Undecodable, Unreachable
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


# --- many questions, of which one that fails concerns nobody else

HEAD = Call("eth_blockNumber")
QUESTION_TIMEOUT = 5.0
"""Seconds for one batch, or for its calls one by one; shorter than a connection waits before it counts as dead."""

Take = Callable[[int, Any, int | None], None]
"""Takes the outcome of a question by its place: a result or a KmsconnError, and the head of the node; None: no node answered."""


async def ask_many(
    rpc: PipelinedRpc, calls: Sequence[Call], take: Take, *, alone: frozenset[int] = frozenset()
) -> None:
    """Put many questions to a node at once; ``take`` gets each answer as it comes. The places in ``alone`` go into no batch with others.

    Cancellation: at any time. Repeating: reads only.
    """
    others = [place for place in range(len(calls)) if place not in alone]
    batches = [others[at : at + MAX_BATCH] for at in range(0, len(others), MAX_BATCH)]
    every = [*batches, *([place] for place in alone)]
    await together([partial(_ask_batch, rpc, calls, places, take) for places in every])


async def _ask_batch(rpc: PipelinedRpc, calls: Sequence[Call], places: Sequence[int], take: Take) -> None:
    """Ask in one batch behind the node's head, or one by one where that has no answer."""
    asked = [HEAD, *(calls[place] for place in places)]
    error: Retryable | None = None
    with trio.move_on_after(QUESTION_TIMEOUT):
        try:
            head, *results = await rpc.batch(asked)
            number = read_number(head)
        except Retryable as failed:
            error = failed
        else:
            for place, result in zip(places, results, strict=True):
                take(place, result, number)
            return
    if error is None and len(places) == 1:
        error = StageTimeout(asked[-1].method, QUESTION_TIMEOUT)
    if isinstance(error, (StageTimeout, Overloaded)):  # more calls would make it worse
        for place in places:
            take(place, error, None)
    else:
        await _ask_each(rpc, calls, places, take)


async def _ask_each(rpc: PipelinedRpc, calls: Sequence[Call], places: Sequence[int], take: Take) -> None:
    """Ask each for itself, all on their way at once: the node may take no batches, or one question may spoil them."""
    unanswered = dict.fromkeys(places)
    error: KmsconnError = StageTimeout(calls[places[0]].method, QUESTION_TIMEOUT)
    with trio.move_on_after(QUESTION_TIMEOUT):
        try:
            number = read_number(await rpc.call(HEAD.method))
        except (Retryable, RpcError) as failed:
            error = failed
        else:

            def note(at: int, result: Any) -> None:
                unanswered.pop(places[at], None)
                take(places[at], result, None if isinstance(result, Retryable) else number)

            await rpc.each([calls[place] for place in places], note)
    for place in unanswered:
        take(place, error, None)


async def ask_one_node(rpc: PipelinedRpc, calls: Sequence[Call]) -> list[Any]:
    """Ask a few questions of one node, each for itself where it takes no such batch; a result or an error for each.

    Raises Overloaded, or Retryable when the first one has no answer. Repeating: reads only.
    """
    results: list[Any] = []
    try:
        results = await rpc.batch(calls)
    except Overloaded:
        raise
    except Retryable:
        pass
    if not results or isinstance(results[0], RpcError):
        results = [None] * len(calls)
        await rpc.each(calls, results.__setitem__)
        if isinstance(results[0], Retryable):
            raise results[0]
    return results

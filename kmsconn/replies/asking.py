"""Asks many questions so that one that fails concerns itself alone: in batches, split down to single calls where a batch fails.

Each batch begins with the head of the node that answers it. Decides nothing about replies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from kmsconn.chain.asking import MAX_BATCH
from kmsconn.chain.port import Call, PipelinedRpc, RpcError
from kmsconn.errors import KmsconnError, Overloaded, Retryable, StageTimeout
from kmsconn.replies.questions import HEAD, read_number

QUESTION_TIMEOUT = (
    5.0  # seconds for one batch, or one call; shorter than a connection waits before it counts as dead
)
GROWS_AFTER = 8  # full batches in a row that a node answered, until the next ones are larger
_SPLIT = 4

Take = Callable[[int, Any, int | None], None]
"""Takes the outcome of a question by its place: a result or a KmsconnError, and the head of the node; None: no node answered."""


@attrs.define
class BatchSize:
    """How many calls a node takes in one batch, learnt from its answers."""

    most: int = MAX_BATCH
    _in_a_row: int = 0

    def worked(self, calls: int) -> None:
        """Note an answered batch."""
        self._in_a_row += calls >= self.most
        if self._in_a_row >= GROWS_AFTER and self.most < MAX_BATCH:
            self.most, self._in_a_row = min(MAX_BATCH, 2 * self.most), 0

    def failed(self, calls: int) -> None:
        """Note a batch that a node refused as a whole."""
        self._in_a_row = 0
        self.most = max(1, min(self.most, calls // _SPLIT))


@attrs.frozen
class Asker:
    """A chain that is asked about many replies at once."""

    rpc: PipelinedRpc
    size: BatchSize = attrs.field(factory=BatchSize)

    async def ask(self, calls: Sequence[Call], take: Take, *, alone: frozenset[int] = frozenset()) -> None:
        """Ask all; ``take`` gets each answer as it comes. The places in ``alone`` go into no batch with others.

        Cancellation: at any time. Repeating: reads only.
        """
        places = [place for place in range(len(calls)) if place not in alone]
        async with trio.open_nursery() as nursery:
            for piece in [*pieces(places, self.size.most), *([place] for place in alone)]:
                nursery.start_soon(self._piece, calls, piece, take)

    async def _piece(self, calls: Sequence[Call], places: Sequence[int], take: Take) -> None:
        error = await self._batch(calls, places, take)
        if error is None:
            self.size.worked(len(places))
        elif isinstance(error, Overloaded):  # more calls would make it worse
            _give(places, error, take)
        elif len(places) > 1:
            await self._split(calls, places, take, silent=isinstance(error, StageTimeout))
        elif isinstance(error, StageTimeout):
            _give(places, error, take)
        else:
            await self._bare(calls[places[0]], partial(take, places[0]))

    async def _batch(self, calls: Sequence[Call], places: Sequence[int], take: Take) -> Retryable | None:
        """Ask in one batch behind the node's head; return why there was no answer."""
        asked = [HEAD, *(calls[place] for place in places)]
        with trio.move_on_after(QUESTION_TIMEOUT) as scope:
            try:
                head, *results = await self.rpc.batch(asked)
                number = read_number(head)
            except Retryable as error:
                return error
        if scope.cancelled_caught:
            return StageTimeout(asked[-1].method, QUESTION_TIMEOUT)
        for place, result in zip(places, results, strict=True):
            take(place, result, number)
        return None

    async def _split(self, calls: Sequence[Call], places: Sequence[int], take: Take, *, silent: bool) -> None:
        """Ask again in smaller batches; one by one when nothing came, since each further step would cost its time again."""
        if not silent:
            self.size.failed(len(places))
        smaller = 1 if silent else max(1, len(places) // _SPLIT)
        async with trio.open_nursery() as nursery:
            for piece in pieces(places, smaller):
                nursery.start_soon(self._piece, calls, piece, take)

    async def _bare(self, call: Call, take: Callable[[Any, int | None], None]) -> None:
        """Ask a single question of a node that takes no batches."""
        with trio.move_on_after(QUESTION_TIMEOUT) as scope:
            try:
                number = read_number(await self.rpc.call(HEAD.method))
                result = await _answer(self.rpc, call)
            except (Retryable, RpcError) as error:
                take(error, None)
                return
        if scope.cancelled_caught:
            take(StageTimeout(call.method, QUESTION_TIMEOUT), None)
        else:
            take(result, number)


def pieces(places: Sequence[int], size: int) -> list[Sequence[int]]:
    """Return places in runs of at most ``size``."""
    return [places[at : at + size] for at in range(0, len(places), size)]


def _give(places: Sequence[int], error: KmsconnError, take: Take) -> None:
    for place in places:
        take(place, error, None)


async def _answer(rpc: PipelinedRpc, call: Call) -> Any:
    """Return what came of a call; what the node says against it is an answer."""
    try:
        return await rpc.call(call.method, *call.params)
    except RpcError as error:
        return error


async def ask_one_node(rpc: PipelinedRpc, calls: Sequence[Call]) -> list[Any]:
    """Ask a few questions of one node, one by one where it takes no batches; a result or an error for each.

    Raises Retryable when the first one has no answer. Repeating: reads only.
    """
    try:
        results = await rpc.batch(calls)
    except Overloaded:
        raise
    except Retryable:
        results = []
    if results and not isinstance(results[0], RpcError):
        return results
    return [await _answer(rpc, call) for call in calls]

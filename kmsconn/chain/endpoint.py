"""One chain behind one or several URLs. Never repeats a call.

At any time there is one *link*: a websocket, or an HTTP URL where there is no websocket. All calls go over it, so that one node
answers a whole batch; ``LinkKeeper`` makes it. While every URL has just failed, calls fail at once instead of
waiting; after that, until there is a link again, they wait only a moment, so that a chain that hangs does not hold the workers that
other chains need.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Never

import attrs
import trio

from kmsconn.chain.keeper import LinkKeeper, RpcLink
from kmsconn.chain.port import Call, RpcError, call_result, each_result
from kmsconn.chain.websocket import RpcExchange, WebSocketLink
from kmsconn.config.parties import Chain
from kmsconn.errors import Down, Retryable, Unreachable
from kmsconn.model.alerts import Board
from kmsconn.model.events import OnEvent, ignore
from kmsconn.transport.http import HttpClient
from kmsconn.transport.ports import Ports

RESUBSCRIBE_SECONDS = 30.0  # after a node refused a subscription


@attrs.frozen(eq=False, repr=False)
class Endpoint:
    """One chain; implements ``chain.port.PipelinedRpc``. Made by ``open_endpoint``."""

    chain_id: int
    name: str
    """What events and errors call it."""
    keeper: LinkKeeper

    @property
    def links(self) -> int:
        """How many connections were made so far; renewals of HTTP are none."""
        return self.keeper.links

    @property
    def in_use(self) -> str:
        """The origin of the URL in use, without path and credentials; empty where none is."""
        return "" if (link := self.keeper.usable) is None else link.origin

    @property
    def is_down(self) -> bool:
        """Whether every URL has failed and none works yet; an alert says so."""
        return self.keeper.wait_limit < math.inf

    def leave(self, reason: str) -> None:
        """Give up the connection in use for a reason; the next one is to the next URL."""
        if (link := self.keeper.usable) is not None:
            link.drop(reason)

    async def call(self, method: str, *params: Any) -> Any:
        """Ask one question and return its JSON result.

        Raises RpcError when the node says no, Unreachable or Overloaded when there is no usable answer.
        Cancellation: at any time; the answer is dropped when it comes. Repeating: the caller's question.
        """
        (outcome,) = await self.batch([Call(method, params)], as_batch=False)
        return call_result(outcome)

    async def batch(self, calls: Sequence[Call], *, as_batch: bool = True) -> list[Any]:
        """Ask several questions of one node over one connection, in order; a result or an RpcError for each. One may go without an array.

        Raises Unreachable or Overloaded when there is no usable answer at all.
        Cancellation: at any time; the answers are dropped when they come. Repeating: the caller's question.
        """
        if not calls:
            await trio.lowlevel.checkpoint()
            return []
        link = self.keeper.usable or await self._linked()
        try:
            return await link.exchange(calls, batch=as_batch)
        except Retryable as error:
            error.of(self.name)
            raise

    def send(self, calls: Sequence[Call]) -> RpcExchange | None:
        """Send a batch over a websocket that takes it now; None where there is none. What it is asked for is as ``batch``.

        Whoever sent it drops it in the end. Repeating: the caller's question.
        """
        link = self.keeper.usable
        return link.send(calls, self.name) if isinstance(link, WebSocketLink) else None

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        """Ask each for itself, all on their way at once over one connection in this order.

        ``take`` gets what came of each with its place in ``calls``: a result, or the error that ``call`` would have raised.
        Cancellation: at any time; ``take`` has had what came until then. Repeating: the caller's questions.
        """
        if not calls:
            await trio.lowlevel.checkpoint()
            return
        try:
            link = self.keeper.usable or await self._linked()
        except Unreachable as error:
            for index in range(len(calls)):
                take(index, error)
        else:
            await link.each(calls, lambda index, outcome: take(index, each_result(outcome)))

    async def probe(self) -> None:
        """Connect, unless that was done.

        Raises StartRefused when a node answered with another chain id than the configured one, Unreachable when nobody answers.
        Cancellation: at any time; the connection goes on being made. Repeating: harmless.
        """
        try:
            await self._linked()
        except Unreachable:
            self.keeper.refuse_wrong_chain()
            raise
        self.keeper.refuse_wrong_chain()

    async def listen(self, subscription: Sequence[Any], notify: Callable[[bytes | None], None]) -> Never:
        """Subscribe for ever; ``notify`` gets each push, and None after each subscription, since pushes may have been missed before.

        A push is JSON text, unread. Sleeps for ever where there is no websocket. ``notify`` must not block.
        Cancellation: the node goes on pushing until the connection ends; nobody is notified.
        """
        while True:
            link = await self._websocket()
            identifier = await self._subscribed(link, subscription, notify)
            if identifier is None:
                with trio.move_on_after(RESUBSCRIBE_SECONDS):
                    await link.ended.wait()
                continue
            try:
                notify(None)
                await link.ended.wait()
                self.keeper.board.set("unreadable-push", self.name, None)  # perhaps nobody pushes any more
            finally:
                link.forget(identifier)

    async def _subscribed(
        self, link: WebSocketLink, subscription: Sequence[Any], notify: Callable[[bytes | None], None]
    ) -> str | None:
        about = f"{self.name} {subscription[0]}"
        try:
            identifier = await link.subscribe(subscription, notify)
        except (RpcError, Retryable) as error:
            if not link.ended.is_set():
                text = f"the node takes no subscription to {subscription[0]}, so they are found by polling: {error}"
                self.keeper.board.set("no-pushes", about, text)
            return None
        self.keeper.board.set("no-pushes", about, None)
        return identifier

    async def _linked(self) -> RpcLink:
        """Return the link, waiting while one is being made.

        Raises Unreachable while every URL is given a pause, and after a moment where all of them failed before.
        """
        await trio.lowlevel.checkpoint()
        while True:
            self.keeper.wanted.set()
            if (link := self.keeper.usable) is not None:
                return link
            with trio.move_on_after(self.keeper.wait_limit) as scope:
                await self.keeper.changed.wait()
            if scope.cancelled_caught:
                failed = Down if self.is_down else Unreachable  # an alert says so once every URL has failed
                failure = self.keeper.failure
                raise failed(f"{self.name}: {failure.reason}").of(self.name, remedy=failure.remedy)

    async def _websocket(self) -> WebSocketLink:
        await trio.lowlevel.checkpoint()
        while True:
            link = self.keeper.usable
            if isinstance(link, WebSocketLink):
                return link
            if self.keeper.has_websocket:
                self.keeper.wanted.set()
            await self.keeper.changed.wait()


@asynccontextmanager
async def open_endpoint(
    chain: Chain, name: str, ports: Ports, http: HttpClient, on_event: OnEvent = ignore
) -> AsyncIterator[Endpoint]:
    """Open a chain, connecting to nobody yet. ``name`` is what events and errors call it.

    ``on_event`` gets a critical alert when every URL failed in turn, and one for each URL found on another chain; each is cleared.
    An exception of the body comes out in a group, as out of any nursery.
    """
    keeper = LinkKeeper(chain, name, ports, http, Board(on_event, trio.current_time))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.keep)
        yield Endpoint(chain.chain_id, name, keeper)
        nursery.cancel_scope.cancel()

"""One chain behind one or several URLs: connects when it is needed, goes on to the next URL on failure. Never repeats a call.

At any time there is one *link*: a websocket, or an HTTP URL where there is no websocket. All calls go over it, so that what is
asked in one batch is answered by one node. The keeper, one task, makes links: it tries the URLs in turn (websockets first, each
kind in the configured order), compares the chain id, offers the link until it ends, and goes on. When every URL failed in turn
it pauses for a while, and calls fail at once instead of waiting; after that, until there is a link again, they wait only a
moment, so that a chain that hangs does not hold the workers that other chains need. Over HTTP the link is renewed now and then:
the chain id is compared again, and the websocket tried first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Never, Protocol

import trio

from kmsconn.config.settings import Chain
from kmsconn.errors import Down, Retryable, StartRefused, Unreachable
from kmsconn.ethereum.hexes import from_quantity
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import AlertCleared, AlertRaised, OnEvent, Severity, ignore
from kmsconn.rpc.jsonrpc import batch_results, call_result, each_result
from kmsconn.rpc.link_state import LinkState, moved
from kmsconn.rpc.port import Call, RpcError
from kmsconn.rpc.posting import HttpLink
from kmsconn.rpc.websocket import WebSocketLink, run_websocket
from kmsconn.transport.backoff import Backoff
from kmsconn.transport.http import HttpClient
from kmsconn.transport.ports import Ports
from kmsconn.transport.proxying import way_of
from kmsconn.transport.urls import parse, show_origin

ATTEMPT_SECONDS = 10.0  # for a connection
STABLE_SECONDS = 5.0  # a link that lived this long owes its end to something new
RENEW_SECONDS = 30.0  # of an HTTP link
LONGEST_PAUSE = 5.0
DIAL_BACKOFF = Backoff(0.25, LONGEST_PAUSE)
RESUBSCRIBE_SECONDS = 30.0  # after a node refused a subscription


class RpcLink(Protocol):
    """A way to one node."""

    ended: trio.Event
    reason: str

    async def exchange(self, calls: Sequence[Call], *, batch: bool) -> list[Any]:
        """Return an outcome for each call, within ``RPC_CALL_TIMEOUT`` seconds. Raises Unreachable or Overloaded when there is none."""
        ...

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        """Ask each for itself, as ``PipelinedRpc.each``; an RpcError is an outcome as it came."""
        ...

    def drop(self, reason: str) -> None:
        """Give the link up."""
        ...


class Endpoint:
    """One chain; implements ``chain.port.PipelinedRpc``. Made by ``open_endpoint``."""

    def __init__(
        self, chain: Chain, name: str, ports: Ports, http: HttpClient, on_event: OnEvent = ignore
    ) -> None:
        self.name = name
        self._chain, self._ports, self._http, self._on_event = chain, ports, http, on_event
        self._alerts = Alerts(on_event)  # of subscriptions
        self._urls = sorted(chain.urls, key=lambda url: not _is_websocket(url))
        self._wrong: dict[str, int] = {}
        self._link: RpcLink | None = None
        self._state = LinkState.CONNECTING
        self._reason = ""  # of the last link that ended or could not be made
        self.links = 0
        """How many connections were made so far; renewals of HTTP are none."""
        self._renewing = False
        self._wanted = trio.Event()
        self._changed = trio.Event()

    @property
    def chain_id(self) -> int:
        """The configured chain id."""
        return self._chain.chain_id

    @property
    def is_down(self) -> bool:
        """Whether every URL has failed and none works yet; an alert says so."""
        return self._state.is_down

    async def call(self, method: str, *params: Any) -> Any:
        """Ask one question and return its JSON result.

        Raises RpcError when the node says no, Unreachable or Overloaded when there is no usable answer.
        Cancellation: at any time; the answer is dropped when it comes. Repeating: the caller's question.
        """
        (outcome,) = await self._ask([Call(method, params)], batch=False)
        return call_result(outcome)

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Ask several questions of one node over one connection, in order; a result or an RpcError for each.

        Raises Unreachable or Overloaded when there is no usable answer at all.
        Cancellation: at any time; the answers are dropped when they come. Repeating: the caller's question.
        """
        if not calls:
            await trio.lowlevel.checkpoint()
            return []
        return batch_results(await self._ask(calls, batch=True))

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        """Ask each for itself, all on their way at once over one connection in this order.

        ``take`` gets what came of each with its place in ``calls``: a result, or the error that ``call`` would have raised.
        Cancellation: at any time; ``take`` has had what came until then. Repeating: the caller's questions.
        """
        if not calls:
            await trio.lowlevel.checkpoint()
            return
        try:
            link = await self._linked()
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
            self._refuse_wrong_chain()
            raise
        self._refuse_wrong_chain()

    def _refuse_wrong_chain(self) -> None:
        for url, found in self._wrong.items():
            raise StartRefused(_wrong_chain(f"{self.name} {show_origin(url)}", self.chain_id, found))

    async def listen(self, subscription: Sequence[Any], notify: Callable[[bytes | None], None]) -> Never:
        """Subscribe for ever; ``notify`` gets each push, and None after each subscription, since pushes may have been missed before.

        A push is JSON text, unread.

        Sleeps for ever where there is no websocket. ``notify`` must not block.
        Cancellation: the node goes on pushing until the connection ends; nobody is notified.
        """
        while True:
            link = await self._websocket()
            await self._listen_on(link, subscription, notify)

    async def _listen_on(
        self, link: WebSocketLink, subscription: Sequence[Any], notify: Callable[[bytes | None], None]
    ) -> None:
        """Listen until the link ends, or for a while when the node takes no subscription."""
        identifier = await self._subscribed(link, subscription, notify)
        if identifier is None:
            with trio.move_on_after(RESUBSCRIBE_SECONDS):
                await link.ended.wait()
            return
        try:
            notify(None)
            await link.ended.wait()
        finally:
            link.forget(identifier)

    async def _subscribed(
        self, link: WebSocketLink, subscription: Sequence[Any], notify: Callable[[bytes | None], None]
    ) -> str | None:
        cause = f"no-pushes-of-{subscription[0]}"
        try:
            identifier = await link.subscribe(subscription, notify)
        except (RpcError, Retryable) as error:
            if not link.ended.is_set():
                text = f"the node takes no subscription to {subscription[0]}, so they are found by polling: {error}"
                self._alerts.raise_(self.name, cause, text)
            return None
        self._alerts.clear(self.name, cause)
        return identifier

    # Asking.

    async def _ask(self, calls: Sequence[Call], *, batch: bool) -> list[Any]:
        link = self._link
        if link is None or link.ended.is_set():
            link = await self._linked()
        try:
            return await link.exchange(calls, batch=batch)
        except Retryable as error:
            error.of(self.name)
            raise

    async def _linked(self) -> RpcLink:
        """Return the link, waiting while one is being made.

        Raises Unreachable while every URL is given a pause, and after a moment where all of them failed before.
        """
        await trio.lowlevel.checkpoint()
        while True:
            self._wanted.set()
            if self._link is not None and not self._link.ended.is_set():
                return self._link
            with trio.move_on_after(self._state.patience) as scope:
                await self._changed.wait()
            if scope.cancelled_caught:
                raise self._gone(self._reason)

    def _gone(self, reason: str) -> Unreachable:
        """Return the error of a chain that cannot be reached, which its own alert says once every URL has failed."""
        return (Down if self.is_down else Unreachable)(f"{self.name}: {reason}").of(self.name)

    async def _websocket(self) -> WebSocketLink:
        await trio.lowlevel.checkpoint()
        while True:
            link = self._link
            if isinstance(link, WebSocketLink) and not link.ended.is_set():
                return link
            if any(map(_is_websocket, self._urls)):
                self._wanted.set()
            await self._changed.wait()

    # The keeper.

    async def keep(self) -> Never:
        """Make links for ever, each when it is wanted."""
        turn = strikes = 0
        while True:
            await self._wanted.wait()
            lived, renew = await self._try(self._urls[turn % len(self._urls)])
            self._renewing = renew
            strikes = 0 if lived >= STABLE_SECONDS else strikes + 1
            turn = 0 if renew else turn + 1
            if strikes and strikes % len(self._urls) == 0:
                await self._pause(strikes // len(self._urls))

    async def _try(self, url: str) -> tuple[float, bool]:
        """Make a link and offer it until it ends: how many seconds it lived, and whether it is only to be renewed."""
        async with trio.open_nursery() as nursery:
            link = await self._make(nursery, url)
            if link is None:
                lived, renew = 0.0, False
            else:
                self._offer(link)
                lived, renew = await self._serve(link)
            nursery.cancel_scope.cancel()
        return lived, renew

    async def _make(self, nursery: trio.Nursery, url: str) -> RpcLink | None:
        """Connect, in a task of ``nursery``, and compare the chain id; None, and the reason kept, when that fails."""
        with trio.move_on_after(ATTEMPT_SECONDS):
            try:
                link: RpcLink = await self._connect(nursery, url)
                await self._compare_chain(link, url)
            except (RpcError, Retryable, StartRefused) as error:
                self._reason = str(error)
                return None
            return link
        self._reason = f"{show_origin(url)}: no connection in {ATTEMPT_SECONDS:g} s"
        return None

    async def _connect(self, nursery: trio.Nursery, url: str) -> RpcLink:
        if _is_websocket(url):
            link: RpcLink = await nursery.start(run_websocket, way_of(self._ports), url)
            return link
        return HttpLink(self._http, url)

    async def _compare_chain(self, link: RpcLink, url: str) -> None:
        (outcome,) = await link.exchange([Call("eth_chainId")], batch=False)
        found = _read_chain_id(call_result(outcome), url)
        if found == self.chain_id:
            self._is_right(url)
        else:
            self._is_wrong(url, found)

    def _is_right(self, url: str) -> None:
        if self._wrong.pop(url, None) is not None:
            self._on_event(AlertCleared(f"{self.name} {show_origin(url)}", "wrong-chain"))

    def _is_wrong(self, url: str, found: int) -> Never:
        reason = _wrong_chain(show_origin(url), self.chain_id, found)
        if self._wrong.get(url) != found:
            self._wrong[url] = found
            self._on_event(
                AlertRaised(f"{self.name} {show_origin(url)}", "wrong-chain", reason, Severity.CRITICAL)
            )
        raise StartRefused(reason)

    def _offer(self, link: RpcLink) -> None:
        self.links += not self._renewing
        self._link, was_down = link, self.is_down
        self._move("made")
        if was_down:
            self._on_event(AlertCleared(self.name, "unreachable"))

    async def _serve(self, link: RpcLink) -> tuple[float, bool]:
        began = trio.current_time()
        with trio.move_on_after(float("inf") if isinstance(link, WebSocketLink) else RENEW_SECONDS) as scope:
            await link.ended.wait()
        if not scope.cancelled_caught:
            self._reason = link.reason
            self._wanted = trio.Event()
            self._move("ended")
        return trio.current_time() - began, scope.cancelled_caught

    async def _pause(self, failures: int) -> None:
        self._link, was_down = None, self.is_down
        self._move("all_failed")
        if not was_down:
            self._on_event(AlertRaised(self.name, "unreachable", self._reason, Severity.CRITICAL))
        await trio.sleep(DIAL_BACKOFF.seconds(failures - 1, self._ports.random()))
        self._wanted = trio.Event()
        self._move("pause_over")

    def _move(self, transition: str) -> None:
        self._state = moved(self._state, transition)
        self._changed.set()
        self._changed = trio.Event()


def _is_websocket(url: str) -> bool:
    return parse(url).scheme in {"ws", "wss"}


def _wrong_chain(who: str, configured: int, found: int) -> str:
    return f"{who} is on chain {found}, configured is {configured}"


def _read_chain_id(result: Any, url: str) -> int:
    try:
        return from_quantity(result)
    except (TypeError, ValueError) as error:
        raise Unreachable(f"{show_origin(url)}: eth_chainId is no quantity") from error


@asynccontextmanager
async def open_endpoint(
    chain: Chain, name: str, ports: Ports, http: HttpClient, on_event: OnEvent = ignore
) -> AsyncIterator[Endpoint]:
    """Open a chain, connecting to nobody yet. ``name`` is what events and errors call it.

    ``on_event`` gets a critical alert when every URL failed in turn, and one for each URL found on another chain; each is cleared.
    An exception of the body comes out in a group, as out of any nursery.
    """
    endpoint = Endpoint(chain, name, ports, http, on_event)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.keep)
        yield endpoint
        nursery.cancel_scope.cancel()

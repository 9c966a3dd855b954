"""Keeps one chain's link: connects when it is wanted, goes on to the next URL on failure, and says where it stands.

One task makes links: it tries the URLs in turn (websockets first, each kind in the configured order), compares the chain id, offers the
link until it ends, and goes on. When every URL failed in turn it pauses for a while. Over HTTP the link is renewed now and then: the
chain id is compared again, and the websocket tried first. A call goes out, waits for a link, waits a moment, or fails at once.

Over HTTP each exchange is a POST of its own, which is never repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Never

import attrs
import trio

from kmsconn.chain.port import (
    RPC_CALL_TIMEOUT,
    Call,
    RpcAnswer,
    RpcError,
    batch_results,
    call_result,
    clean,
    decode,
    encode,
)
from kmsconn.chain.remedies import node_remedy
from kmsconn.chain.websocket import WebSocketLink, run_websocket
from kmsconn.config.parties import Chain
from kmsconn.errors import KmsconnError, Retryable, StartRefused, Unreachable
from kmsconn.ethereum.hexes import from_quantity
from kmsconn.model.alerts import Board
from kmsconn.transport.dialling import way_of
from kmsconn.transport.http import HttpClient, Response, status_error
from kmsconn.transport.ports import Ports
from kmsconn.transport.urls import parse, show_origin
from kmsconn.transport.waiting import Backoff

_BAD_REQUEST, _CLIENT_ERROR, _SERVER_ERROR = 400, 400, 500
_PAGE_HEAD = 1024  # bytes of a page of an error that are looked at
_LONGEST_KIND = 64  # characters of a content type


class HttpLink:
    """One URL, from the first question to the first failure."""

    def __init__(self, http: HttpClient, url: str) -> None:
        self.ended = trio.Event()
        self.reason = ""
        self._http, self._url, self.origin = http, url, show_origin(url)
        self._next_id = 1

    async def exchange(self, calls: Sequence[Call], *, batch: bool) -> list[Any]:
        """Ask in one request. Any failure ends the link, and so does an answer that does not come.

        Raises Unreachable, Overloaded. Cancellation: at any time. Repeating: the caller's question.
        """
        ids = range(self._next_id, self._next_id + len(calls))
        self._next_id = ids.stop
        try:
            with trio.move_on_after(RPC_CALL_TIMEOUT):
                outcomes = self._outcomes(await self._post(encode(ids.start, calls, batch=batch)), ids)
                return batch_results(outcomes) if batch else outcomes
        except Unreachable as error:
            self.drop(str(error))
            raise
        self.drop(f"{self.origin}: no answer to {calls[0].method} in {RPC_CALL_TIMEOUT:g} s")
        raise Unreachable(self.reason)

    async def each(self, calls: Sequence[Call], take: Callable[[int, Any], None]) -> None:
        """Ask each in a request of its own. Cancellation: at any time. Repeating: the caller's question."""

        async def ask(index: int, call: Call) -> None:
            try:
                take(index, *await self.exchange([call], batch=False))
            except KmsconnError as error:
                take(index, error)

        async with trio.open_nursery() as nursery:
            for index, call in enumerate(calls):
                nursery.start_soon(ask, index, call)
                await trio.lowlevel.checkpoint()  # Trio starts tasks of one moment in any order

    async def _post(self, body: bytes) -> bytes:
        response = await self._http.post(self._url, body, {"content-type": "application/json"})
        refusal = status_error(response.status, self.origin)
        if refusal is not None and not (response.status == _SERVER_ERROR and response.body.startswith(b"{")):
            raise refusal  # some nodes send their JSON-RPC errors with a 500
        if not response.body.lstrip().startswith((b"{", b"[")):
            if response.status >= _CLIENT_ERROR:
                raise Unreachable(f"{self.origin}: HTTP {response.status}{_hint(response)}")
            kind = clean(response.headers.get("content-type", "") or "no content type")[:_LONGEST_KIND]
            raise Unreachable(f"{self.origin}: the answer is no JSON-RPC ({kind})")
        return response.body

    def _outcomes(self, body: bytes, ids: range) -> list[Any]:
        try:
            messages = decode(body)
        except Unreachable as error:
            raise Unreachable(f"{self.origin}: {error}") from error
        if not messages:
            raise Unreachable(f"{self.origin}: the answer is JSON, and no JSON-RPC")
        answers = (one for one in reversed(messages) if isinstance(one, RpcAnswer))
        outcomes = {one.id: one.outcome for one in answers}
        complaint = outcomes.get(None)
        if complaint is None and not all(number in outcomes for number in ids):
            raise Unreachable(f"{self.origin}: the answer lacks results for some calls")
        return [outcomes.get(number, complaint) for number in ids]

    def drop(self, reason: str) -> None:
        """Give the link up; requests on their way are not disturbed."""
        if not self.ended.is_set():
            self.reason = reason
            self.ended.set()


MOMENT = 1.0  # seconds for a connection to a chain whose every URL has just failed, while a call waits for it
ATTEMPT_SECONDS = 10.0  # for a connection
STABLE_SECONDS = 5.0  # a link that lived this long owes its end to something new
TOLD_AFTER = 2.0
"""Seconds without a link, where there was one, until that is told while the next one is being made."""
RENEW_SECONDS = 30.0  # of an HTTP link
LONGEST_PAUSE = 5.0
DIAL_BACKOFF = Backoff(0.25, LONGEST_PAUSE)


def _hint(response: Response) -> str:
    """Return what the page of an error gives away: servers of TLS answer plain HTTP with one that says so."""
    is_of_tls = response.status == _BAD_REQUEST and b"HTTPS" in response.body[:_PAGE_HEAD]
    return ", plain HTTP at a port of HTTPS" if is_of_tls else ""


RpcLink = HttpLink | WebSocketLink
"""A way to one node."""


@attrs.frozen
class LinkFailure:
    """Why a link ended or could not be made; ``remedy``: what was found at its URL, and what an operator can do."""

    reason: str = ""
    remedy: str = ""

    def tell(self, board: Board, name: str) -> None:
        """Raise the alert that a chain has no link, for this reason."""
        board.set("unreachable", name, self.reason, remedy=f"{self.remedy}; requests wait and none is lost")


@attrs.define(eq=False, repr=False)  # URLs have keys in them
class LinkKeeper:
    """Makes the links of one chain. ``failure`` says why the last one ended or could not be made."""

    chain: Chain
    name: str
    ports: Ports
    http: HttpClient
    board: Board
    wait_limit: float = math.inf
    """For how many seconds a call waits for a link: not at all while every URL is given a pause, a moment after that."""
    link: RpcLink | None = None
    failure: LinkFailure = LinkFailure()
    links: int = 0
    """How many connections were made so far; renewals of HTTP are none."""
    wanted: trio.Event = attrs.field(factory=trio.Event)
    changed: trio.Event = attrs.field(factory=trio.Event)
    _wrong: dict[str, tuple[str, int]] = attrs.field(factory=dict)
    """The URLs whose last answer was another chain's id, with what that says and on how many connections in a row."""

    @property
    def urls(self) -> list[str]:
        """The URLs in the order in which they are tried."""
        return sorted(self.chain.urls, key=lambda url: not _is_websocket(url))

    @property
    def has_websocket(self) -> bool:
        """Whether any URL is a websocket's."""
        return any(map(_is_websocket, self.chain.urls))

    @property
    def usable(self) -> RpcLink | None:
        """The link, where there is one that has not ended."""
        return self.link if self.link is not None and not self.link.ended.is_set() else None

    def refuse_wrong_chain(self) -> None:
        """Raise StartRefused if a URL gave another chain id than the configured one on two connections in a row.

        Behind one URL stand several nodes, and one answer must not end a start.
        """
        for wrong, times in self._wrong.values():
            if times > 1:
                raise StartRefused(f"{self.name} {wrong}")

    async def keep(self) -> Never:
        """Make links for ever, each when it is wanted."""
        turn = strikes = 0
        urls, renew = self.urls, False
        while True:
            await self.wanted.wait()
            url = urls[turn % len(urls)]
            lived, renew = await self._try(url, renewing=renew)
            if self._wrong.get(url, ("", 0))[1] == 1:
                # One answer of one of the nodes behind a URL must not end a start.
                lived, renew = await self._try(url, renewing=False)
            strikes = 0 if lived >= STABLE_SECONDS else strikes + 1
            turn = 0 if renew else turn + 1
            if strikes and strikes % len(urls) == 0:
                await self._pause(strikes // len(urls))

    async def _try(self, url: str, *, renewing: bool) -> tuple[float, bool]:
        """Make a link and offer it until it ends: how many seconds it lived, and whether it is only to be renewed."""
        async with trio.open_nursery() as nursery:
            made = trio.CancelScope()
            if self.links and not renewing:
                nursery.start_soon(self._tell_gone, made)
            lived, renew, link = 0.0, False, await self._make(nursery, url)
            made.cancel()
            if link is not None:
                self.link = link  # until then the one before serves
                self._wait(math.inf)
                self.board.set("unreachable", self.name, None)
                self.links += not renewing
                lived, renew = await self._serve(link, url)
            nursery.cancel_scope.cancel()
        return lived, renew

    async def _tell_gone(self, made: trio.CancelScope) -> None:
        """Say that there is no link any more, unless the next one is made soon: a node that hangs takes both in turn for long."""
        with made:
            await trio.sleep(TOLD_AFTER)
            self.failure.tell(self.board, self.name)

    async def _make(self, nursery: trio.Nursery, url: str) -> RpcLink | None:
        """Connect, in a task of ``nursery``, and compare the chain id; None, and the reason kept, when that fails."""
        with trio.move_on_after(ATTEMPT_SECONDS):
            try:
                link: RpcLink = HttpLink(self.http, url)
                if _is_websocket(url):
                    link = await nursery.start(run_websocket, way_of(self.ports), url)
                await self._compare_chain(link, url)
            except (RpcError, Retryable, StartRefused) as error:
                self._note(str(error), url)
                return None
            return link
        self._note(f"{show_origin(url)}: no connection in {ATTEMPT_SECONDS:g} s", url)
        return None

    def _note(self, reason: str, url: str) -> None:
        self.failure = LinkFailure(reason, node_remedy(reason, url, self.chain.option))

    async def aside(self, calls: Sequence[Call], place: int) -> list[Any]:
        """Ask in one batch over a connection of its own, to the URLs in turn by ``place``, the one in use last.

        Raises Unreachable, Overloaded. Cancellation: at any time. Repeating: the caller's questions, perhaps of another node.
        """
        link = self.link
        urls = sorted(self.urls, key=lambda url: link is not None and show_origin(url) == link.origin)
        for url in [*urls[place % len(urls) :], *urls[: place % len(urls)]]:
            with suppress(Retryable):
                if (results := await self._ask_aside(url, calls)) is not None:
                    return results
        raise Unreachable(f"{self.name}: no second connection is answered: {self.failure.reason}")

    async def _ask_aside(self, url: str, calls: Sequence[Call]) -> list[Any] | None:
        results: list[Any] | None = None
        failure: Retryable | None = None
        async with trio.open_nursery() as nursery:
            link = await self._make(nursery, url)
            try:
                results = None if link is None else await link.exchange(calls, batch=True)
            except Retryable as error:
                failure = error
                self._note(str(error), url)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return results

    async def _compare_chain(self, link: RpcLink, url: str) -> None:
        (outcome,) = await link.exchange([Call("eth_chainId")], batch=False)
        configured, origin = self.chain.chain_id, show_origin(url)
        try:
            found = from_quantity(call_result(outcome))
        except (TypeError, ValueError) as error:
            raise Unreachable(f"{origin}: eth_chainId is no quantity") from error
        wrong = "" if found == configured else f"{origin} is on chain {found}, configured is {configured}"
        remedy = f"name a node of chain {configured} in {self.chain.option}, or correct the chain id"
        self.board.set("wrong-chain", f"{self.name} {origin}", wrong, remedy=remedy)
        _, times = self._wrong.pop(url, ("", 0))
        if wrong:
            self._wrong[url] = wrong, times + 1
            raise StartRefused(wrong)

    async def _serve(self, link: RpcLink, url: str) -> tuple[float, bool]:
        began = trio.current_time()
        with trio.move_on_after(float("inf") if isinstance(link, WebSocketLink) else RENEW_SECONDS) as scope:
            await link.ended.wait()
        if not scope.cancelled_caught:
            self._note(link.reason, url)
            self.wanted = trio.Event()
            self._wait(math.inf)
        return trio.current_time() - began, scope.cancelled_caught

    async def _pause(self, failures: int) -> None:
        self.link = None
        self._wait(0.0)
        self.failure.tell(self.board, self.name)
        await trio.sleep(DIAL_BACKOFF.seconds(failures - 1, self.ports.random()))
        self.wanted = trio.Event()
        self._wait(MOMENT)

    def _wait(self, seconds: float) -> None:
        self.wait_limit = seconds
        self.changed.set()
        self.changed = trio.Event()


def _is_websocket(url: str) -> bool:
    return parse(url).scheme in {"ws", "wss"}

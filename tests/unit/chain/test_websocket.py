from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio_websocket
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from kmsconn.chain.port import Call
from kmsconn.chain.websocket import (
    BREATH,
    MAX_MESSAGE,
    OUTBOX,
    PARTING_SECONDS,
    PULSE_SECONDS,
    WebSocketLink,
    run_websocket,
)
from kmsconn.errors import Unreachable
from tests.unit.chain.scripted_node import Node, serving

URL = "ws://user:secret@node:8546/v3/key?token=hidden"


@asynccontextmanager
async def linked(node: Node) -> AsyncIterator[WebSocketLink]:
    async with serving(node=node) as ports, trio.open_nursery() as nursery:
        link: WebSocketLink = await nursery.start(run_websocket, ports.dial, URL)
        yield link
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def linked_over_a_full_wire(node: Node) -> AsyncIterator[WebSocketLink]:
    """Nothing of what is sent after the handshake leaves."""
    async with serving(node=node) as ports, trio.open_nursery() as nursery:

        async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
            stream: Any = await ports.dial(host, port, tls=tls)
            send_all = stream.send_stream.send_all

            async def once(data: bytes) -> None:
                stream.send_stream.send_all = full
                await send_all(data)

            stream.send_stream.send_all = once
            return stream  # type: ignore[no-any-return]

        async def full(data: bytes) -> None:
            await trio.sleep_forever()

        link: WebSocketLink = await nursery.start(run_websocket, dial, URL)
        yield link
        nursery.cancel_scope.cancel()


async def echo(link: WebSocketLink, value: Any) -> Any:
    (outcome,) = await link.exchange([Call("echo", (value,))], batch=False)
    return outcome


async def test_calls_are_pipelined_and_answered_in_any_order() -> None:
    """The first question waits for its answer while the second one is asked and answered."""
    node = Node()
    delays = iter([5.0, 0.0])

    async def delay() -> None:
        await trio.sleep(next(delays))

    node.on_frame = delay
    order: list[int] = []

    async def ask(link: WebSocketLink, value: int) -> None:
        assert await echo(link, value) == value
        order.append(value)

    async with linked(node) as link, trio.open_nursery() as nursery:
        nursery.start_soon(ask, link, 1)
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, link, 2)
    assert order == [2, 1]


@pytest.mark.parametrize("form", ['{"id":null,%s}', '[{"id":1,%s}]'])
async def test_a_complaint_and_an_error_alone_for_the_first_call_answer_everything(form: str) -> None:
    """The second is how geth refuses a batch; the other calls have no answer of their own, ever."""
    node = Node()
    node.raw = form % '"jsonrpc":"2.0","error":{"code":-32600,"message":"batch too large"}'
    async with linked(node) as link:
        outcomes = await link.exchange([Call("echo", (1,)), Call("echo", (2,))], batch=True)
        assert link._exchanges.waiting == {}
    assert [outcome.code for outcome in outcomes] == [-32600, -32600]


async def test_answers_that_came_before_the_link_ended_count() -> None:
    async with linked(Node()) as link:
        exchange = link.send([Call("echo", (1,)), Call("echo", (2,))], "gateway")
        await wait_all_tasks_blocked()
        link.drop("gone")
        assert exchange is not None
        assert await exchange.results() == [1, 2]


async def test_a_call_on_an_ended_link_fails() -> None:
    node = Node()
    async with linked(node) as link:
        node.hang_up()
        await link.ended.wait()
        with pytest.raises(Unreachable, match="closed"):
            await echo(link, 1)


async def test_what_is_no_json_rpc_ends_the_link() -> None:
    node = Node()
    node.raw = "<html>"
    async with linked(node) as link:
        with pytest.raises(Unreachable, match="no JSON-RPC"):
            await echo(link, 1)
        assert link.ended.is_set()


async def test_a_large_answer_fits() -> None:
    node = Node()
    node.methods["large"] = lambda: "x" * (8 * 1024 * 1024)
    async with linked(node) as link:
        (outcome,) = await link.exchange([Call("large")], batch=False)
    assert len(outcome) == 8 * 1024 * 1024
    assert MAX_MESSAGE > 8 * 1024 * 1024


async def test_pushes_ring_their_subscription_only() -> None:
    node, first, second = Node(), [], []  # type: ignore[var-annotated]
    async with linked(node) as link:
        one = await link.subscribe(("newHeads",), first.append)
        two = await link.subscribe(("logs", {}), second.append)
        await node.push(one, {"n": 1})
        await node.push(two, {"n": 2})
        await node.push("0x99", {"n": 3})
        await wait_all_tasks_blocked()
    assert (first, second) == ([b'{"n": 1}'], [b'{"n": 2}'])


@pytest.mark.slow
async def test_pings_are_answered_while_a_flood_of_pushes_comes() -> None:
    node, notified = Node(), []  # type: ignore[var-annotated]
    async with linked(node) as link:
        one = await link.subscribe(("newHeads",), notified.append)
        for number in range(3000):
            await node.push(one, number)
        with trio.fail_after(1):
            await node.connections[-1].ping()
        await wait_all_tasks_blocked()
    assert notified == [str(number).encode() for number in range(3000)]


def pieces_of(node: Node) -> list[bytes]:
    """Return what a node's connection receives from now on, as it comes."""
    pieces: list[bytes] = []
    peer = node.streams[-1].receive_stream
    receive_some = peer.receive_some

    async def noting(max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = await receive_some(max_bytes)
        pieces.append(bytes(data))
        return data

    peer.receive_some = noting
    return pieces


async def test_what_is_asked_in_one_moment_goes_out_in_one_piece() -> None:
    node = Node()
    async with linked(node) as link:
        await echo(link, 0)
        pieces = pieces_of(node)
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(echo, link, number)
    assert len(node.frames) == 11
    assert len(pieces) <= 2


async def test_callers_wait_while_the_wire_is_full_and_pings_are_dropped() -> None:
    node = Node()
    async with linked_over_a_full_wire(node) as link, trio.open_nursery() as nursery:
        nursery.start_soon(echo, link, 0)
        await wait_all_tasks_blocked()
        for number in range(OUTBOX + 10):
            nursery.start_soon(echo, link, number)
        await wait_all_tasks_blocked()
        await node.streams[-1].send_all(b"\x89\x00")
        await wait_all_tasks_blocked()
        waiting = link._outbox.statistics()
        nursery.cancel_scope.cancel()
    assert (waiting.current_buffer_used, waiting.tasks_waiting_send) == (OUTBOX, 10)


async def test_a_closing_is_answered_and_told() -> None:
    node = Node()
    async with linked(node) as link:
        connection = node.connections[-1]
        await node.streams[-1].send_all(b"\x88\x09\x03\xf4restart")
        await link.ended.wait()
        await wait_all_tasks_blocked()
        assert connection.closed is not None
        assert connection.closed.code == 1012
    assert link.reason == "ws://node:8546: closed with 1012 restart"


async def test_a_server_that_closes_and_reads_no_more_is_given_up_soon() -> None:
    node = Node()
    async with linked_over_a_full_wire(node) as link:
        await node.streams[-1].send_all(b"\x88\x00")
        with trio.fail_after(PARTING_SECONDS + 0.1):
            await link.ended.wait()


async def test_a_server_that_leaves_without_closing_is_given_up_at_once() -> None:
    node = Node()
    async with linked_over_a_full_wire(node) as link, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Unreachable, match="closed"):
                await echo(link, 0)

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        node.hang_up()
        with trio.fail_after(PARTING_SECONDS / 10):
            await link.ended.wait()


async def test_what_no_server_may_send_ends_the_link_with_the_reason() -> None:
    node = Node()
    async with linked(node) as link:
        await node.streams[-1].send_all(b"\x81\x80\0\0\0\0")
        with pytest.raises(Unreachable, match="must not begin with 0x8180"):
            await echo(link, 1)
        await link.ended.wait()
    assert link.reason == (
        "ws://node:8546: the server broke the protocol: a frame must not begin with 0x8180"
    )


async def test_a_message_before_the_end_still_counts() -> None:
    """The last answer and a fault in one piece: the answer is heard."""
    node = Node()
    node.hang.add("echo")
    async with linked(node) as link, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await echo(link, 7) == 7

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        answer = b'{"id":1,"result":7}'
        await node.streams[-1].send_all(bytes([0x81, len(answer)]) + answer + b"\xff\xff")


async def test_a_flood_of_frames_does_not_hold_up_the_loop() -> None:
    """A message of 32,000 empty frames takes a quarter of a second to read; others run in between."""
    node, turns = Node(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with linked(node) as link, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await node.streams[-1].send_all(b"\x01\x00" + b"\x00\x00" * 32_000)
        await node.streams[-1].send_all(b"\x88\x00")
        await link.ended.wait()
        nursery.cancel_scope.cancel()
    assert turns >= 32_000 // BREATH


async def test_dropping_fails_waiting_calls_with_the_reason() -> None:
    node = Node()
    node.hang.add("echo")

    async def fail(link: WebSocketLink) -> None:
        with pytest.raises(Unreachable, match="no patience"):
            await echo(link, 1)

    async with linked(node) as link, trio.open_nursery() as nursery:
        nursery.start_soon(fail, link)
        await wait_all_tasks_blocked()
        link.drop("no patience")
        link.drop("only the first reason counts")


async def test_a_cancelled_call_leaves_the_link_usable() -> None:
    node = Node()
    node.hang.add("echo")
    async with linked(node) as link:
        with trio.move_on_after(1):
            await echo(link, 1)
        node.hang.clear()
        assert await echo(link, 2) == 2
        assert not link.ended.is_set()
        assert link._exchanges.waiting == {}


async def test_a_late_answer_to_a_cancelled_call_is_dropped() -> None:
    node = Node()
    delays = iter([5.0, 0.0])

    async def delay() -> None:
        await trio.sleep(next(delays))

    node.on_frame = delay
    async with linked(node) as link:
        with trio.move_on_after(1):
            await echo(link, 1)
        await trio.sleep(10)
        assert await echo(link, 2) == 2


async def test_cancelling_while_the_wire_is_full_sends_no_half_frame() -> None:
    """The peer reads nothing for a while; the cancelled call's frame is then still whole, or not there at all."""
    ours, theirs = memory_stream_pair()
    gate = trio.Event()
    send_all = ours.send_stream.send_all

    async def slow(data: bytes) -> None:
        half = len(data) // 2
        await send_all(data[:half])
        await gate.wait()
        await send_all(data[half:])

    node = Node()

    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.serve, theirs, True)
        link = await nursery.start(run_websocket, dial, URL)
        ours.send_stream.send_all = slow  # type: ignore[assignment, method-assign]
        with trio.move_on_after(1):
            await echo(link, "x" * 1000)
        gate.set()
        assert await echo(link, 2) == 2
        nursery.cancel_scope.cancel()


async def test_the_handshake_carries_user_info_and_the_whole_target() -> None:
    seen: list[Any] = []

    async def serve(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            seen.append((request.path, dict(request.headers)))
            await request.accept()

    async with trio.open_nursery() as nursery:

        async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = memory_stream_pair()
            nursery.start_soon(serve, theirs)
            return ours

        await nursery.start(run_websocket, dial, URL)
        nursery.cancel_scope.cancel()
    path, headers = seen[0]
    assert (path, headers[b"authorization"]) == ("/v3/key?token=hidden", b"Basic dXNlcjpzZWNyZXQ=")


async def start(dial: Any) -> None:
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(run_websocket, dial, URL)
        finally:
            nursery.cancel_scope.cancel()


async def _refusal(dial: Any) -> str:
    with trio.fail_after(1), pytest.RaisesGroup(Unreachable, flatten_subgroups=True) as caught:
        await start(dial)
    return str(caught.value.exceptions[0])


async def test_a_server_without_websocket_is_unreachable() -> None:
    node = Node()
    node.websocket = False
    async with serving(node=node) as ports:
        assert await _refusal(ports.dial) == "ws://node:8546: no websocket, HTTP 404"


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"rubbish\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n"]
)
async def test_a_broken_handshake_is_unreachable_at_once(said: bytes) -> None:
    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = memory_stream_pair()
        await theirs.send_all(said)
        await theirs.send_stream.aclose()
        if not said:
            await theirs.aclose()
        return ours

    text = await _refusal(dial)
    assert text.startswith("ws://node:8546: ")
    assert "hidden" not in text


PING = b"\x89\x80"  # a masked frame without payload, as clients send it


async def test_an_idle_connection_is_pinged_every_ten_seconds() -> None:
    node = Node()
    async with linked(node) as link:
        pieces = pieces_of(node)
        await echo(link, 0)
        await trio.sleep(25)
        assert [piece[:2] for piece in pieces] == [PING, PING]
        assert not link.ended.is_set()
        await trio.sleep(1000)
        assert await echo(link, 1) == 1


async def test_a_server_that_answers_no_ping_is_gone() -> None:
    node = Node()
    async with linked(node) as link:

        async def swallow(data: bytes) -> None:
            await trio.lowlevel.checkpoint()

        await echo(link, 0)
        node.streams[-1].send_stream.send_all = swallow
        with trio.fail_after(4 * PULSE_SECONDS):
            await link.ended.wait()
        assert link.reason == "ws://node:8546: silent for 20 s"

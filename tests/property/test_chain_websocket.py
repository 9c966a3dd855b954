"""Law of the websocket: whatever bytes a server sends, the outcome is an Unreachable or an ended link, never a crash or a hang."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable

import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from kmsconn.chain.port import Call
from kmsconn.chain.websocket import WebSocketLink, run_websocket
from kmsconn.errors import Unreachable
from tests.sampling import examples

PIECES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"HTTP/1.1 101 Switching Protocols\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 401 No\r\nContent-Length: 5\r\n",
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
            b"Sec-WebSocket-Accept: x\r\n",
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"\r\n",
            b"\r\n\r\n",
        ]
    ),
)
FRAMES = st.one_of(
    st.binary(max_size=20),
    st.builds(
        lambda opcode, body: bytes([opcode, len(body)]) + body,
        st.integers(0, 255),
        st.one_of(
            st.binary(max_size=100),
            st.sampled_from(
                [b"{}", b"[]", b"<html>", b'{"id":1,"result":1}', b'{"id":null,"error":{}}', b"\x03\xe8"]
            ),
        ),
    ),
)
Serve = Callable[[trio.abc.Stream], Awaitable[None]]


def _run(serve: Serve, use: Callable[[WebSocketLink], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
                await trio.lowlevel.checkpoint()
                ours, theirs = memory_stream_pair()
                nursery.start_soon(serve, theirs)
                return ours

            with trio.fail_after(60):
                try:
                    link = await nursery.start(run_websocket, dial, "ws://node:1")
                except Unreachable:
                    pass
                else:
                    await use(link)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def _ask(link: WebSocketLink) -> None:
    try:
        await link.exchange([Call("echo")], batch=False)
    except Unreachable:
        return


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(PIECES, max_size=8).map(b"".join))
@example(b"rubbish\r\n\r\n")
def test_any_handshake_is_unreachable_in_the_end(said: bytes) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        try:
            await stream.receive_some()
            await stream.send_all(said)
            await stream.aclose()
        except trio.BrokenResourceError:
            pass

    _run(serve, _ask)


def _accept(request: bytes) -> bytes:
    key = request.lower().split(b"sec-websocket-key: ")[1].split(b"\r\n")[0]
    start = request.lower().index(b"sec-websocket-key: ") + len(b"sec-websocket-key: ")
    key = request[start : start + len(key)]
    token = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 - RFC 6455
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + token + b"\r\n\r\n"
    )


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(FRAMES, max_size=6), st.booleans())
def test_any_frames_are_an_answer_or_the_end_of_the_link(frames: list[bytes], at_once: bool) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        try:
            await stream.send_all(_accept(bytes(await stream.receive_some())))
            if at_once:
                await stream.send_all(b"".join(frames))
            else:
                for frame in frames:
                    await trio.sleep(1)
                    await stream.send_all(frame)
            await stream.aclose()
        except trio.BrokenResourceError:
            pass

    _run(serve, _ask)

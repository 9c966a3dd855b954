"""Law of the websocket: whatever bytes a server sends, the outcome is an Unreachable or an ended link, never a crash or a hang."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import trio
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection

from kmsconn.chain.logs import decode_logs
from kmsconn.chain.port import (
    MAX_MESSAGE,
    Call,
    RpcAnswer,
    RpcError,
    clean,
    decode,
    encode,
    is_overload,
    is_range_limit,
    rpc_error,
)
from kmsconn.chain.websocket import WebSocketLink, run_websocket
from kmsconn.chain.websocket_wire import NoWebsocket
from kmsconn.errors import Unreachable
from tests.property.test_grpc_laws import pieces_of
from tests.sampling import examples
from tests.unit.chain.test_websocket_wire import Server, wire_to

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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["id", "result", "error", "method", "params", "jsonrpc"])
OBJECTS = st.dictionaries(FIELDS, JSON, max_size=6)


@given(st.binary() | st.text())
def test_any_bytes_are_messages_or_unreachable(data: Any) -> None:
    try:
        messages = decode(data)
    except Unreachable:
        return
    assert isinstance(messages, list)


@given(st.lists(OBJECTS, max_size=4))
def test_any_objects_are_messages_or_left_out(objects: list[Any]) -> None:
    assert len(decode(json.dumps(objects))) <= len(objects)


@given(st.lists(JSON, min_size=1, max_size=6), st.integers(1, 2**40), st.randoms())
def test_answers_in_any_order_find_their_questions(values: list[Any], first: int, random: Any) -> None:
    asked = json.loads(encode(first, [Call("echo", (value,)) for value in values], batch=True))
    answers = [{"jsonrpc": "2.0", "id": one["id"], "result": one["params"][0]} for one in asked]
    random.shuffle(answers)
    found = {
        message.id: message.outcome
        for message in decode(json.dumps(answers))
        if isinstance(message, RpcAnswer)
    }
    assert [found[first + number] for number in range(len(values))] == values


@given(JSON)
def test_any_error_object_is_a_printable_short_error(error: Any) -> None:
    found = rpc_error(json.dumps(error).encode())
    assert isinstance(found, RpcError)
    assert len(found.message) <= MAX_MESSAGE
    assert found.message.isprintable()


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(st.integers(-40_000, 500), st.text())
def test_an_error_is_never_both_overload_and_range_limit(code: int, message: str) -> None:
    error = RpcError(code, message)
    assert not (is_overload(error) and is_range_limit(error))


@given(st.lists(JSON, max_size=4))
def test_any_log_objects_are_logs_or_told(found: list[Any]) -> None:
    logs, malformed = decode_logs(found)
    assert len(logs) + len(malformed) <= len(found)


LIMIT = 400
CUTS = st.lists(st.integers(0, 1 << 12), max_size=12)
CRAFTED = st.builds(
    lambda first, length, body: bytes([first]) + length + body,
    st.one_of(st.sampled_from([0x81, 0x82, 0x01, 0x00, 0x80, 0x88, 0x89, 0x8A]), st.integers(0, 255)),
    st.one_of(
        st.integers(0, 6).map(lambda size: bytes([size])),
        st.integers(0, 300).map(lambda size: b"\x7e" + size.to_bytes(2)),
        st.sampled_from([0, 125, 65_535, LIMIT + 1, 1 << 62]).map(lambda size: b"\x7f" + size.to_bytes(8)),
        st.integers(0, 255).map(lambda byte: bytes([byte])),
    ),
    st.sampled_from([b"", b"a", b"abc", b"\x03\xe8", "\u00e9\u20ac".encode(), b"x" * 126, b"y" * 300]),
)
BYTES = st.one_of(st.binary(max_size=60), st.lists(CRAFTED, max_size=6).map(b"".join))


@attrs.frozen
class Heard:
    """What became of the bytes of a server: its messages, the kinds of frames that are owed, and whether it is over."""

    messages: list[bytes]
    owed: list[int]
    ended: bool


def heard(pieces: Sequence[bytes]) -> Heard:
    server = Server(LIMIT)
    messages = [message for piece in pieces for message in server.says(piece)]
    return Heard(messages, server.owed_heads, server.wire.ended is not None)


@settings(deadline=None)
@given(BYTES, CUTS)
def test_any_bytes_mean_the_same_however_they_are_split(data: bytes, cuts: list[int]) -> None:
    whole = heard([data])
    event(f"{len(whole.messages)} messages, ended {whole.ended}")
    assert heard(pieces_of(data, cuts)) == whole


def read_by_the_library(data: bytes) -> list[bytes]:
    """Return the binary messages before the first one that is too long, or the end."""
    client, messages, pieces = Connection(ConnectionType.CLIENT), list[bytes](), b""
    client.receive_data(data)
    for one in client.events():
        if isinstance(one, CloseConnection):
            break
        if isinstance(one, BytesMessage):
            pieces += one.data
            if len(pieces) > LIMIT:
                break
            if one.message_finished:
                messages.append(pieces)
                pieces = b""
    return messages


@settings(deadline=None)
@given(BYTES, CUTS)
@example(data=b"\x00\x80", cuts=[])
def test_messages_are_what_the_library_reads(data: bytes, cuts: list[int]) -> None:
    """Of binary ones: it wants texts in UTF-8."""
    data = data.replace(b"\x81", b"\x82").replace(b"\x01", b"\x02")
    assert heard(pieces_of(data, cuts)).messages == read_by_the_library(data)


@settings(deadline=None)
@given(BYTES)
def test_nothing_over_the_limit_is_given(data: bytes) -> None:
    assert all(len(message) <= LIMIT for message in heard([data]).messages)


@settings(deadline=None)
@given(st.binary(max_size=80) | st.sampled_from([b"HTTP/1.1 101 x\r\n", b"HTTP/1.1 200 OK\r\n"]), CUTS)
def test_any_answer_to_the_handshake_opens_or_says_why_not(data: bytes, cuts: list[int]) -> None:
    wire, told = wire_to(), ""
    try:
        assert not any(wire.opens(piece) for piece in pieces_of(data, cuts) if piece)
    except NoWebsocket as error:
        told = str(error)
    assert "hidden" not in told

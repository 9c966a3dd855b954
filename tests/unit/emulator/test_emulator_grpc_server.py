"""The gRPC server, called by a plain h2 client over memory pipes in virtual time."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from kmsconn.emulator.grpc_server import (
    HEALTH_CHECK,
    CutConnection,
    GoAway,
    GrpcFailure,
    health_method,
    seconds_of,
)
from kmsconn.transport.grpc.framing import Status
from tests.unit.emulator.h2_caller import calling, framed

ECHO, FAIL, HANG, CUT, GOAWAY, SLOW = (f"/s/{name}" for name in ("E", "F", "H", "C", "G", "S"))


async def echo(request: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    return request


async def fail(request: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    raise GrpcFailure(Status.NOT_FOUND, "no key 50% ü\n")


async def hang(request: bytes) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def slow(request: bytes) -> bytes:
    await trio.sleep(10)
    return request


async def cut(request: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    raise CutConnection


async def go_away(request: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    raise GoAway


METHODS: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
    ECHO: echo,
    FAIL: fail,
    HANG: hang,
    SLOW: slow,
    CUT: cut,
    GOAWAY: go_away,
}


async def test_a_call_gets_its_reply_and_ok() -> None:
    async with calling(METHODS) as caller:
        outcome = await caller.call(ECHO, b"hello")
    assert (outcome.status, outcome.reply) == (0, b"hello")
    assert outcome.headers[":status"] == "200"
    assert outcome.headers["content-type"] == "application/grpc"


async def test_a_failure_is_trailers_only_with_a_percent_encoded_message() -> None:
    async with calling(METHODS) as caller:
        outcome = await caller.call(FAIL)
    assert (outcome.status, outcome.body) == (Status.NOT_FOUND.value, b"")
    assert outcome.message == "no key 50%25 %C3%BC%0A"


async def test_a_small_window_of_the_client_is_kept_to() -> None:
    """The reply waits for every grant."""
    async with calling(METHODS, window=1000, hold=True) as caller:
        stream_id = await caller.begin(ECHO)
        await caller.send(stream_id, framed(bytes(5000)))
        await trio.testing.wait_all_tasks_blocked()
        assert len(caller.outcomes[stream_id].body) == 1000
        caller.hold = False
        caller.h2.acknowledge_received_data(1000, stream_id)
        await caller.flush()
        assert len((await caller.wait(stream_id)).reply) == 5000


async def test_after_a_message_over_the_limit_the_connection_serves_on() -> None:
    async with calling(METHODS, max_message=1000) as caller:
        assert (await caller.call(ECHO, bytes(2_000_000))).status == Status.RESOURCE_EXHAUSTED.value
        assert (await caller.call(ECHO, bytes(1000))).reply == bytes(1000)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", Status.INTERNAL),
        (b"\0\0\0", Status.INTERNAL),
        (framed(b"one") + framed(b"two"), Status.INTERNAL),
        (framed(b"short")[:-1], Status.INTERNAL),
        (b"\x01" + framed(b"compressed")[1:], Status.UNIMPLEMENTED),
    ],
)
async def test_what_is_not_one_plain_message_is_refused(body: bytes, status: Status) -> None:
    async with calling(METHODS) as caller:
        stream_id = await caller.begin(ECHO)
        await caller.send(stream_id, body)
        assert (await caller.wait(stream_id)).status == status.value


async def test_a_reset_cancels_the_method() -> None:
    cancelled = trio.Event()

    async def watched(request: bytes) -> bytes:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()
        raise AssertionError

    async with calling({HANG: watched}) as caller:
        stream_id = await caller.begin(HANG)
        await caller.send(stream_id, framed(b""))
        await trio.testing.wait_all_tasks_blocked()
        await caller.reset(stream_id)
        await cancelled.wait()


async def test_a_reset_that_comes_with_the_question_leaves_the_connection_usable() -> None:
    async def at_once(request: bytes) -> bytes:
        return request

    head = [(":method", "POST"), (":scheme", "http"), (":path", ECHO), (":authority", "core")]
    async with calling({ECHO: at_once}) as caller:
        caller.h2.send_headers(1, head)
        caller.h2.send_data(1, framed(b"x"), end_stream=True)
        await caller.reset(1)
        assert (await caller.call(ECHO, b"y")).reply == b"y"


async def test_the_deadline_of_a_call_ends_it() -> None:
    async with calling(METHODS) as caller:
        start = trio.current_time()
        outcome = await caller.call(HANG, headers=(("grpc-timeout", "1500m"),))
        assert (outcome.status, trio.current_time() - start) == (Status.DEADLINE_EXCEEDED.value, 1.5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("2H", 7200), ("3M", 180), ("4S", 4), ("5m", 0.005), ("6u", 6e-6), ("7n", 7e-9)),
        *(("", math.inf), ("1", math.inf), ("-1S", math.inf), ("123456789S", math.inf)),
    ],
)
def test_a_timeout_header_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


async def test_a_cut_ends_every_call_of_the_connection() -> None:
    async with calling(METHODS) as caller:
        other = await caller.begin(HANG)
        await caller.send(other, framed(b""))
        outcome = await caller.call(CUT)
        assert caller.closed.is_set()
        assert outcome.headers == {}
        assert (await caller.wait(other)).headers == {}


async def test_goaway_lets_earlier_calls_end_and_names_the_refused_one() -> None:
    async with calling(METHODS) as caller:
        earlier = await caller.begin(SLOW)
        await caller.send(earlier, framed(b"earlier"))
        refused = await caller.begin(GOAWAY)
        await caller.send(refused, framed(b""))
        assert (await caller.wait(earlier)).reply == b"earlier"
        await caller.closed.wait()
    assert caller.goaway == earlier


@pytest.mark.parametrize("request_bytes", [b"\x0a", b"\x0a\x09core", b"\x0a\x01\xff"])
async def test_health_asked_in_bytes_that_are_no_message_is_internal(request_bytes: bytes) -> None:
    async with calling({HEALTH_CHECK: health_method({"core": lambda: True})}) as caller:
        assert (await caller.call(HEALTH_CHECK, request_bytes)).status == Status.INTERNAL.value

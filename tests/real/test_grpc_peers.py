"""Calls against foreign gRPC servers and the emulated Core's, each in a process of its own on a loopback socket."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio

from kmsconn.errors import Broken, Unreachable
from kmsconn.transport.grpc import link
from kmsconn.transport.grpc.channel import Channel
from kmsconn.transport.grpc.framing import NotProcessed, Status, StatusError
from tests.behaviours import REAL, shows
from tests.real.grpc_scene import channel_to, running_peer

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def library(request: pytest.FixtureRequest) -> str:
    """Return the server's library; ``shows`` chooses."""
    return str(request.param)


@pytest.fixture(scope="module")
def peer(library: str) -> Iterator[int]:
    """Run a server and return its port."""
    with running_peer(library) as running:
        yield running.port


@shows("messages of 0 bytes to 20 MiB arrive whole, both ways", *REAL)
@pytest.mark.parametrize("size", [0, 1, 300, 16_379, 16_384, 65_530, 65_535, MIB, 20 * MIB])
async def test_a_message_arrives_whole_both_ways(peer: int, size: int) -> None:
    message = random.Random(size).randbytes(size)
    async with channel_to(peer) as channel:
        assert await channel.unary("/test.Peer/Echo", [message]) == message


@shows("messages of 0 bytes to 20 MiB arrive whole, both ways", *REAL)
async def test_a_message_in_many_pieces_arrives_in_order(peer: int) -> None:
    pieces = [b"head", b"", b"x" * (3 * MIB), b"mid", b"y" * 100_000, *(b"%d" % n for n in range(1000))]
    async with channel_to(peer) as channel:
        assert await channel.unary("/test.Peer/Echo", pieces) == b"".join(pieces)


@shows("messages of 0 bytes to 20 MiB arrive whole, both ways", *REAL)
async def test_a_large_reply_to_a_small_question_arrives(peer: int) -> None:
    async with channel_to(peer) as channel:
        assert await channel.unary("/test.Peer/Make", [b"%d" % (20 * MIB)]) == bytes(range(256)) * (
            20 * MIB // 256
        )


@shows("messages of 0 bytes to 20 MiB arrive whole, both ways", *REAL)
async def test_a_large_question_gets_a_small_reply(peer: int) -> None:
    async with channel_to(peer) as channel:
        assert await channel.unary("/test.Peer/Length", [bytes(20 * MIB)]) == b"%d" % (20 * MIB)


@shows("every status with its text, in trailers alone or after headers", *REAL)
@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
async def test_every_status_comes_with_its_text(peer: int, status: Status) -> None:
    text = "100 % übel – „Zeile\n2“"
    async with channel_to(peer) as channel:
        with pytest.raises(StatusError) as caught:
            await channel.unary("/test.Peer/Fail", [f"{status.value}:{text}".encode()])
    assert (caught.value.status, caught.value.message, caught.value.spoken) == (status, text, True)


@shows("an unknown method is UNIMPLEMENTED", *REAL)
async def test_an_unknown_method_is_unimplemented(peer: int) -> None:
    async with channel_to(peer) as channel:
        with pytest.raises(StatusError) as caught:
            await channel.unary("/test.Peer/Nothing", [b"x"])
    assert caught.value.status is Status.UNIMPLEMENTED


@shows("a reply before the request was read", *REAL)
async def test_an_unknown_method_answers_although_the_question_is_large(peer: int) -> None:
    async with channel_to(peer) as channel:
        with pytest.raises(StatusError) as caught:
            await channel.unary("/test.Peer/Nothing", [bytes(20 * MIB)])
        assert caught.value.status is Status.UNIMPLEMENTED
        assert await channel.unary("/test.Peer/Echo", [b"still here"]) == b"still here"


async def _count(channel: Channel, what: str) -> int:
    return int(await channel.unary(f"/test.Peer/{what}", [b""]))


async def _at_least(channel: Channel, what: str, count: int) -> None:
    while await _count(channel, what) < count:  # noqa: ASYNC110 - another process
        await trio.sleep(0.01)


@shows("the deadline ends the call on both sides", *REAL)
async def test_the_deadline_of_the_scope_ends_the_call_here_and_at_the_server(peer: int) -> None:
    """A call that a busy machine lets arrive after its deadline never begins there; then there is another."""
    async with channel_to(peer) as channel:
        before = await _count(channel, "Cancelled")
        while await _count(channel, "Cancelled") == before:
            with trio.move_on_after(0.2) as scope, suppress(StatusError):
                await channel.unary("/test.Peer/Hang", [b"x"])
            assert trio.current_time() >= scope.deadline


@shows("a cancelled call is cancelled at the server, the connection stays", *REAL)
async def test_a_cancelled_call_is_cancelled_at_the_server_and_the_channel_goes_on(peer: int) -> None:
    async with channel_to(peer) as channel:
        hung, before = await _count(channel, "Hung"), await _count(channel, "Cancelled")
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(channel.unary, "/test.Peer/Hang", [b"x"])
            await _at_least(channel, "Hung", hung + 5)
            nursery.cancel_scope.cancel()
        await _at_least(channel, "Cancelled", before + 5)


@shows("300 uploads cancelled at any moment leave the windows as they were", "grpcio", "emulated")
async def test_300_cancelled_uploads_leave_the_windows_as_they_were(peer: int) -> None:
    """Not with grpclib, whose server loses the window of streams that are reset before their handler ran (its issue 217)."""
    async with channel_to(peer) as channel:
        for number in range(300):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.unary, "/test.Peer/Echo", [bytes(200_000)])
                await trio.sleep(0.0003 * (number % 10))
                nursery.cancel_scope.cancel()
        assert len(await channel.unary("/test.Peer/Echo", [bytes(5 * MIB)])) == 5 * MIB


@shows("50 calls at once get their own replies", *REAL)
async def test_50_concurrent_calls_get_their_own_replies(peer: int) -> None:
    async def ask(number: int) -> None:
        message = random.Random(number).randbytes(number * 10_000)
        assert await channel.unary("/test.Peer/Echo", [message]) == message

    async with channel_to(peer) as channel, trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, number)


@shows("a reply over our limit breaks its call only, at its first bytes", *REAL)
async def test_a_reply_over_our_limit(peer: int) -> None:
    async with channel_to(peer, max_message=MIB) as channel:
        assert len(await channel.unary("/test.Peer/Make", [b"%d" % MIB])) == MIB
        with pytest.raises(Broken, match=f"reply of {20 * MIB} bytes"):
            await channel.unary("/test.Peer/Make", [b"%d" % (20 * MIB)])
        assert await channel.unary("/test.Peer/Echo", [b"x"]) == b"x"


@shows("20 KB of metadata with the trailers", "grpcio", "grpclib")
async def test_much_metadata_is_taken(peer: int) -> None:
    async with channel_to(peer) as channel:
        assert await channel.unary("/test.Peer/Trail", [b"20000"]) == b"20000"


@shows("GOAWAY: earlier calls end well, later ones go over a new connection", "emulated")
@shows("GOAWAY: the call that was not processed is unreachable and says so", "emulated")
async def test_a_call_that_was_not_processed_says_so(peer: int) -> None:
    async with channel_to(peer) as channel, trio.open_nursery() as nursery:
        nursery.start_soon(channel.unary, "/test.Peer/Sleep", [b"0.5"])
        await channel.unary("/test.Peer/Echo", [b"1"])
        with pytest.raises(NotProcessed):
            await channel.unary("/test.Peer/GoAway", [b"x"])
        assert await channel.unary("/test.Peer/Echo", [b"2"]) == b"2"


@shows("our pings are answered: a long call on a silent connection goes on", *REAL)
async def test_a_long_call_on_a_silent_connection_goes_on(peer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grpcio takes two pings without data between them."""
    monkeypatch.setattr(link, "QUIET", 0.5)
    async with channel_to(peer) as channel:
        assert await channel.unary("/test.Peer/Sleep", [b"1.4"]) == b"1.4"


@shows("a server that refuses our pings gives a reason; the next call goes over a new connection", "grpcio")
async def test_a_server_that_has_enough_of_our_pings(peer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the pace of ours, one in 45 s, grpcio has enough after 225 s without any data."""
    monkeypatch.setattr(link, "QUIET", 0.01)
    monkeypatch.setattr(link, "PING_TIMEOUT", 0.3)
    async with channel_to(peer) as channel:
        with pytest.raises((StatusError, Unreachable), match=r"(?i)too.many.pings"):
            await channel.unary("/test.Peer/Hang", [b"x"])
        assert await channel.unary("/test.Peer/Echo", [b"x"]) == b"x"

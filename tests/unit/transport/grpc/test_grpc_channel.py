"""Dialling, losing and dialling again, in virtual time over memory streams."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import h2.settings
import pytest
import trio
from hyperframe.frame import GoAwayFrame
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from kmsconn.emulator.grpc_server import GoAway
from kmsconn.errors import Unreachable
from kmsconn.transport.grpc.channel import (
    CONNECT_TIME,
    LONGEST_PAUSE,
    REFUSALS,
    REFUSED_PAUSE,
    Address,
    Channel,
    open_channel,
)
from kmsconn.transport.grpc.frames import ErrorCode
from kmsconn.transport.grpc.framing import NotProcessed, Status, StatusError
from kmsconn.transport.ports import Ports, offload_inline
from tests.behaviours import SCRIPTED, shows
from tests.unit.transport.grpc.servers import Listener, Peer, listening, world


async def unreachable(channel: Channel, path: str = "/t.P/Echo", match: str = "host:50051") -> None:
    with pytest.raises(Unreachable, match=match):
        await channel.unary(path, [b"x"])


async def test_nothing_is_dialled_before_the_first_call() -> None:
    async with world(Peer().methods) as (network, _):
        await wait_all_tasks_blocked()
        assert network.dials == []


async def test_calls_share_one_connection() -> None:
    replies: list[bytes] = []

    async def ask(channel: Channel, number: int) -> None:
        replies.append(await channel.unary("/t.P/Echo", [b"%d" % number]))

    async with world(Peer().methods) as (network, channel):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, channel, number)
        assert len(network.dials) == 1
    assert sorted(map(int, replies)) == list(range(50))


async def test_a_5_mib_message_passes_the_server_s_windows_both_ways() -> None:
    message = bytes(range(256)) * (5 * 4096)
    async with world(Peer().methods) as (_, channel):
        assert await channel.unary("/t.P/Echo", [message[:100], message[100:]]) == message


# Failing.


async def test_nobody_there_is_unreachable_and_names_the_address_and_the_next_call_dials_again() -> None:
    async with world(Peer().methods) as (network, channel):
        network.refuse = True
        await unreachable(channel, match="host:50051: nobody there")
        network.refuse = False
        assert await channel.unary("/t.P/Echo", [b"x"]) == b"x"


async def test_dials_in_vain_keep_a_growing_distance() -> None:
    async with world(Peer().methods) as (network, channel):
        network.refuse = True
        for _ in range(12):
            await unreachable(channel)
        gaps = [later - earlier for earlier, later in zip(network.dials, network.dials[1:], strict=False)]
    assert [round(gap, 3) for gap in gaps] == sorted(round(gap, 3) for gap in gaps)
    assert gaps[0] == pytest.approx(0.075)
    assert gaps[-1] == pytest.approx(LONGEST_PAUSE * 0.75)


async def test_after_a_connection_of_use_the_next_dial_is_at_once() -> None:
    async with world(Peer().methods) as (network, channel):
        network.refuse = True
        for _ in range(5):
            await unreachable(channel)
        network.refuse = False
        await channel.unary("/t.P/Echo", [b"x"])
        await network.cut()
        await wait_all_tasks_blocked()
        before = trio.current_time()
        await channel.unary("/t.P/Echo", [b"x"])
        assert trio.current_time() == before


async def test_a_peer_that_hangs_up_at_once_is_dialled_with_pauses() -> None:
    dials = 0

    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        nonlocal dials
        dials += 1
        client, server = memory_stream_pair()
        await server.aclose()
        return client

    ports = Ports(dial=dial, offload=offload_inline, wall=lambda: 0.0, random=lambda: 0.5)
    async with open_channel("host", 50051, ports.dial, jitter=ports.random) as channel:
        for _ in range(20):
            await unreachable(channel)
    assert dials <= 21
    assert trio.current_time() > 10


async def test_a_peer_that_is_gone_for_half_an_hour_is_dialled_again() -> None:
    async with world(Peer().methods) as (network, channel):
        network.refuse = True
        while trio.current_time() < 2000:
            await unreachable(channel)
        network.refuse = False
        await channel.unary("/t.P/Echo", [b"x"])


async def test_a_peer_that_sends_each_connection_away_is_dialled_with_pauses() -> None:
    """GOAWAY once is a server that restarts, so the next dial is at once; a server that goes on so is left in peace."""

    async def go_away(_: bytes) -> bytes:
        raise GoAway

    async with world({**Peer().methods, "/t.P/GoAway": go_away}) as (network, channel):
        with trio.move_on_after(6):
            while True:
                with suppress(NotProcessed):
                    await channel.unary("/t.P/GoAway", [b"x"])
        gaps = [later - earlier for earlier, later in pairwise(network.dials)]
        assert gaps[0] == pytest.approx(REFUSED_PAUSE)
        assert gaps[-1] == pytest.approx(LONGEST_PAUSE * 0.75, abs=2 * REFUSED_PAUSE)
        assert len(gaps) < 10
        await channel.unary("/t.P/Echo", [b"x"])
        await network.cut()
        await wait_all_tasks_blocked()
        before = trio.current_time()
        await channel.unary("/t.P/Echo", [b"x"])
        assert trio.current_time() == before


async def test_a_dial_that_hangs_ends() -> None:
    async with world(Peer().methods) as (network, channel):
        network.hang = True
        await unreachable(channel, match="no connection within 10 s")
        assert trio.current_time() == CONNECT_TIME


async def test_a_lost_connection_fails_calls_in_flight_and_the_next_call_dials() -> None:
    async with world(Peer().methods) as (network, channel):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unreachable, channel, "/t.P/Hang")
            nursery.start_soon(unreachable, channel, "/t.P/Hang")
            await wait_all_tasks_blocked()
            await network.cut()
        assert await channel.unary("/t.P/Echo", [b"x"]) == b"x"
        assert len(network.dials) == 2


async def test_a_server_s_unavailable_is_its_word_and_no_lost_connection() -> None:
    async with world(Peer().methods) as (network, channel):
        with pytest.raises(StatusError) as caught:
            await channel.unary("/t.P/Fail", [b"14"])
        assert (caught.value.status, caught.value.spoken) == (Status.UNAVAILABLE, True)
        await channel.unary("/t.P/Echo", [b"x"])
        assert len(network.dials) == 1


@shows("a refused stream is repeated, twice at most", SCRIPTED)
async def test_a_refused_call_is_made_again() -> None:
    replies: list[bytes] = []

    async def ask(channel: Channel) -> None:
        replies.append(await channel.unary("/t.P/M", [b"x"]))

    async with listening() as (channel, listener, nursery):
        nursery.start_soon(ask, channel)
        for stream in (1, 3):
            await trio.sleep(1)
            listener.h2.reset_stream(stream, ErrorCode.REFUSED_STREAM)
            await listener.flush()
        await trio.sleep(1)
        await listener.answer(5)
        await wait_all_tasks_blocked()
    assert replies == [b"ok"]


@shows("a refused stream is repeated, twice at most", SCRIPTED)
async def test_a_call_that_is_refused_again_and_again_fails() -> None:
    async def refused(channel: Channel) -> None:
        with pytest.raises(NotProcessed, match="did not process"):
            await channel.unary("/t.P/M", [b"x"])

    async with listening() as (channel, listener, nursery):
        nursery.start_soon(refused, channel)
        for stream in (1, 3, 5):
            await trio.sleep(1)
            listener.h2.reset_stream(stream, ErrorCode.REFUSED_STREAM)
            await listener.flush()
        await trio.sleep(1)
        assert list(listener.requests) == [1, 3, 5]


async def test_goaway_fails_the_call_that_was_not_processed_and_the_next_one_dials() -> None:
    async def go_away(_: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        raise GoAway

    peer = Peer()
    async with world({**peer.methods, "/t.P/GoAway": go_away}) as (network, channel):
        replies: list[bytes] = []

        async def ask() -> None:
            replies.append(await channel.unary("/t.P/Hang", [b"long"]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            with pytest.raises(NotProcessed):
                await channel.unary("/t.P/GoAway", [b"x"])
            assert await channel.unary("/t.P/Echo", [b"x"]) == b"x"
            assert len(network.dials) == 2 + REFUSALS
            peer.release.set()
        assert replies == [b"long"]


@shows("GOAWAY: earlier calls end well, later ones go over a new connection", SCRIPTED)
async def test_calls_that_wait_for_a_stream_leave_for_another_connection_at_goaway() -> None:
    """The first connection has one place, and its call takes long: nobody who waits there must wait for that."""
    streams = [memory_stream_pair() for _ in range(2)]
    first, second = (Listener(server, max_concurrent_streams=1) for _, server in streams)

    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return streams.pop(0)[0]

    ports = Ports(dial=dial, offload=offload_inline, wall=lambda: 0.0, random=lambda: 0.5)
    async with (
        trio.open_nursery() as nursery,
        open_channel("host", 50051, ports.dial, jitter=ports.random) as channel,
    ):
        nursery.start_soon(first.run)
        nursery.start_soon(second.run)
        for _ in range(2):
            nursery.start_soon(channel.unary, "/t.P/M", [b"x"])
            await wait_all_tasks_blocked()
        await first.stream.send_all(GoAwayFrame(0, last_stream_id=1).serialize())
        await wait_all_tasks_blocked()
        assert list(second.requests) == [1]
        await second.answer(1)
        await first.answer(1)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


# Cancelling.


async def test_a_call_cancelled_at_any_point_leaves_the_channel_whole() -> None:
    """Cancel after 0, 1, 2 … rounds of the scheduler, until the call is over before that."""
    message = bytes(300_000)
    for rounds in range(500):
        peer = Peer()
        async with world(peer.methods) as (network, channel):
            done = False

            async def ask(channel: Channel = channel) -> None:
                nonlocal done
                assert await channel.unary("/t.P/Echo", [message]) == message
                done = True

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                for _ in range(rounds):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert await channel.unary("/t.P/Echo", [message]) == message
            assert len(network.dials) == 1
        if done:
            break
    assert done
    assert rounds > 20


async def test_a_waiting_call_cancelled_at_any_point_frees_its_slot() -> None:
    """With one stream allowed, the second call waits; it may be cancelled there too."""
    for rounds in range(60):
        async with listening(max_concurrent_streams=1) as (channel, listener, nursery):
            nursery.start_soon(channel.unary, "/t.P/M", [b"1"])
            await wait_all_tasks_blocked()
            async with trio.open_nursery() as waiting:
                waiting.start_soon(channel.unary, "/t.P/M", [b"2"])
                for _ in range(rounds):
                    await trio.lowlevel.checkpoint()
                waiting.cancel_scope.cancel()
            nursery.start_soon(channel.unary, "/t.P/M", [b"3"])
            await wait_all_tasks_blocked()
            assert len(listener.requests) == 1
            await listener.answer(1)
            await wait_all_tasks_blocked()
            assert len(listener.requests) == 2


async def test_a_caller_that_leaves_while_dialling_does_not_spoil_it_for_others() -> None:
    async with world(Peer().methods) as (network, channel):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.unary, "/t.P/Echo", [b"x"])
            nursery.cancel_scope.cancel()
        assert await channel.unary("/t.P/Echo", [b"y"]) == b"y"
        assert len(network.dials) <= 1


async def test_the_end_of_the_block_fails_calls_in_flight() -> None:
    async with trio.open_nursery() as nursery:
        async with world(Peer().methods) as (_, channel):
            nursery.start_soon(unreachable, channel, "/t.P/Hang")
            await wait_all_tasks_blocked()
        await unreachable(channel, match="closed")


async def test_the_end_of_the_block_fails_calls_that_wait_for_a_connection() -> None:
    async with trio.open_nursery() as nursery, world(Peer().methods) as (network, channel):
        network.hang = True
        nursery.start_soon(unreachable, channel)
        await wait_all_tasks_blocked()


# Waiting for the peer.


@shows("no more calls at once than the server allows; the others wait", SCRIPTED)
async def test_no_more_calls_are_open_than_the_server_allows() -> None:
    async with listening(max_concurrent_streams=2) as (channel, listener, nursery):
        nursery.start_soon(channel.unary, "/t.P/M", [b"0"])
        await wait_all_tasks_blocked()
        for number in range(4):
            nursery.start_soon(channel.unary, "/t.P/M", [b"%d" % number])
        await wait_all_tasks_blocked()
        assert sorted(listener.requests) == [1, 3]
        await listener.answer(3)
        await wait_all_tasks_blocked()
        assert sorted(listener.requests) == [1, 3, 5]


@shows("no more calls at once than the server allows; the others wait", SCRIPTED)
async def test_calls_go_on_when_the_server_allows_more_and_wait_when_it_allows_fewer() -> None:
    async def allow(listener: Listener, streams: int) -> None:
        listener.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: streams})
        await listener.flush()
        await wait_all_tasks_blocked()

    async with listening(max_concurrent_streams=0) as (channel, listener, nursery):
        for _ in range(5):
            nursery.start_soon(channel.unary, "/t.P/M", [b"x"])
        await wait_all_tasks_blocked()
        await allow(listener, 3)
        assert list(listener.requests) == [1, 3, 5]
        await allow(listener, 2)
        await listener.answer(1)
        await wait_all_tasks_blocked()
        assert list(listener.requests) == [1, 3, 5]
        await listener.answer(3)
        await wait_all_tasks_blocked()
        assert list(listener.requests) == [1, 3, 5, 7]


async def test_calls_that_wait_for_a_stream_go_on_when_the_connection_is_lost() -> None:
    async with listening(max_concurrent_streams=0) as (channel, listener, nursery):
        nursery.start_soon(unreachable, channel)
        await wait_all_tasks_blocked()
        await listener.stream.aclose()


async def test_a_server_that_never_says_its_settings_is_no_connection() -> None:
    mute: list[trio.abc.Stream] = []

    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        client, server = memory_stream_pair()
        mute.append(server)
        return client

    ports = Ports(dial=dial, offload=offload_inline, wall=lambda: 0.0, random=lambda: 0.5)
    async with open_channel("host", 50051, ports.dial, jitter=ports.random) as channel:
        await unreachable(channel, match="no connection within 10 s")


@shows("a stalled upload stops no other call", SCRIPTED)
async def test_a_stalled_upload_does_not_stop_another_call_s_answer() -> None:
    """The server grants no more than HTTP/2 begins with."""
    async with listening() as (channel, listener, nursery):
        replies: list[bytes] = []

        async def ask() -> None:
            replies.append(await channel.unary("/t.P/Hang", [b"long poll"]))

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        nursery.start_soon(channel.unary, "/t.P/Echo", [bytes(5_000_000)])
        await wait_all_tasks_blocked()
        hanging, _stalled = listener.requests
        await listener.answer(hanging)
        await wait_all_tasks_blocked()
        assert replies == [b"ok"]


def test_an_ipv6_address_is_named_in_brackets() -> None:
    assert Address("::1", 50051).authority == "[::1]:50051"

"""Websockets of a node, with a real client in virtual time; and one served without trio-websocket's tasks, spoken to by wsproto."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from kmsconn.emulator.network import Direction, MemoryNetwork, PipeConnection
from kmsconn.emulator.node_faults import NodeFault
from kmsconn.emulator.websocket import WebSocket, WebSocketClosed, accept_websocket
from kmsconn.ethereum.hexes import to_hex
from tests.unit.emulator.small_world import World, own_order, signed, world

MockClock = trio.testing.MockClock


@attrs.define
class Client:
    """A websocket client that keeps answers and notifications apart."""

    socket: WebSocketConnection
    made: World
    pushed: list[Any] = attrs.field(factory=list)

    async def receive(self) -> Any:
        return json.loads(await self.socket.get_message())

    async def send(self, method: str, *params: Any, number: int = 1) -> None:
        await self.socket.send_message(json.dumps({"id": number, "method": method, "params": params}))

    async def ask(self, method: str, *params: Any) -> Any:
        await self.send(method, *params)
        while "id" not in (answer := await self.receive()):
            self.pushed.append(answer["params"]["result"])
        return answer.get("result", answer.get("error"))

    async def pushes(self, seconds: float = 1.0) -> list[Any]:
        """Return what was pushed, and what comes within the next seconds."""
        with trio.move_on_after(seconds):
            while True:
                self.pushed.append((await self.receive())["params"]["result"])
        taken, self.pushed = self.pushed, []
        return taken


@asynccontextmanager
async def connected(made: World) -> AsyncIterator[Client]:
    network = MemoryNetwork()
    network.serve("node", 8545, made.node.serve)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        stream = await network("node", 8545)
        socket = await wrap_client_stream(nursery, cast("trio.SocketStream", stream), "node:8545", "/")
        yield Client(socket, made)
        assert network.crashes == []
        nursery.cancel_scope.cancel()


def places(pushed: list[Any]) -> list[tuple[str, bool]]:
    return [(log["blockNumber"], log["removed"]) for log in pushed]


async def test_answers_come_in_the_order_of_their_questions() -> None:
    async with connected(world()) as client:
        for number in range(20):
            await client.send("eth_blockNumber", number=number)
        assert [(await client.receive())["id"] for _ in range(20)] == list(range(20))


async def test_a_head_is_pushed_when_its_block_is_made(nursery: trio.Nursery) -> None:
    made = world()
    nursery.start_soon(made.chain.run)
    async with connected(made) as client:
        await client.ask("eth_subscribe", "newHeads")
        await client.receive()
        assert trio.current_time() == 0.25
    nursery.cancel_scope.cancel()


async def test_matching_logs_are_pushed_and_not_the_past() -> None:
    made = world()
    made.ask()
    made.chain.mine()
    async with connected(made) as client:
        await client.ask("eth_subscribe", "logs", {"address": to_hex(made.decryption.address)})
        await client.ask("eth_subscribe", "logs", {"address": "0x" + "77" * 20})
        assert await client.pushes() == []
        made.ask(1)
        made.chain.mine()
        assert places(await client.pushes()) == [("0x2", False)]


async def test_a_lagging_node_pushes_late() -> None:
    made = world()
    made.node.lag = 1
    async with connected(made) as client:
        await client.ask("eth_subscribe", "logs", {})
        made.ask()
        made.chain.mine()
        assert await client.pushes() == []
        made.chain.mine()
        assert places(await client.pushes()) == [("0x1", False)]


async def test_a_reorganisation_takes_back_logs_and_pushes_new_ones() -> None:
    made = world()
    async with connected(made) as client:
        await client.ask("eth_subscribe", "logs", {})
        first, second = made.ask(0), made.ask(1)
        made.chain.mine_many(2)
        await client.pushes()
        made.chain.reorg(2, arrange=own_order(second, first))
        assert places(await client.pushes()) == [("0x1", True)] * 2 + [("0x2", False)] * 2


async def test_a_head_that_goes_backward_is_no_news() -> None:
    made = world()
    async with connected(made) as client:
        await client.ask("eth_subscribe", "logs", {})
        made.ask()
        made.chain.mine_many(3)
        await client.pushes()
        made.node.lag = 3
        made.chain.mine()
        made.node.lag = 0
        made.chain.mine()
        assert await client.pushes() == []


async def test_an_ended_subscription_is_silent_and_others_do_not_exist() -> None:
    made = world()
    async with connected(made) as client:
        name = await client.ask("eth_subscribe", "newHeads")
        assert await client.ask("eth_unsubscribe", name) is True
        assert await client.ask("eth_unsubscribe", name) is False
        made.chain.mine()
        assert await client.pushes() == []
        assert (await client.ask("eth_subscribe", "syncing"))["code"] == -32601


async def test_a_question_may_be_forgotten_or_refused_for_the_rate() -> None:
    made = world()
    made.node.faults.misbehave(NodeFault.HANG, times=1)
    async with connected(made) as client:
        for number in (1, 2):
            await client.send("eth_blockNumber", number=number)
        assert (await client.receive())["id"] == 2
        made.node.faults.misbehave(NodeFault.RATE_LIMITED, times=1)
        assert (await client.ask("eth_blockNumber"))["code"] == -32005


async def test_a_silent_socket_sends_nothing_and_answers_pings() -> None:
    made = world()
    async with connected(made) as client:
        await client.ask("eth_subscribe", "newHeads")
        made.node.faults.misbehave(NodeFault.SILENT_SOCKET, times=1)
        made.chain.mine_many(5)
        assert await client.pushes() == []
        await client.socket.ping(b"are you there?")


async def test_notifications_may_be_lost_or_doubled() -> None:
    made = world()
    async with connected(made) as client:
        await client.ask("eth_subscribe", "newHeads")
        made.node.faults.misbehave(NodeFault.LOST_PUSH, times=1)
        made.node.faults.misbehave(NodeFault.DUPLICATE_PUSH, times=1)
        made.chain.mine_many(3)
        assert [head["number"] for head in await client.pushes()] == ["0x2", "0x2", "0x3"]


@pytest.mark.parametrize("fault", [NodeFault.HANG_UP, NodeFault.LOST_REPLY])
async def test_a_socket_may_be_closed_instead_of_an_answer(fault: NodeFault) -> None:
    made = world()
    made.node.faults.misbehave(fault, times=1)
    async with connected(made) as client:
        with pytest.raises(ConnectionClosed):
            await client.ask("eth_sendRawTransaction", to_hex(signed(0)))
    assert made.chain.intake.pending_nonce(made.chain.intake.check(signed(0)).sender) == (
        fault is NodeFault.LOST_REPLY
    )


async def test_a_burst_of_500_blocks_reaches_a_slow_reader_whole() -> None:
    made = world()
    async with connected(made) as client:
        await client.ask("eth_subscribe", "newHeads")
        made.chain.mine_many(500)
        await trio.sleep(60)
        assert len(await client.pushes(5)) == 500


LARGEST = 1000


class Peer:
    """A client's end, read by hand."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream, self.wire, self.pieces = stream, WSConnection(ConnectionType.CLIENT), 0

    async def send(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(self.wire.send(event) for event in events))

    async def receive(self) -> list[Event]:
        """Return the events of what comes next, in one piece."""
        data = await self.stream.receive_some()
        self.wire.receive_data(bytes(data) or None)
        return list(self.wire.events())


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Peer, WebSocket]]:
    pair = PipeConnection.between(Direction(), Direction())
    client = Peer(pair.client)
    await client.send(Request("dependency", "/path"))
    socket = await accept_websocket(pair.server, LARGEST)
    assert socket is not None
    assert isinstance((await client.receive())[0], AcceptConnection)
    yield client, socket


async def test_messages_are_texts_and_bytes() -> None:
    async with opened() as (client, socket):
        await client.send(TextMessage("one"), BytesMessage(b"two"))
        assert [await socket.get_message(), await socket.get_message()] == ["one", b"two"]


async def test_a_message_in_fragments_is_one() -> None:
    async with opened() as (client, socket):
        await client.send(TextMessage("on", message_finished=False), TextMessage("e"), TextMessage("two"))
        assert [await socket.get_message(), await socket.get_message()] == ["one", "two"]


async def test_messages_that_are_sent_together_come_in_one_piece() -> None:
    async with opened() as (client, socket):
        await socket.send_messages(["one", "two"])
        assert [event.data for event in await client.receive() if isinstance(event, TextMessage)] == [
            "one",
            "two",
        ]


async def test_a_ping_is_answered_while_a_message_is_waited_for() -> None:
    async with opened() as (client, socket), trio.open_nursery() as nursery:
        nursery.start_soon(socket.get_message)
        await client.send(Ping(b"x"))
        assert await client.receive() == [Pong(b"x")]
        await client.send(TextMessage("end"))


async def test_a_client_that_closes_is_answered_and_ends_the_messages() -> None:
    async with opened() as (client, socket):
        await client.send(TextMessage("last"), CloseConnection(1000))
        assert await socket.get_message() == "last"
        with pytest.raises(WebSocketClosed):
            await socket.get_message()
        assert isinstance((await client.receive())[-1], CloseConnection)
        with pytest.raises(WebSocketClosed):
            await socket.send_message("late")


@pytest.mark.parametrize(("sizes", "code"), [([LARGEST + 1], 1009), ([LARGEST, 1], 1009), ([], 1002)])
async def test_message_that_is_too_large_or_no_frame_ends_the_connection(sizes: list[int], code: int) -> None:
    async with opened() as (client, socket):
        if sizes:
            pieces = [BytesMessage(bytes(size), message_finished=False) for size in sizes]
            await client.send(*pieces, BytesMessage(b"end"), Ping())
        else:
            await client.stream.send_all(b"\xff" * 20)
        with pytest.raises(WebSocketClosed):
            await socket.get_message()
        (farewell,) = await client.receive()
        assert isinstance(farewell, CloseConnection)
        assert farewell.code == code


async def test_closing_waits_for_the_client() -> None:
    async with opened() as (client, socket), trio.open_nursery() as nursery:
        nursery.start_soon(socket.aclose)
        (farewell,) = await client.receive()
        assert isinstance(farewell, CloseConnection)
        await client.send(farewell.response())
        assert await client.stream.receive_some() == b""


async def test_bytes_after_both_have_closed_are_no_fault_of_the_server() -> None:
    async with opened() as (client, socket):
        await client.send(CloseConnection(1000))
        with pytest.raises(WebSocketClosed):
            await socket.get_message()
        await client.stream.send_all(b"more")
        await client.stream.aclose()
        await socket.aclose()


async def test_a_slow_client_holds_back_the_next_message() -> None:
    async with opened() as (client, socket), trio.open_nursery() as nursery:
        nursery.start_soon(socket.send_message, "x" * 200_000)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(socket.send_message, "y")
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 2
        texts = ""
        while "y" not in texts:
            texts += "".join(event.data for event in await client.receive() if isinstance(event, TextMessage))
    assert texts == "x" * 200_000 + "y"


async def test_a_client_that_wants_no_websocket_is_refused() -> None:
    pair = PipeConnection.between(Direction(), Direction())
    await pair.client.send_all(b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n")
    assert await accept_websocket(pair.server, LARGEST) is None
    assert b" 400 " in await pair.client.receive_some()

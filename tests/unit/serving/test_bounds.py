"""What each kind of client may hold, and for how long: slow, endless, oversized, too many, gone."""

from __future__ import annotations

import h11
import pytest
import trio
import trio.testing

from kmsconn.emulator.network import Direction, PipeConnection
from kmsconn.requests.snapshot import HttpApiStatistics
from kmsconn.serving import decryptions as http_api
from kmsconn.serving.clients import KNOWN_ADDRESSES, KNOWN_HOLD, ClientConnection, Connections
from kmsconn.serving.decryptions import IDLE_SECONDS, REQUEST_SECONDS
from kmsconn.serving.exchange import GRACE_SECONDS, LINGER_SECONDS, PIECE_BYTES
from tests.unit.serving.scene import KEY, FakeDecryptions, Scene, public_body, serving

PUBLIC = "/v1/public-decrypt"
HEAD = b"POST /v1/public-decrypt HTTP/1.1\r\nHost: kms\r\n"


async def until_closed(scene: Scene, *pieces: bytes, pause: float = 0) -> tuple[bytes, float]:
    """Send pieces with pauses; return what came until the server closed, and when that was."""
    client, started = scene.client(), trio.current_time()

    async def send() -> None:
        for piece in pieces:
            try:
                await client.stream.send_all(piece)
            except trio.BrokenResourceError:
                return
            await trio.sleep(pause)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        data = await client.until_closed()
        nursery.cancel_scope.cancel()
    return data, trio.current_time() - started


@pytest.mark.parametrize("asked", [0, 1])
async def test_a_client_that_asks_nothing_or_no_more_is_closed(scene: Scene, asked: int) -> None:
    client = scene.client()
    for _ in range(asked):
        await client.post(PUBLIC, public_body())
    started = trio.current_time()
    assert await client.until_closed() == b""
    assert trio.current_time() - started == IDLE_SECONDS
    await trio.testing.wait_all_tasks_blocked()
    assert scene.service.statistics().connections == 0


FAULTY = {
    "a head that comes by and by": ([b"G"] * 1000, 1, b"408", REQUEST_SECONDS),
    "an endless head": ([HEAD, *[b"X-Filler: " + b"x" * 1000 + b"\r\n"] * 100], 0, b"431", 0),
    "garbage": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"], 0, b"400", 0),
}


@pytest.mark.parametrize(("pieces", "pause", "status", "seconds"), FAULTY.values(), ids=FAULTY)
async def test_what_becomes_no_request_is_refused_in_time(
    scene: Scene, pieces: list[bytes], pause: float, status: bytes, seconds: float
) -> None:
    data, ended = await until_closed(scene, *pieces, pause=pause)
    assert data.startswith(b"HTTP/1.1 " + status)
    assert seconds <= ended <= seconds + LINGER_SECONDS


async def test_a_body_that_comes_by_and_by_has_its_time_and_is_told_so(scene: Scene) -> None:
    head = HEAD + b"Content-Length: 100000\r\n\r\n"
    data, seconds = await until_closed(scene, head, *[b" "] * 1000, pause=1)
    assert data.startswith(b"HTTP/1.1 408 ")
    assert REQUEST_SECONDS <= seconds <= REQUEST_SECONDS + 2
    assert scene.answered == [(PUBLIC, 408, "request_timeout", "")]


async def test_a_declared_length_beyond_the_limit_is_refused_before_the_body(scene: Scene) -> None:
    client = scene.client()
    await client.stream.send_all(HEAD + b"Content-Length: 1048577\r\n\r\n")
    data = bytes(await client.stream.receive_some(65536))
    assert data.startswith(b"HTTP/1.1 400 ")
    assert trio.current_time() == 0


async def test_a_body_of_the_greatest_size_is_read() -> None:
    async with serving(max_body_bytes=400) as scene:
        assert (
            await scene.client().post(PUBLIC, public_body() + b" " * (400 - len(public_body())))
        ).status == 200
        assert (
            await scene.client().post(PUBLIC, public_body() + b" " * (401 - len(public_body())))
        ).status == 400


async def test_an_endless_body_is_refused_at_its_limit_and_the_client_reads_why(scene: Scene) -> None:
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    data, seconds = await until_closed(scene, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 2000)
    assert data.startswith(b"HTTP/1.1 400 ")
    assert seconds <= 2
    await trio.sleep(LINGER_SECONDS + 0.1)
    assert scene.service.statistics() == HttpApiStatistics(
        places=1000, connections_limit=scene.service.statistics().connections_limit
    )


async def test_a_refused_client_that_sends_on_is_closed_soon(keyed: Scene) -> None:
    data, seconds = await until_closed(
        keyed, HEAD + b"Content-Length: 900000\r\n\r\n", *[b" " * 1000] * 900, pause=0.1
    )
    assert data.startswith(b"HTTP/1.1 401 ")
    assert seconds <= 2


async def test_a_refused_client_whose_body_comes_whole_keeps_its_connection(keyed: Scene) -> None:
    client = keyed.client()
    assert (await client.post(PUBLIC, public_body())).status == 401
    assert (await client.post(PUBLIC, public_body(), KEY)).status == 200


@pytest.mark.parametrize(("expect", "seconds"), [(b"", LINGER_SECONDS), (b"Expect: 100-continue\r\n", 0)])
async def test_a_refused_client_that_owes_a_little_has_a_moment_for_it_unless_it_holds_it_back(
    keyed: Scene, expect: bytes, seconds: float
) -> None:
    client = keyed.client()
    await client.stream.send_all(HEAD + expect + b"Content-Length: 100\r\n\r\n")
    answer = bytes(await client.stream.receive_some(65536))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer
    assert trio.current_time() == seconds


async def test_who_waits_for_an_answer_sends_a_bounded_part_of_its_next_request() -> None:
    async with serving(FakeDecryptions(seconds=25)) as scene:
        connection = PipeConnection.between(Direction(), Direction(), 1024)
        scene.listener.offer(connection.server)
        await connection.client.send_all(
            HEAD + b"Content-Length: %d\r\n\r\n" % len(public_body()) + public_body()
        )
        with trio.move_on_after(20) as sending:
            await connection.client.send_all(HEAD + b" " * 4 * PIECE_BYTES)
        assert sending.cancelled_caught
        assert bytes(await connection.client.receive_some(12)) == b"HTTP/1.1 200"


async def test_a_client_that_leaves_before_its_refusal_leaves_nothing(keyed: Scene) -> None:
    refusals = keyed.service.answers.refusals
    refusals._next = trio.current_time() + 2
    client = keyed.client()
    await client.stream.send_all(HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(500_000))
    await trio.testing.wait_all_tasks_blocked()
    await client.stream.aclose()
    await trio.sleep(10)
    assert keyed.service.statistics().connections == 0


async def test_there_is_no_answer_yet_after_the_timeout() -> None:
    async with serving(FakeDecryptions(seconds=1000), decryption_timeout=30.0) as scene:
        answer = await scene.client().post(PUBLIC, public_body())
        assert trio.current_time() == 30
    assert (answer.status, answer.json["code"], answer.json["retryable"]) == (504, "timeout", True)
    assert "decryptionId" in answer.json


async def test_a_client_that_leaves_frees_its_place() -> None:
    async with serving(FakeDecryptions(seconds=1000), max_in_flight_decryptions=1) as scene:
        leaving = scene.client()
        await leaving.send("POST", PUBLIC, public_body())
        await trio.sleep(1)
        assert (await scene.client().post(PUBLIC, public_body())).status == 503
        await leaving.stream.aclose()
        await trio.sleep(1)
        assert scene.service.statistics().waiting == 0
        assert scene.decryptions.cancelled == 1
    assert (PUBLIC, 0, "client_gone", "") in scene.answered


async def test_who_finds_no_place_is_told_to_come_back() -> None:
    async with serving(FakeDecryptions(seconds=5), max_in_flight_decryptions=2) as scene:
        waiting = [scene.client() for _ in range(2)]
        for client in waiting:
            await client.send("POST", PUBLIC, public_body())
        await trio.sleep(1)
        answer = await scene.client().post(PUBLIC, public_body())
        assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
        assert [(await client.read()).status for client in waiting] == [200, 200]
        assert (await scene.client().post(PUBLIC, public_body())).status == 200


async def test_new_client_takes_the_place_of_one_that_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api, "connections_limit", lambda _: 3)
    async with serving(FakeDecryptions(seconds=5)) as scene:
        waiting = scene.client()
        await waiting.send("POST", PUBLIC, public_body())
        await trio.sleep(1)
        silent = [scene.client() for _ in range(500)]
        assert (await scene.client().ask("GET", "/version")).status == 200
        assert (await waiting.read()).status == 200
        await silent[-1].stream.aclose()
    assert scene.service.statistics().dropped >= 498


async def test_who_waits_is_not_dropped_for_a_new_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api, "connections_limit", lambda _: 2)
    async with serving(FakeDecryptions(seconds=5)) as scene:
        waiting = [scene.client() for _ in range(2)]
        for client in waiting:
            await client.send("POST", PUBLIC, public_body())
        await trio.sleep(1)
        assert await scene.client().until_closed() == b""
        assert [(await client.read()).status for client in waiting] == [200, 200]


async def test_bodies_hold_a_bounded_number_of_bytes(scene: Scene) -> None:
    scene.service.answers.bodies.limit = 1000
    holder = scene.client()
    await holder.stream.send_all(HEAD + b"Content-Length: 2000\r\n\r\n" + b" " * 900)
    await trio.sleep(1)
    answer = await scene.client().post(PUBLIC, public_body())
    assert (answer.status, answer.json["code"]) == (503, "overloaded")
    await holder.stream.aclose()
    await trio.sleep(1)
    assert (await scene.client().post(PUBLIC, public_body())).status == 200


async def test_closing_lets_answers_out_and_listens_no_more() -> None:
    async with serving(FakeDecryptions(seconds=5)) as scene:
        waiting, idle, silent = scene.client(), scene.client(), scene.client()
        await waiting.send("POST", PUBLIC, public_body())
        assert (await idle.ask("GET", "/version")).status == 200
        await trio.sleep(1)
        scene.service.close()
        assert await idle.until_closed() == b""
        assert await silent.until_closed() == b""
        assert trio.current_time() == 1
        answer = await waiting.read()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        with pytest.raises(trio.BrokenResourceError):
            scene.client()


async def test_closing_waits_for_nobody_for_ever() -> None:
    async with serving(FakeDecryptions(seconds=1000), decryption_timeout=500.0) as scene:
        waiting = scene.client()
        await waiting.send("POST", PUBLIC, public_body())
        await trio.sleep(1)
        scene.service.close()
        assert await waiting.until_closed() == b""
        assert trio.current_time() == 1 + GRACE_SECONDS


async def test_cancelling_the_server_closes_everything_at_once() -> None:
    async with serving(FakeDecryptions(seconds=1000)) as scene:
        waiting = scene.client()
        await waiting.send("POST", PUBLIC, public_body())
        await trio.sleep(1)
    assert await waiting.until_closed() == b""
    assert trio.current_time() == 1


async def test_expect_continue_is_answered(scene: Scene) -> None:
    client, body = scene.client(), public_body()
    head = [("Host", "kms"), ("Content-Length", str(len(body))), ("Expect", "100-continue")]
    request = h11.Request(method="POST", target=PUBLIC, headers=head)
    await client.stream.send_all(client.http.send(request) or b"")
    assert b" 100 " in bytes(await client.stream.receive_some(65536))
    await client.stream.send_all(client.http.send(h11.Data(data=body)) or b"")
    client.http.send(h11.EndOfMessage())
    assert (await client.read()).status == 200


def admitted(table: Connections, *addresses: str) -> list[ClientConnection]:
    """Return new connections, one for each address."""
    found = [table.admit(address) for address in addresses]
    assert None not in found
    return [one for one in found if one is not None]


def closed(connections: list[ClientConnection]) -> list[int]:
    """Return the numbers of those that were dropped."""
    return [number for number, one in enumerate(connections) if one.scope.cancel_called]


async def test_the_oldest_of_the_address_with_the_most_connections_goes() -> None:
    table = Connections(5)
    connections = admitted(table, "a", "b", "b", "b", "c", "d")
    assert closed(connections) == [1]
    assert (len(table), table.dropped) == (5, 1)


async def test_who_waits_is_counted_for_no_address_and_does_not_go() -> None:
    table = Connections(4)
    connections = admitted(table, "b", "b", "b", "a")
    with table.waiting(connections[0]), table.waiting(connections[1]), table.waiting(connections[2]):
        connections += admitted(table, "b")
        assert closed(connections) == [3]
    admitted(table, "c")
    assert closed(connections) == [3, 4]
    for _ in range(KNOWN_HOLD):
        admitted(table, "b")
    assert closed(connections) == [0, 1, 2, 3, 4], "who has waited may be dropped again"


async def test_connections_of_an_address_that_was_let_in_before_are_dropped_later() -> None:
    table = Connections(4)
    connections = admitted(table, "a", "a")
    with table.waiting(connections[0]):
        connections += admitted(table, "b", "c")
    connections += admitted(table, "d", "e", "f")
    assert closed(connections) == [2, 3, 4]


async def test_a_bounded_number_of_addresses_is_remembered() -> None:
    table = Connections(1)
    for number in range(KNOWN_ADDRESSES + 1):
        [connection] = admitted(table, str(number))
        with table.waiting(connection):
            table.release(connection)
    assert [table.knows(str(number)) for number in (0, 1, KNOWN_ADDRESSES)] == [False, True, True]


async def test_where_everybody_waits_a_new_client_finds_no_place() -> None:
    table = Connections(1)
    [connection] = admitted(table, "a")
    with table.waiting(connection):
        assert table.admit("b") is None
    assert not connection.scope.cancel_called
    assert table.dropped == 1


async def test_one_that_has_ended_while_it_waited_is_forgotten() -> None:
    table = Connections(1)
    [connection] = admitted(table, "a")
    with table.waiting(connection):
        table.release(connection)
    assert len(table) == 0
    assert closed([connection, *admitted(table, "b")]) == []

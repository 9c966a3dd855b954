"""One connection of a port in virtual time: clients that say nothing, take nothing, leave, or send more than they were asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h11
import pytest
import trio
import trio.testing
from trio.testing import memory_stream_pair

from kmsconn.emulator.network import Direction, PipeConnection
from kmsconn.model.http_answers import FailureCode, HttpFailure
from kmsconn.observe.server import BOUNDS, port_of
from kmsconn.serving.clients import FREE_STEPS, STEPS_PER_SECOND, Connections, Pace
from kmsconn.serving.decryptions import REFUSED_PER_SECOND, SERVED_AT_ONCE, SERVED_PER_SECOND
from kmsconn.serving.exchange import LINGER_SECONDS, Exchange
from kmsconn.serving.wire import LiveAnswer, ServedAnswer, ServedRequest
from tests.unit.serving.scene import KEY, Client, FakeDecryptions, Scene, key, public_body, serving

REQUEST = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"


def page(request: ServedRequest) -> ServedAnswer:
    return ServedAnswer(200, "text/plain", request.path.encode())


async def exchange(stream: Any, answers: Callable[[ServedRequest], Any] = page) -> None:
    """Serve one connection of the monitoring port."""
    port = port_of(answers)
    connection = port.connections.admit("a")
    assert connection is not None
    await Exchange(stream, connection, port).run()


async def read(stream: trio.abc.ReceiveStream) -> bytes:
    pieces = [piece async for piece in stream]
    return b"".join(map(bytes, pieces))


async def test_a_request_gets_its_answer_and_the_end() -> None:
    client, server = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange, server)
        await client.send_all(REQUEST * 3)
        said = await read(client)
        await client.aclose()
    assert (said.count(b"HTTP/1.1 200"), said[-8:]) == (1, b"/metrics")
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    ("sent", "said", "seconds"), [(b"", b"", 0.0), (REQUEST[:-2], b"HTTP/1.1 408 ", LINGER_SECONDS)]
)
async def test_a_client_that_does_not_ask_is_let_go_and_told_so_if_it_began(
    sent: bytes, said: bytes, seconds: float
) -> None:
    client, server = memory_stream_pair()
    await client.send_all(sent)
    await exchange(server)
    assert trio.current_time() == BOUNDS.request + seconds
    await server.aclose()
    assert (await read(client)).startswith(said)


async def test_a_client_that_takes_nothing_is_let_go() -> None:
    """Reproduced: clients that asked and never read held 1,024 descriptors for ever."""
    connection = PipeConnection.between(Direction(), Direction(), 1024)
    await connection.client.send_all(REQUEST)
    await exchange(connection.server, lambda _: ServedAnswer(200, "text/plain", b"m" * 100_000))
    assert trio.current_time() == BOUNDS.answer


async def test_a_client_that_never_closes_is_let_go() -> None:
    client, server = memory_stream_pair()
    await client.send_all(REQUEST)
    await exchange(server)
    assert trio.current_time() == LINGER_SECONDS


async def test_a_fault_of_this_program_costs_an_answer_and_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, server = memory_stream_pair()
    await client.send_all(REQUEST)
    await exchange(server, lambda request: 1 / 0)
    assert (await client.receive_some()).startswith(b"HTTP/1.1 500 ")
    assert "ZeroDivisionError" in caplog.text


async def test_what_is_waited_for_is_answered() -> None:
    async def later(_request: ServedRequest) -> ServedAnswer:
        await trio.sleep(1)
        return ServedAnswer(200)

    client, server = memory_stream_pair()
    await client.send_all(REQUEST)
    await exchange(server, later)
    assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")


class Viewer:
    """An answer without an end that gives a piece a second, and how many of its clients are gone."""

    def __init__(self, size: int = 1) -> None:
        self.size, self.closed = size, 0

    async def next_piece(self) -> bytes:
        await trio.sleep(1)
        return b"p" * self.size

    def close(self) -> None:
        self.closed += 1

    def page(self, _request: ServedRequest) -> LiveAnswer:
        return LiveAnswer("text/event-stream", self.next_piece, self.close)


async def test_an_answer_without_an_end_comes_piece_by_piece() -> None:
    viewer, (client, server) = Viewer(), memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await client.send_all(REQUEST)
        nursery.start_soon(exchange, server, viewer.page)
        assert b"content-type: text/event-stream" in (await client.receive_some()).lower()
        pieces = [(bytes(await client.receive_some()), trio.current_time()) for _ in range(3)]
        nursery.cancel_scope.cancel()
    assert pieces == [(b"1\r\np\r\n", second) for second in (1.0, 2.0, 3.0)]
    assert viewer.closed == 1


async def test_a_client_that_takes_no_piece_is_let_go() -> None:
    viewer, connection = Viewer(100_000), PipeConnection.between(Direction(), Direction(), 1024)
    await connection.client.send_all(REQUEST)
    await exchange(connection.server, viewer.page)
    assert (trio.current_time(), viewer.closed) == (1 + BOUNDS.answer, 1)


async def test_a_client_that_leaves_is_noticed_at_the_next_piece() -> None:
    viewer, (client, server) = Viewer(), memory_stream_pair()
    await client.send_all(REQUEST)

    async def leave() -> None:
        await trio.sleep(1.5)
        await client.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await exchange(server, viewer.page)
    assert (trio.current_time(), viewer.closed) == (2, 1)


async def test_head_of_an_answer_without_an_end_is_its_head() -> None:
    viewer, (client, server) = Viewer(), memory_stream_pair()
    await client.send_all(REQUEST.replace(b"GET", b"HEAD"))
    await exchange(server, viewer.page)
    assert (trio.current_time(), viewer.closed) == (0, 1)


PUBLIC = "/v1/public-decrypt"
STEPS = 40
"""More than the connection's task and that which waits with it have."""


class AtStep(trio.abc.Instrument):
    """Calls once, before the server's tasks make their step of a number."""

    def __init__(self, number: int, strike: Callable[[], None]) -> None:
        self._number, self._strike = number, strike
        self.struck = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if "Server._attend" in task.name or task.name.endswith("._leave"):
            self._number -= 1
            if self._number == 0:
                self.struck = True
                self._strike()


async def posts(client: Client) -> None:
    """Post without a key and with one, the bodies behind the heads, and ask for a last answer."""
    bearer = {"Authorization": f"Bearer {KEY}"}
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
        await client.ask("POST", PUBLIC, public_body())
        await client.ask("POST", PUBLIC, public_body(), bearer)
        await client.ask("GET", "/version", None, {**bearer, "Connection": "close"})


def evict(scene: Scene, _client: Client) -> None:
    for connection in scene.service.answers.port.connections._open:
        connection.scope.cancel()


def leave(_scene: Scene, client: Client) -> None:
    """As a client whose machine is gone."""
    stream = client.stream
    assert isinstance(stream, trio.StapledStream)
    stream.send_stream.close()
    stream.receive_stream.close()


@pytest.mark.parametrize("strike", [evict, leave])
async def test_a_connection_that_ends_at_any_step_leaves_nothing(
    strike: Callable[[Scene, Client], None],
) -> None:
    struck = 0
    for number in range(1, STEPS + 1):
        async with serving(FakeDecryptions(seconds=1), keys=(key(max_in_flight=1),)) as scene:
            client = scene.client()
            at = AtStep(number, lambda scene=scene, client=client: strike(scene, client))  # type: ignore[misc]
            trio.lowlevel.add_instrument(at)
            await posts(client)
            await client.stream.aclose()
            await trio.sleep(100)
            trio.lowlevel.remove_instrument(at)
            struck += at.struck
            statistics = scene.service.statistics()
            assert (statistics.connections, statistics.waiting, statistics.body_bytes) == (0, 0, 0), number
            assert [one.in_flight for one in scene.service.answers.clients._clients] == [0], number
            assert (await scene.client().post(PUBLIC, public_body(), KEY)).status == 200, number
    assert 30 < struck < STEPS


HEAD = b"POST /v1/public-decrypt HTTP/1.1\r\nHost: kms\r\n"


async def elapsed(pace: Pace, turns: int) -> float:
    started = trio.current_time()
    for _ in range(turns):
        await pace.turn()
    return trio.current_time() - started


async def test_turns_come_at_once_up_to_the_burst_and_then_at_their_pace() -> None:
    pace = Pace(10, 5)
    assert await elapsed(pace, 6) == 0
    assert round(await elapsed(pace, 20), 6) == 2
    await trio.sleep(100)
    assert await elapsed(pace, 6) == 0, "a rest gives back a burst, and no more"
    assert round(await elapsed(pace, 10), 6) == 1


async def test_all_wait_for_the_same_turns() -> None:
    pace, started = Pace(10, 1), trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(21):
            nursery.start_soon(elapsed, pace, 1)
    assert round(trio.current_time() - started, 6) >= 1.9


async def test_refusals_wait_for_their_turn_and_answers_do_not(keyed: Scene) -> None:
    started = trio.current_time()
    await _refused(keyed, 2 * REFUSED_PER_SECOND)
    assert 0.9 < trio.current_time() - started < 1.5
    before = trio.current_time()
    assert (await keyed.client().post(PUBLIC, public_body(), KEY)).status == 200
    assert trio.current_time() == before


async def test_paths_that_are_none_wait_for_their_turn_too(scene: Scene) -> None:
    client, started = scene.client(), trio.current_time()
    for path in ("/", "/v1/public-decrypt") * REFUSED_PER_SECOND:
        assert (await client.ask("GET", path)).status in {404, 405}
    assert 0.9 < trio.current_time() - started < 1.5


async def test_a_connection_that_is_used_again_and_again_is_not_slowed(scene: Scene) -> None:
    client = scene.client()
    for _ in range(STEPS_PER_SECOND):
        await client.ask("GET", "/version")
    assert trio.current_time() == 0


async def test_the_end_of_what_was_worked_on_is_told_at_once() -> None:
    fails = HttpFailure(FailureCode.ACL_DENIED, "no")
    async with serving(FakeDecryptions(fails=fails), keys=(key(),)) as scene:
        await _refused(scene, 2 * REFUSED_PER_SECOND)
        before = trio.current_time()
        assert (await scene.client().post(PUBLIC, public_body(), KEY)).status == 403
        assert trio.current_time() == before


async def _refused(scene: Scene, times: int) -> None:
    async def ask(client: Client) -> None:
        assert (await client.post(PUBLIC, public_body())).status == 401

    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(ask, scene.client())


async def test_the_first_pieces_of_each_request_are_free() -> None:
    [connection] = [Connections(1).admit("a")]
    assert connection is not None
    for _ in range(FREE_STEPS + 3 * STEPS_PER_SECOND):
        await connection.step()
    slowed = trio.current_time()
    assert 1.9 < slowed < 2.1
    connection.taken = 0
    for _ in range(FREE_STEPS):
        await connection.step()
    assert trio.current_time() == slowed


async def test_a_body_in_tiny_chunks_is_slowed_and_the_usual_one_is_not(scene: Scene) -> None:
    stream, started = scene.listener.connect(), trio.current_time()
    await stream.send_all(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (4 * STEPS_PER_SECOND)
    )
    await stream.send_all(b"0\r\n\r\n")
    await trio.sleep(1)
    before = trio.current_time()
    assert (await scene.client().post(PUBLIC, public_body())).status == 200
    assert trio.current_time() == before
    assert bytes(await stream.receive_some(12)) == b"HTTP/1.1 400"
    assert 2.5 < trio.current_time() - started < 3.5


async def test_new_connections_have_their_pace_after_a_burst(scene: Scene) -> None:
    seconds = []

    async def ask(client: Client) -> None:
        assert (await client.ask("GET", "/version")).status == 200
        seconds.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(SERVED_AT_ONCE + 2 * SERVED_PER_SECOND):
            nursery.start_soon(ask, scene.client())
    at_once = sum(second == 0 for second in seconds)
    assert SERVED_AT_ONCE <= at_once <= SERVED_AT_ONCE + 1
    assert 1.9 < seconds[-1] <= 2

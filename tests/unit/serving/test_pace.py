"""What strangers make the process do has its pace: connections, refusals, pieces of requests. Who pays for an answer is not slowed."""

from __future__ import annotations

import trio
import trio.testing

from kmsconn.model.http_answers import FailureCode, HttpFailure
from kmsconn.serving.clients import FREE_STEPS, STEPS_PER_SECOND, Connections, Pace
from kmsconn.serving.decryptions import ACCEPTED_AT_ONCE, ACCEPTED_PER_SECOND, REFUSED_PER_SECOND
from tests.unit.serving.scene import KEY, Client, FakeDecryptions, Scene, key, public_body, serving

PUBLIC = "/v1/public-decrypt"
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
    streams = [scene.listener.connect() for _ in range(ACCEPTED_AT_ONCE + 2 * ACCEPTED_PER_SECOND)]
    await trio.sleep(1)
    assert ACCEPTED_AT_ONCE < scene.service.statistics().connections < len(streams)
    await trio.sleep(2)
    assert scene.service.statistics().connections == len(streams)

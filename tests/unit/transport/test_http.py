from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from kmsconn.errors import Overloaded, Unreachable
from kmsconn.transport.http import CONNECTIONS, IDLE_SECONDS, HttpClient, open_http, status_error
from kmsconn.transport.http11 import announced
from tests.unit.transport.scripted_http import Asked, Handler, HttpNet, Reply


@asynccontextmanager
async def client_of(handler: Handler) -> AsyncIterator[tuple[HttpClient, HttpNet]]:
    async with trio.open_nursery() as nursery:
        net = HttpNet(nursery, handler)
        async with open_http(net.ports()) as client:
            yield client, net
            assert not client._places
        nursery.cancel_scope.cancel()


async def echo(asked: Asked) -> Reply:
    return Reply(200, asked.body or asked.target.encode(), (("X-Thing", "Yes"),))


async def test_a_post_returns_status_headers_and_body_and_head_all_but_the_body() -> None:
    async with client_of(echo) as (client, _):
        response = await client.post("http://node/rpc", b"question", {"content-type": "text/plain"})
        head = await client.head("http://b/k")
    assert (response.status, response.headers["x-thing"], response.body) == (200, "Yes", b"question")
    assert (head.status, head.headers["x-thing"], head.body) == (200, "Yes", b"")


async def test_query_and_user_info_reach_the_server() -> None:
    seen: list[Asked] = []

    async def note(asked: Asked) -> Reply:
        seen.append(asked)
        return Reply()

    async with client_of(note) as (client, _):
        await client.post("http://user:pass@node:8545/v2?key=1", b"{}")
    assert (seen[0].host, seen[0].target) == ("node:8545", "/v2?key=1")
    assert seen[0].headers["authorization"] == "Basic dXNlcjpwYXNz"


async def test_a_connection_is_used_again_unless_it_was_idle_for_long() -> None:
    async with client_of(echo) as (client, net):
        for _ in range(3):
            await client.post("https://node/", b"1")
            await client.head("https://node/")
        assert net.dialled == [("node", 443, True)]
        await trio.sleep(IDLE_SECONDS + 1)
        await client.post("https://node/", b"1")
        await client.post("http://[::1]:8545/", b"1")
    assert net.dialled[1:] == [("node", 443, True), ("::1", 8545, False)]


async def test_no_more_connections_than_the_limit() -> None:
    async def slow(asked: Asked) -> Reply:
        await trio.sleep(1)
        return Reply()

    async with client_of(slow) as (client, net):
        async with trio.open_nursery() as nursery:
            for _ in range(5 * CONNECTIONS):
                nursery.start_soon(client.post, "http://node/", b"")
        assert net.most_open == CONNECTIONS
    assert trio.current_time() == pytest.approx(5)


async def test_a_server_that_hangs_holds_up_nobody_but_who_asks_it() -> None:
    async def by_host(asked: Asked) -> Reply:
        if asked.host == "hung":
            await trio.sleep_forever()
        return Reply()

    async with client_of(by_host) as (client, _), trio.open_nursery() as nursery:
        for _ in range(5 * CONNECTIONS):
            nursery.start_soon(client.post, "http://hung/", b"")
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(1):
            assert (await client.post("http://node/", b"")).status == 200
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("said", "length"),
    [
        ("12", 12),
        ("0", 0),
        ("007", 7),
        ("9" * 5000, int("9" * 20)),
        ("x", None),
        ("-1", None),
        ("\u00b2", None),
    ],
)
def test_an_announced_length_is_digits_or_nothing(said: str, length: int | None) -> None:
    assert announced({"content-length": said}) == length
    assert announced({}) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
async def test_an_answer_that_is_no_whole_answer_is_unreachable(raw: bytes) -> None:
    async def broken(asked: Asked) -> Reply:
        return Reply(raw=raw)

    async with client_of(broken) as (client, _):
        with pytest.raises(Unreachable, match="http://node"):
            await client.post("http://node/secret", b"")


async def test_nobody_there_is_unreachable_and_names_only_the_origin() -> None:
    async with client_of(echo) as (client, net):
        net.refuse = True
        with pytest.raises(Unreachable, match="http://node:1: ConnectionRefusedError nobody there") as caught:
            await client.post("http://u:pw@node:1/key?token=t", b"")
    assert "key" not in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ws://node/", "http://", "http://a:port/", "rubbish", "http://exa mple/",
        "http://good\\@evil/", "http://evil\\good/", "http://b\u00fccher/", "http://a%2eb/",
    ],
)  # fmt: skip
async def test_a_url_that_is_none_or_can_be_read_in_two_ways_is_unreachable(url: str) -> None:
    """Who judged the host with ``urls.parse`` must have judged the one that is dialled."""
    async with client_of(echo) as (client, net):
        with pytest.raises(Unreachable):
            await client.post(url, b"")
    assert net.dialled == []


async def test_a_post_is_not_redirected() -> None:
    async def redirect(asked: Asked) -> Reply:
        return Reply(307, headers=(("location", "/other"),))

    async with client_of(redirect) as (client, _):
        assert (await client.post("http://node/", b"")).status == 307


async def test_a_download_streams_its_body() -> None:
    async def large(asked: Asked) -> Reply:
        return Reply(200, bytes(300_000))

    async with (
        client_of(large) as (client, _),
        await client.stream_get("http://b/k", max_bytes=300_000) as download,
    ):
        chunks = [chunk async for chunk in download]
    assert (download.status, sum(map(len, chunks))) == (200, 300_000)
    assert len(chunks) > 1


async def test_a_body_announced_too_large_is_refused_before_it_is_read() -> None:
    async def large(asked: Asked) -> Reply:
        return Reply(200, bytes(1001))

    async with client_of(large) as (client, _):
        with pytest.raises(Unreachable, match="larger than 1000 bytes"):
            async with await client.stream_get("http://b/k", max_bytes=1000):
                pytest.fail("must not get here")


async def test_a_body_that_grows_too_large_is_cut_off() -> None:
    async def endless(asked: Asked) -> Reply:
        return Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n" + bytes(200_000))

    async with (
        client_of(endless) as (client, _),
        await client.stream_get("http://b/k", max_bytes=1000) as download,
    ):
        with pytest.raises(Unreachable, match="larger than 1000 bytes"):
            await download.read()


async def test_the_body_of_a_post_has_a_cap_too() -> None:
    async with client_of(echo) as (client, _):
        with pytest.raises(Unreachable, match="larger"):
            await client.post("http://node/", b"12345", max_bytes=4)


async def redirecting(asked: Asked) -> Reply:
    where = {"/far": "http://other/end", "/port": "http://b:81/", "/tls": "https://b/end"}
    return Reply(302, b"moved", (("location", where[asked.target]),))


@pytest.mark.parametrize("path", ["far", "port", "tls"])
async def test_a_redirect_to_another_origin_is_given_as_it_is(path: str) -> None:
    async with (
        client_of(redirecting) as (client, net),
        await client.stream_get(f"http://b/{path}", max_bytes=9) as download,
    ):
        assert (download.status, net.dialled) == (302, [("b", 80, False)])


async def test_an_exception_of_the_reader_comes_out_as_it_is() -> None:
    async with client_of(echo) as (client, _):
        with pytest.raises(KeyError):
            async with await client.stream_get("http://b/k", max_bytes=9):
                raise KeyError


@pytest.mark.parametrize(
    ("status", "kind"),
    [*((status, None) for status in (200, 302, 403, 404)), (429, Overloaded), (503, Overloaded), (500, Unreachable), (502, Unreachable)],
)  # fmt: skip
def test_a_status_is_an_answer_or_an_error(status: int, kind: type[Exception] | None) -> None:
    assert type(status_error(status, "x")) is (kind or type(None))

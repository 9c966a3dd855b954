"""Redirects to other origins: judged, without credentials, three at most."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from kmsconn.ciphertexts.places import BucketPolicy
from kmsconn.errors import Unreachable
from kmsconn.transport.http import IDLE, REDIRECTS, HttpClient, open_http
from tests.unit.transport.scripted_http import Asked, Handler, HttpNet, Reply


class Net(HttpNet):
    """Notes what was asked."""

    def __init__(self, nursery: trio.Nursery, handler: Handler) -> None:
        self.asked: list[Asked] = []

        async def noting(asked: Asked) -> Reply:
            self.asked.append(asked)
            return await handler(asked)

        super().__init__(nursery, noting)


@asynccontextmanager
async def client_of(handler: Handler, policy: BucketPolicy) -> AsyncIterator[tuple[HttpClient, Net]]:
    async with trio.open_nursery() as nursery:
        net = Net(nursery, handler)
        async with open_http(net.ports(), judge=policy.check) as client:
            yield client, net
        nursery.cancel_scope.cancel()


def leading(**to: str) -> Handler:
    """Redirect each host's requests to a URL; the others answer with their name."""

    async def handle(asked: Asked) -> Reply:
        where = to.get(asked.host.partition(".")[0])
        return Reply(200, asked.host.encode()) if where is None else Reply(307, b"", (("location", where),))

    return handle


async def get(client: HttpClient, url: str, **headers: str) -> bytes:
    async with client.stream_get(url, max_bytes=99, headers=headers) as download:
        assert download.status == 200
        return await download.read()


async def test_a_redirect_to_an_allowed_origin_is_followed() -> None:
    async with client_of(leading(a="https://b.example:8443/k?v=1"), BucketPolicy()) as (client, net):
        assert await get(client, "https://a.example/k") == b"b.example:8443"
        assert (await client.head("https://a.example/k")).status == 200
    assert [one.target for one in net.asked] == ["/k", "/k?v=1"] * 2
    assert net.dialled == [("a.example", 443, True), ("b.example", 8443, True)]


@pytest.mark.parametrize(
    "target",
    ["http://b.example/k", "https://10.0.0.1/k", "https://169.254.169.254/", "https://localhost/", "https://[::1]/k",
     "https://[64:ff9b::7f00:1]/", "https://2130706433/"],
)  # fmt: skip
async def test_a_redirect_that_the_policy_forbids_is_not_followed(target: str) -> None:
    async with client_of(leading(a=target), BucketPolicy()) as (client, net):
        with pytest.raises(Unreachable, match=r"a\.example/k redirects to a forbidden address"):
            await get(client, "https://a.example/k")
    assert net.dialled == [("a.example", 443, True)]


async def test_what_the_operator_allows_is_followed() -> None:
    policy = BucketPolicy(allow_http=True, allow_private=True)
    async with client_of(leading(a="http://10.0.0.1/k"), policy) as (client, _):
        assert await get(client, "https://a.example/k") == b"10.0.0.1"


async def test_credentials_stay_with_the_origin_that_they_are_for() -> None:
    async with client_of(leading(a="https://u:p@b.example/k"), BucketPolicy()) as (client, net):
        await get(client, "https://me:secret@a.example/k", cookie="c")
    first, second = net.asked
    assert {"authorization", "cookie"} <= first.headers.keys()
    assert {"authorization", "cookie"} & second.headers.keys() == set()


@pytest.mark.parametrize("hops", [REDIRECTS, REDIRECTS + 1])
async def test_three_redirects_are_followed_and_no_fourth(hops: int) -> None:
    steps = {f"h{number}": f"https://h{number + 1}.example/" for number in range(hops)}
    async with client_of(leading(**steps), BucketPolicy()) as (client, net):
        if hops == REDIRECTS:
            assert await get(client, "https://h0.example/") == b"h3.example"
        else:
            with pytest.raises(Unreachable, match="more than 3 redirects"):
                await get(client, "https://h0.example/")
    assert len(net.asked) == REDIRECTS + 1


@pytest.mark.parametrize("place", ["http://[", "ftp://b.example/k", "file:///etc/passwd", ""])
async def test_a_redirect_to_no_url_of_ours_is_given_as_it_is(place: str) -> None:
    async def nowhere(_: Asked) -> Reply:
        return Reply(307, b"", (("location", place),))

    async with client_of(nowhere, BucketPolicy()) as (client, _):
        assert (await client.head("https://a.example/k")).status == 307


async def test_ever_new_origins_leave_few_connections_and_no_memory() -> None:
    """A bucket that redirects each request elsewhere must not hold a descriptor for each."""
    hops = iter(range(1000))

    async def elsewhere(asked: Asked) -> Reply:
        if asked.host == "a.example":
            return Reply(307, b"", (("location", f"https://x{next(hops)}.example/"),))
        return Reply(200, b"here")

    async with client_of(elsewhere, BucketPolicy()) as (client, net):
        for _ in range(3 * IDLE):
            await get(client, "https://a.example/k")
        assert net.open <= IDLE + 2
        assert len(client._places) == 0


async def test_a_connection_that_nobody_needs_any_more_is_closed() -> None:
    async with client_of(leading(a="https://b.example/"), BucketPolicy()) as (client, net):
        await get(client, "https://a.example/k")
        await trio.sleep(60)
        await get(client, "https://c.example/k")
        await trio.testing.wait_all_tasks_blocked()
        assert net.open == 1

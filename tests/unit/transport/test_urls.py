"""Public and private addresses, alike on every Python."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import trio

from kmsconn.ciphertexts.places import BucketPolicy
from kmsconn.errors import Unreachable
from kmsconn.transport.http import IDLE, REDIRECTS, HttpClient, open_http
from kmsconn.transport.urls import hide_urls, is_private_host, is_public_address, parse, show, show_origin
from tests.unit.transport.scripted_http import Asked, Handler, HttpNet, Reply

SECRET = "https://user:pa%20ss@Node.Example:8443/v2/key?token=hidden#frag"


def test_a_url_is_taken_apart() -> None:
    url = parse(SECRET)
    assert (url.scheme, url.host, url.port, url.path) == ("https", "node.example", 8443, "/v2/key")
    assert (url.target, parse("ws://node").target) == ("/v2/key?token=hidden", "/")
    assert (url.authorization, parse("http://a").authorization) == ("Basic dXNlcjpwYSBzcw==", None)


@pytest.mark.parametrize(
    ("url", "host", "authority"),
    [
        ("http://[::1]:8545/", "::1", "[::1]:8545"),
        ("https://a:443/x", "a", "a"),
        ("https://a:80/x", "a", "a:80"),
    ],
)
def test_the_authority_has_brackets_and_leaves_the_schemes_own_port_out(
    url: str, host: str, authority: str
) -> None:
    assert (parse(url).host, parse(url).authority) == (host, authority)


@pytest.mark.parametrize("before", ["https://a", "http://u:p@[::1]:80"])
@pytest.mark.parametrize(
    "rest",
    ["", "/", "//", "/a//b?c//d", "?q", "#f", "?q#f?g", "#f?q/r", "/a?b?c#d#e", "/a:b@c/%20", "?a=http://b"],
)
def test_path_and_query_are_those_of_the_standard_library(before: str, rest: str) -> None:
    parts = urlsplit(before + rest)
    assert (parse(before + rest).path, parse(before + rest).query) == (parts.path or "/", parts.query)


@pytest.mark.parametrize(
    ("url", "port", "tls"),
    [("http://a", 80, False), ("https://a", 443, True), ("ws://a", 80, False), ("wss://a", 443, True)],
)
def test_a_scheme_implies_port_and_tls(url: str, port: int, tls: bool) -> None:
    assert (port, tls) == (parse(url).port, parse(url).tls)


@pytest.mark.parametrize("text", [SECRET, "https://tok:hidden@h/?token=hidden"])
def test_nothing_secret_is_shown_or_in_the_repr(text: str) -> None:
    for shown in (show(text), show_origin(text), repr(parse(text))):
        assert "hidden" not in shown
        assert "user" not in shown.replace("user_info", "")


def test_show_keeps_the_path_and_show_origin_does_not() -> None:
    assert (show(SECRET), show_origin(SECRET)) == (
        "https://node.example:8443/v2/key",
        "https://node.example:8443",
    )


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a",
        "ftp://a",
        "http://",
        "http://a:port",
        "http://a:99999",
        "http://[::1",
        "http://a b",
        "http://a\n",
        "http://a\\@b",
        "http://b\u00fccher/",
        "http://a%2eb",
    ],
)
def test_a_malformed_url_is_refused_without_being_repeated(bad: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        parse(bad)
    assert bad in {"", "a"} or bad not in str(caught.value)


@pytest.mark.parametrize("bad", ["", "user:secret@", "http://user:secret@:x/"])
def test_showing_a_malformed_url_never_raises_and_shows_nothing_of_it(bad: str) -> None:
    assert show(bad) == show_origin(bad) == "<malformed URL>"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://hunter2:hunter2@db:5433/k?sslmode=require", "postgresql://db:5433/k"),
        ("postgres://db/k", "postgresql://db/k"),
        ("postgresql://hunter2@a:5433,b:5434/k", "postgresql://a:5433,b:5434/k"),
        ("postgresql:///k?host=/run/pg&password=hunter2", "postgresql:///k"),
        ("postgresql://hunter2:hunter2@[::1]:5433/k#hunter2", "postgresql://[::1]:5433/k"),
    ],
)
def test_of_a_database_servers_and_name_are_shown(url: str, shown: str) -> None:
    assert show(url) == shown
    assert hide_urls(f"cannot open {url}: refused") == f"cannot open {shown}: refused"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hun/ter2@db/k",
        "postgresql://u:hun?ter2@db/k",
        "postgresql://u:12#ter2@db/k",
        "postgresql://u:hunter2",
    ],
)
def test_of_a_malformed_address_of_a_database_nothing_is_shown(url: str) -> None:
    """A character of the password that was not escaped ends the address before it."""
    assert show(url) == "<malformed URL>"


PRIVATE = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.9.9.9 168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1
192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::7f00:1 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 2001::1 2001:10::1
2001:db8::1 2002:7f00:1:: 2002:808:808::1 3fff::1 5f00::1 fc00::1 fd00::1 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1
""".split()
PUBLIC = """
1.1.1.1 8.8.8.8 52.216.0.1 100.63.255.255 100.128.0.1 168.63.129.15 168.63.129.17 172.15.0.1 172.32.0.1 192.0.1.1 198.17.0.1 198.20.0.1
223.255.255.255 2606:4700::1111 2a00:1450:4001:82a::200e 2001:4860:4860::8888 2400:cb00::1 3ffe::1
""".split()


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_of_the_public_internet_is_private(address: str) -> None:
    assert not is_public_address(address)
    assert is_private_host(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_of_the_public_internet_is_not(address: str) -> None:
    assert is_public_address(address)
    assert not is_private_host(address)


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "LOCALHOST", "localhost.", "a.localhost", "printer.local", "metadata.internal", "metadata.internal.",
     "minio", "a.localdomain", "nas.home.arpa", "svc.cluster.local",
     "127.1", "127.0.0.1.", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "10.0.0.256", "bucket.0x"],
)  # fmt: skip
def test_names_that_lead_nowhere_outside_and_addresses_in_disguise_are_private(host: str) -> None:
    assert is_private_host(host)
    assert not is_public_address(host)


@pytest.mark.parametrize(
    "host", ["bucket.example", "bucket.example.", "a1.b2", "s3.eu-west-1.amazonaws.com", "0x7f.example"]
)
def test_a_public_name_is_not_judged_before_it_is_resolved(host: str) -> None:
    assert not is_private_host(host)


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
    async with await client.stream_get(url, max_bytes=99, headers=headers) as download:
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
async def test_a_redirect_that_the_policy_forbids_is_followed_only_if_the_operator_allows_it(
    target: str,
) -> None:
    async with client_of(leading(a=target), BucketPolicy()) as (client, net):
        with pytest.raises(Unreachable, match=r"a\.example/k redirects to a forbidden address"):
            await get(client, "https://a.example/k")
    assert net.dialled == [("a.example", 443, True)]
    policy = BucketPolicy(allow_http=True, allow_private=True)
    async with client_of(leading(a=target), policy) as (client, net):
        assert await get(client, "https://a.example/k")
    assert len(net.dialled) == 2


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

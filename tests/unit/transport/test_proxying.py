"""Tunnels and forwarded requests through a proxy in memory, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from kmsconn.errors import Unreachable
from kmsconn.testing.endings import cancel_everywhere
from kmsconn.transport.dialling import ProxyRefused, Way, way_of
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports
from kmsconn.transport.proxies import NO_PROXIES, Proxies, ProxyFault, proxies_of
from tests.unit.transport.memory_proxy import BOTH, CREDENTIALS, ProxiedNet
from tests.unit.transport.scripted_http import Asked, Reply


async def echo(asked: Asked) -> Reply:
    """Say what came, and whether any credentials came with it."""
    authorized = any("authorization" in name for name in asked.headers)
    return Reply(200, f"{asked.method} {asked.target} {authorized}".encode())


@asynccontextmanager
async def proxied(said: bytes | None = None) -> AsyncIterator[ProxiedNet]:
    async with trio.open_nursery() as nursery:
        net = ProxiedNet(nursery, echo)
        if said is not None:
            net.said = said
        yield net
        nursery.cancel_scope.cancel()


async def test_tls_goes_through_a_tunnel_with_the_peers_own_name() -> None:
    async with proxied() as net, open_http(net.ports()) as client:
        assert (await client.post("https://node.example/v2?key=1", b"")).body == b"POST /v2?key=1 False"
    assert net.events == [
        "dial proxy.example:3128",
        "CONNECT node.example:443 HTTP/1.1",
        "TLS with node.example",
    ]
    assert f"Proxy-Authorization: {CREDENTIALS}\r\n" in net.heads[0]
    assert "Host: node.example:443\r\n" in net.heads[0]


async def test_a_plain_request_is_forwarded_in_absolute_form() -> None:
    async with proxied() as net, open_http(net.ports()) as client:
        for _ in range(2):
            await client.post("http://u:p@node.example:8545/v2", b"")
    assert net.events == ["dial proxy.example:3128", "POST http://node.example:8545/v2 HTTP/1.1"]
    head = net.heads[0]
    assert f"Proxy-Authorization: {CREDENTIALS}\r\n" in head
    assert "Authorization: Basic dTpw\r\n" in head
    assert "Host: node.example:8545\r\n" in head


async def test_a_plain_stream_as_of_a_websocket_goes_through_a_tunnel() -> None:
    async with proxied() as net:
        await trio.aclose_forcefully(await way_of(net.ports())("node.example", 8546))
        await trio.aclose_forcefully(await way_of(net.ports())("2606:4700::1111", 443, tls=True))
    asked = [event for event in net.events if event.startswith("CONNECT")]
    assert asked == ["CONNECT node.example:8546 HTTP/1.1", "CONNECT [2606:4700::1111]:443 HTTP/1.1"]


async def test_what_is_exempt_is_reached_straight() -> None:
    proxies = proxies_of({**BOTH, "NO_PROXY": "node.example"})
    async with proxied() as net, open_http(net.ports(proxies)) as client:
        await client.post("https://node.example/", b"")
        await client.post("http://node.example/", b"")
    assert net.events == ["dial node.example:443 with TLS", "dial node.example:80"]


async def test_the_straight_way_is_judged_and_the_proxy_is_not() -> None:
    """A proxy mostly has a private address; a bucket must not."""

    async def nowhere(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError("not allowed")

    async with proxied() as net, open_http(net.ports(), way=Way(net.ports(), nowhere)) as client:
        assert (await client.head("https://b.example/k")).status == 200
        with pytest.raises(Unreachable, match="not allowed"):
            await client.head("https://127.0.0.1/k")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "HTTP 407"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n<html>", "HTTP 502"),
        (b"HTTP/1.1 200 OK\r\n\r\nearly", "sent data into the tunnel"),
        (b"SSH-2.0-OpenSSH_9\r\n", "no HTTP/1"),
        (b"", "opened no tunnel"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "more than 256 lines"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 40_000 + b"\r\n\r\n", "larger than"),
    ],
)
async def test_a_proxy_that_makes_no_tunnel_is_named_without_its_password(said: bytes, words: str) -> None:
    async with proxied(said) as net:
        with pytest.raises(ProxyRefused) as refused:
            await way_of(net.ports())("node.example", 443, tls=True)
    assert words in str(refused.value)
    assert "http://proxy.example:3128" in str(refused.value)
    assert "hunter2" not in str(refused.value)


async def test_a_tunnel_may_have_a_length_that_means_nothing() -> None:
    async with proxied(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n") as net:
        await trio.aclose_forcefully(await way_of(net.ports())("node.example", 443, tls=True))


async def test_a_proxy_that_is_not_there_is_named() -> None:
    async def refuse(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError("nobody there")

    async with proxied() as net:
        ports = net.ports()
        with pytest.raises(OSError, match=r"the proxy http://proxy\.example:3128 cannot be reached"):
            await way_of(Ports(refuse, ports.offload, ports.wall, ports.random, ports.secure, ports.proxies))(
                "node.example", 443, tls=True
            )


async def test_a_silent_proxy_takes_no_longer_than_a_connection_may() -> None:
    async with proxied(b"HTTP/1.1 200 OK\r\n") as net:
        with pytest.raises(OSError, match=r"no connection with b\.example:443 within 3 s"):
            await Way(net.ports(), net, 3.0)("b.example", 443, tls=True)


@pytest.mark.slow
async def test_cancelling_anywhere_leaves_nothing_open() -> None:
    async with proxied() as net:

        async def connect() -> None:
            await trio.aclose_forcefully(await way_of(net.ports())("node.example", 443, tls=True))

        async def look() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert len(net.nursery.child_tasks) == 0  # every server has seen its client leave

        assert await cancel_everywhere(connect, look) > 2


PROXY = "http://proxy.example:3128"


def through(proxies: Proxies, host: str, port: int = 443, *, tls: bool = True) -> str | None:
    proxy = proxies.of(host, port, tls=tls)
    return None if proxy is None else proxy.shown


def test_an_empty_environment_names_none() -> None:
    assert proxies_of({}) == NO_PROXIES
    assert NO_PROXIES.shown == ""


@pytest.mark.parametrize(
    ("name", "tls", "plain"),
    [
        *((name, PROXY, None) for name in ("HTTPS_PROXY", "https_proxy")),
        *((name, None, PROXY) for name in ("HTTP_PROXY", "http_proxy")),
        *((name, PROXY, PROXY) for name in ("ALL_PROXY", "all_proxy")),
    ],
)
def test_each_counts_for_its_own_kind(name: str, tls: str | None, plain: str | None) -> None:
    proxies = proxies_of({name: PROXY})
    assert through(proxies, "node.example") == tls
    assert through(proxies, "node.example", 80, tls=False) == plain


def test_lower_case_wins_and_an_empty_one_means_none() -> None:
    assert through(proxies_of({"HTTPS_PROXY": "http://other:1", "https_proxy": PROXY}), "n.example") == PROXY
    assert through(proxies_of({"HTTPS_PROXY": PROXY, "https_proxy": ""}), "n.example") is None
    assert through(proxies_of({"ALL_PROXY": PROXY, "HTTPS_PROXY": " "}), "n.example") is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("proxy:3128", "http://proxy:3128"),
        ("https://proxy", "https://proxy"),
        ("http://[fd00::1]:8080/", "http://[fd00::1]:8080"),
    ],
)
def test_forms_of_a_proxy(text: str, shown: str) -> None:
    assert through(proxies_of({"HTTPS_PROXY": text}), "n.example") == shown


@pytest.mark.parametrize(
    "text", ["socks5://proxy:1080", "http://", "http://pro xy", "http://proxy:port", "wss://p"]
)
def test_what_names_no_proxy_is_a_fault_without_its_value(text: str) -> None:
    with pytest.raises(ProxyFault) as fault:
        proxies_of({"https_proxy": text.replace("://", "://user:hunter2@")})
    assert fault.value.variable == "https_proxy"
    assert "hunter2" not in str(fault.value)


def test_name_and_password_are_sent_and_shown_nowhere() -> None:
    proxies = proxies_of({"HTTPS_PROXY": "http://user:hunter%32@proxy:3128"})
    proxy = proxies.of("n.example", 443, tls=True)
    assert proxy is not None
    assert proxy.headers == {"Proxy-Authorization": "Basic dXNlcjpodW50ZXIy"}
    assert proxy.address == "http://user:hunter%32@proxy:3128"
    for said in (repr(proxies), str(proxies), proxies.shown, proxy.shown, repr(proxy)):
        assert "hunter" not in said
        assert "dXNlcjpodW50ZXIy" not in said


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "straight"),
    [
        ("*", "node.example", 443, True),
        ("node.example", "node.example", 443, True),
        ("node.example", "NODE.example.", 443, True),
        ("node.example", "a.node.example", 443, True),
        ("node.example", "othernode.example", 443, False),
        (".example", "node.example", 443, True),
        (".node.example", "node.example", 443, True),
        ("*.example", "node.example", 443, True),
        ("node.example:8545", "node.example", 8545, True),
        ("node.example:8545", "node.example", 443, False),
        ("other, node.example", "node.example", 443, True),
        ("other node.example", "node.example", 443, True),
        ("10.0.0.1", "10.0.0.1", 443, True),
        ("10.0.0.1", "10.0.0.10", 443, False),
        ("10.0.0.1:8545", "10.0.0.1", 8545, True),
        ("10.0.0.1:8545", "10.0.0.1", 443, False),
        ("10.0.0.0/8", "10.7.0.1", 443, True),
        ("10.0.0.0/8", "11.0.0.1", 443, False),
        ("10.0.0.0/8", "node10.example", 443, False),
        ("10.0.0.5/8", "10.7.0.1", 443, True),
        ("fd00::/8", "fd12::1", 443, True),
        ("fd00::1", "fd00:0::1", 443, True),
        ("[fd00::1]", "fd00::1", 443, True),
        ("[fd00::1]:8545", "fd00::1", 8545, True),
        ("[fd00::1]:8545", "fd00::1", 443, False),
        ("", "node.example", 443, False),
        (",", "node.example", 443, False),
        (".", "node.example", 443, False),
        ("", "localhost", 443, True),
        ("", "127.0.0.1", 443, True),
        ("", "::1", 443, True),
    ],
)
def test_what_goes_without_a_proxy(no_proxy: str, host: str, port: int, straight: bool) -> None:
    proxies = proxies_of({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert (through(proxies, host, port) is None) is straight


def test_how_a_log_has_them() -> None:
    proxies = proxies_of({"HTTPS_PROXY": "http://u:p@proxy:3128", "NO_PROXY": ".local, 10.0.0.0/8"})
    assert proxies.shown == "https through http://proxy:3128, except .local,10.0.0.0/8"

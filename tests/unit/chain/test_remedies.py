"""What an alert of a chain tells to do, by what answers at its URL in place of a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.endpoint import open_endpoint
from kmsconn.chain.remedies import REMEDIES, node_remedy
from kmsconn.config.parties import Chain
from kmsconn.emulator.grpc_server import serve_grpc
from kmsconn.errors import Unreachable
from kmsconn.model.events import AlertRaised, Event
from kmsconn.transport.http import open_http
from kmsconn.transport.wrong_peers import WrongPeer
from tests.unit.chain.scripted_node import CHAIN_ID, ports_of
from tests.unit.transport.tls_peers import (
    TLS_ALERT,
    PeerDial,
    Serve,
    asks_for_certificate,
    is_silent,
    says,
    with_tls,
    write_certificate,
)


def answer(status: str, body: str, kind: str = "text/html") -> Serve:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return says((head + body).encode())


@attrs.frozen
class Met:
    """Who is met at the address; whether clients trust its certificate."""

    serve: Serve | None
    trusted: Path | None = None


def plain(serve: Serve | None) -> Callable[[Path], Met]:
    return lambda _folder: Met(serve)


def secured(*, trusted: bool = True, **certificate: Any) -> Callable[[Path], Met]:
    def make(folder: Path) -> Met:
        pem = write_certificate(folder, **certificate)
        return Met(with_tls(says(b""), pem), pem if trusted else None)

    return make


def asks_clients(folder: Path) -> Met:
    pem = write_certificate(folder)
    return Met(asks_for_certificate(pem), pem)


async def core(stream: trio.abc.Stream) -> None:
    await serve_grpc(stream, {})


PAGE = answer("200 OK", "<html>")
BAD_REQUEST = answer("400 Bad Request", "bad")
BY_NGINX = answer("400 Bad Request", "The plain HTTP request was sent to HTTPS port")
RUNS = "check that the node runs"

CASES: Mapping[str, tuple[str, Callable[[Path], Met], str]] = {
    "https at a plain port": (
        "https://peer",
        plain(BAD_REQUEST),
        "no TLS is spoken there: write http:// in place of https:// in gateway_url, or name its port of TLS",
    ),
    "wss at a plain port": (
        "wss://peer",
        plain(BAD_REQUEST),
        "no TLS is spoken there: write ws:// in place of wss:// in gateway_url, or name its port of TLS",
    ),
    "http at a port of TLS": (
        "http://peer",
        plain(says(TLS_ALERT)),
        "TLS is spoken there: write https:// in place of http:// in gateway_url",
    ),
    "http at a port of TLS that says so by a page": (
        "http://peer",
        plain(BY_NGINX),
        "TLS is spoken there: write https:// in place of http:// in gateway_url",
    ),
    "ws at a port of TLS": (
        "ws://peer",
        plain(says(TLS_ALERT)),
        "TLS is spoken there: write wss:// in place of ws:// in gateway_url",
    ),
    "an expired certificate": (
        "https://peer",
        secured(begins=-30, ends=-1),
        (
            "its certificate has expired: check this machine's clock; "
            "its operator must renew it, or name another URL in gateway_url"
        ),
    ),
    "a certificate that is not valid yet": (
        "https://peer",
        secured(begins=10),
        "its certificate is not valid yet: check this machine's clock, or name another URL in gateway_url",
    ),
    "a certificate of an authority that is not known": (
        "wss://peer",
        secured(trusted=False),
        (
            "its certificate is of an authority that is not trusted here: "
            "let SSL_CERT_FILE name a PEM file with its authority, or name another URL in gateway_url"
        ),
    ),
    "a certificate of another host": (
        "https://peer",
        secured(host="other"),
        "its certificate is for another host: name it in gateway_url by a host that its certificate has",
    ),
    "a client's certificate asked for": (
        "https://peer",
        asks_clients,
        (
            "it asks for a client's certificate, or takes none that was shown: "
            "kmsconn shows none to nodes: name a URL in gateway_url that asks for none, such as that of a proxy of your own"
        ),
    ),
    "a client's certificate asked for by a websocket": (
        "wss://peer",
        asks_clients,
        (
            "it asks for a client's certificate, or takes none that was shown: "
            "kmsconn shows none to nodes: name a URL in gateway_url that asks for none, such as that of a proxy of your own"
        ),
    ),
    "TLS that is ended": (
        "https://peer",
        plain(says(b"")),
        (
            "it ends the connection within TLS: it may speak no TLS, or ask for a client's certificate, of which kmsconn "
            "shows none to nodes: check port and scheme in gateway_url"
        ),
    ),
    "the port of a Core": (
        "http://peer",
        plain(core),
        (
            "HTTP/2 is spoken there, as gRPC has it: a Core's port may be meant by kms_core_endpoints; "
            "name the port of the node's JSON-RPC in gateway_url"
        ),
    ),
    "the port of a Core by websocket": (
        "ws://peer",
        plain(core),
        (
            "HTTP/2 is spoken there, as gRPC has it: a Core's port may be meant by kms_core_endpoints; "
            "name the port of the node's JSON-RPC in gateway_url"
        ),
    ),
    "another protocol": (
        "http://peer",
        plain(says(b"SSH-2.0-OpenSSH_9.6\r\n")),
        "another protocol is spoken there: name the port of the node's JSON-RPC in gateway_url",
    ),
    "another protocol by websocket": (
        "ws://peer",
        plain(says(b"SSH-2.0-OpenSSH_9.6\r\n")),
        "another protocol is spoken there: name the port of the node's JSON-RPC in gateway_url",
    ),
    "a page": (
        "http://peer",
        plain(PAGE),
        (
            "a page answers there, as those of web servers and proxies: "
            "name the node's JSON-RPC itself in gateway_url, with its path and key"
        ),
    ),
    "JSON of another API": (
        "http://peer",
        plain(answer("200 OK", "[]", "application/json")),
        (
            "a page answers there, as those of web servers and proxies: "
            "name the node's JSON-RPC itself in gateway_url, with its path and key"
        ),
    ),
    "ws at a port of http": (
        "ws://peer",
        plain(BAD_REQUEST),
        (
            "it answers HTTP, and opens no websocket: write http:// in place of ws:// in gateway_url, "
            "or name the port of the node's websocket"
        ),
    ),
    "ws at a page": (
        "ws://peer",
        plain(PAGE),
        (
            "it answers HTTP, and opens no websocket: write http:// in place of ws:// in gateway_url, "
            "or name the port of the node's websocket"
        ),
    ),
    "http at a port of websockets": (
        "http://peer",
        plain(answer("426 Upgrade Required", "")),
        "it takes no JSON-RPC by POST: check the path in gateway_url, or write ws:// if it is the port of a websocket",
    ),
    "a proxy with nothing behind it": (
        "http://peer",
        plain(answer("502 Bad Gateway", "<html>")),
        (
            "a proxy answers there, and reaches nothing behind it: check that the node behind it runs, "
            "or name the node itself in gateway_url"
        ),
    ),
    "a proxy with nothing behind it, by websocket": (
        "ws://peer",
        plain(answer("504 Gateway Timeout", "<html>")),
        (
            "a proxy answers there, and reaches nothing behind it: check that the node behind it runs, "
            "or name the node itself in gateway_url"
        ),
    ),
    "a web server without POST": (
        "http://peer",
        plain(answer("501 Not Implemented", "<html>")),
        "it takes no JSON-RPC by POST: check the path in gateway_url, or write ws:// if it is the port of a websocket",
    ),
    "a wrong key": (
        "http://peer",
        plain(answer("401 Unauthorized", "who?")),
        "it refuses the key or the password: check the key or the password in gateway_url",
    ),
    "a wrong key of a websocket": (
        "ws://peer",
        plain(answer("403 Forbidden", "who?")),
        "it refuses the key or the password: check the key or the password in gateway_url",
    ),
    "a wrong path": (
        "http://peer",
        plain(answer("404 Not Found", "?")),
        "it knows no such path: check the path in gateway_url",
    ),
    "one that hangs up": (
        "http://peer",
        plain(says(b"")),
        f"it ends the connection without an answer: {RUNS}, and port and scheme in gateway_url: https:// may be meant",
    ),
    "a websocket that hangs up": (
        "ws://peer",
        plain(says(b"")),
        f"it ends the connection without an answer: {RUNS}, and port and scheme in gateway_url: wss:// may be meant",
    ),
    "one that hangs up behind TLS": (
        "https://peer",
        secured(),
        (
            f"it ends the connection without an answer: {RUNS}, and port and scheme in gateway_url: "
            "it may ask for a client's certificate, of which kmsconn shows none to nodes"
        ),
    ),
    "one that is silent": (
        "http://peer",
        plain(is_silent),
        f"nothing answers there in time: {RUNS}, firewalls on the way, and host, port and scheme in gateway_url",
    ),
    "nobody": (
        "http://peer",
        plain(None),
        f"there is no connection with it: {RUNS}, and host and port in gateway_url",
    ),
}


async def alert_of(met: Met, url: str) -> AlertRaised:
    """Return the alert of a chain whose only URL leads to what is met."""
    events = list[Event]()
    chain = Chain(CHAIN_ID, (url,), "gateway_url")
    async with trio.open_nursery() as nursery:
        ports = ports_of(PeerDial(nursery, met.serve, met.trusted))
        async with (
            open_http(ports) as http,
            open_endpoint(chain, "gateway", ports, http, events.append) as endpoint,
        ):
            with pytest.raises(Unreachable):
                await endpoint.probe()
            await trio.sleep(15)
        nursery.cancel_scope.cancel()
    alert = events[0]
    assert isinstance(alert, AlertRaised)
    return alert


@pytest.mark.parametrize(("url", "make", "remedy"), CASES.values(), ids=CASES)
async def test_the_alert_says_what_was_found_and_names_the_option(
    tmp_path: Path, url: str, make: Callable[[Path], Met], remedy: str
) -> None:
    alert = await alert_of(make(tmp_path), url)
    assert alert.remedy.removesuffix("; requests wait and none is lost") == remedy, alert.text


def test_of_words_that_tell_nothing_the_option_is_named_all_the_same() -> None:
    assert node_remedy("the node says ho", "ws://a", "gateway_url") == (
        "check that the node runs and that gateway_url has its address"
    )


def test_a_proxy_on_the_way_is_not_taken_for_the_node() -> None:
    said = "http://a: ProxyRefused the proxy http://p:3128 opened no tunnel to a:443: HTTP 403"
    assert "HTTPS_PROXY" in node_remedy(said, "https://a", "gateway_url")


def test_each_thing_that_can_be_found_has_a_remedy() -> None:
    """But HTTP/1, which nodes speak."""
    assert set(WrongPeer) - set(REMEDIES) == {WrongPeer.HTTP1}
